package awskms_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/internal/emulator/awskms"
)

func TestMain(m *testing.M) {
	// After a request that is too large net/http lingers for half a second, Close or not.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

func start(t *testing.T) *awskms.Server {
	t.Helper()
	s, err := awskms.Start(awskms.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func create(t *testing.T, s *awskms.Server, spec awskms.KeySpec) *awskms.Key {
	t.Helper()
	k, err := s.CreateKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// clientOf returns a client of the default identity; change alters its options.
func clientOf(t *testing.T, s *awskms.Server, change func(*kms.Options)) *kms.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o := kms.Options{
		BaseEndpoint: aws.String(s.URL()), Region: awskms.DefaultRegion, Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(awskms.DefaultAccessKeyID, awskms.DefaultSecretAccessKey, ""),
	}
	if change != nil {
		change(&o)
	}
	return kms.New(o)
}

// wantCode checks the error code of an SDK's error.
func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func encrypt(t *testing.T, c *kms.Client, key string, plaintext []byte, ec map[string]string) []byte {
	t.Helper()
	out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: plaintext, EncryptionContext: ec})
	if err != nil {
		t.Fatalf("Encrypt: %v", err)
	}
	return out.CiphertextBlob
}

func TestEncryptDecrypt(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key, other := create(t, s, awskms.KeySpec{}), create(t, s, awskms.KeySpec{})
	ec := map[string]string{"namespace": "n"}
	plain := bytes.Repeat([]byte("p"), 4096)
	blob := encrypt(t, c, key.ID(), plain, ec)
	out, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: ec})
	if err != nil || !bytes.Equal(out.Plaintext, plain) || *out.KeyId != key.ARN() || len(*out.KeyMaterialId) != 64 {
		t.Fatalf("Decrypt without a key: %v", err)
	}
	if n := len(encrypt(t, c, key.ARN(), plain[:32], nil)); n != 184 {
		t.Errorf("32 bytes gave %d, want 184", n)
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if _, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: bad, EncryptionContext: ec}); err == nil {
			t.Fatalf("byte %d altered: decrypted", i)
		}
		if i == 200 {
			break // header, filler, nonce and some ciphertext
		}
	}
	for _, tc := range []struct {
		name string
		in   *kms.DecryptInput
		code string
	}{
		{"other context", &kms.DecryptInput{CiphertextBlob: blob}, "InvalidCiphertextException"},
		{"other key", &kms.DecryptInput{KeyId: aws.String(other.ARN()), CiphertextBlob: blob, EncryptionContext: ec}, "IncorrectKeyException"},
		{"foreign bytes", &kms.DecryptInput{CiphertextBlob: plain}, "InvalidCiphertextException"},
		{"foreign bytes for a key", &kms.DecryptInput{KeyId: aws.String(key.ID()), CiphertextBlob: plain}, "InvalidCiphertextException"},
		{"too long", &kms.DecryptInput{CiphertextBlob: make([]byte, 6145)}, "ValidationException"},
		{"no such key", &kms.DecryptInput{KeyId: aws.String("alias/none"), CiphertextBlob: blob}, "NotFoundException"},
		{"ARN of another Region", &kms.DecryptInput{KeyId: aws.String(strings.Replace(key.ARN(), "eu-west-1", "us-east-1", 1)), CiphertextBlob: blob}, "NotFoundException"},
		{"another algorithm", &kms.DecryptInput{KeyId: aws.String(key.ID()), CiphertextBlob: blob, EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256}, "InvalidKeyUsageException"},
		{"dry run", &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: ec, DryRun: aws.Bool(true)}, "DryRunOperationException"},
	} {
		_, err := c.Decrypt(t.Context(), tc.in)
		wantCode(t, tc.name, err, tc.code)
	}
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: make([]byte, 4097)})
	wantCode(t, "long plaintext", err, "ValidationException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: []byte("x"), DryRun: aws.Bool(true)})
	wantCode(t, "dry run", err, "DryRunOperationException")
	for _, spec := range []awskms.KeySpec{{Spec: awskms.SpecRSA2048}, {Spec: awskms.SpecHMAC256}, {Usage: "SIGN_VERIFY"}} {
		_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(create(t, s, spec).ID()), Plaintext: []byte("x")})
		wantCode(t, "unfit key", err, "InvalidKeyUsageException")
	}

	moved, err := c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: ec, DestinationKeyId: aws.String(other.ID())})
	if err != nil || *moved.SourceKeyId != key.ARN() || *moved.KeyId != other.ARN() {
		t.Fatalf("ReEncrypt: %v", err)
	}
	out, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: moved.CiphertextBlob})
	if err != nil || !bytes.Equal(out.Plaintext, plain) || *out.KeyId != other.ARN() {
		t.Errorf("Decrypt after ReEncrypt: %v", err)
	}
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: aws.String(other.ID())})
	wantCode(t, "ReEncrypt with another context", err, "InvalidCiphertextException")
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: ec, DestinationKeyId: aws.String("alias/none")})
	wantCode(t, "ReEncrypt to nothing", err, "NotFoundException")
}

// The life of a key, by the real client.
func TestLifecycle(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key := create(t, s, awskms.KeySpec{})
	id := aws.String(key.ID())
	blob := encrypt(t, c, key.ID(), []byte("x"), nil)
	state := func() types.KeyState {
		t.Helper()
		out, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id})
		if err != nil {
			t.Fatal(err)
		}
		if (out.KeyMetadata.KeyState == types.KeyStatePendingDeletion) != (out.KeyMetadata.DeletionDate != nil) {
			t.Errorf("state %s with deletion date %v", out.KeyMetadata.KeyState, out.KeyMetadata.DeletionDate)
		}
		return out.KeyMetadata.KeyState
	}
	use := func() error {
		_, err := c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: id, CiphertextBlob: blob})
		return err
	}
	rotate := func() error {
		_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
		return err
	}
	for range 2 {
		if err := rotate(); err != nil {
			t.Fatal(err)
		}
	}
	rotations, err := c.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: id})
	if err != nil || len(rotations.Rotations) != 2 || time.Since(*rotations.Rotations[1].RotationDate) > time.Minute {
		t.Fatalf("ListKeyRotations: %v, %v", rotations, err)
	}
	if err := use(); err != nil {
		t.Errorf("after rotation: %v", err)
	}
	if _, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}); err != nil || state() != types.KeyStateDisabled {
		t.Errorf("DisableKey: %v", err)
	}
	wantCode(t, "disabled", use(), "DisabledException")
	wantCode(t, "rotate while disabled", rotate(), "DisabledException")
	if _, err := c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id}); err != nil || use() != nil {
		t.Errorf("EnableKey: %v", err)
	}
	_, err = c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(1)})
	wantCode(t, "a short wait", err, "ValidationException")
	if _, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id}); err != nil || state() != types.KeyStatePendingDeletion {
		t.Errorf("ScheduleKeyDeletion: %v", err)
	}
	wantCode(t, "pending deletion", use(), "KMSInvalidStateException")
	wantCode(t, "rotate while pending", rotate(), "KMSInvalidStateException")
	_, err = c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id})
	wantCode(t, "enable while pending", err, "KMSInvalidStateException")
	if _, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: id}); err != nil || state() != types.KeyStateDisabled {
		t.Errorf("CancelKeyDeletion: %v", err)
	}
	_, err = c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: id})
	wantCode(t, "cancel twice", err, "KMSInvalidStateException")

	rsa := aws.String(create(t, s, awskms.KeySpec{Spec: awskms.SpecRSA2048}).ID())
	_, err = c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: rsa})
	wantCode(t, "rotate RSA", err, "UnsupportedOperationException")
	_, err = c.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: rsa})
	wantCode(t, "rotations of RSA", err, "UnsupportedOperationException")
}

func TestAliasesAndRegions(t *testing.T) {
	s := start(t)
	here := clientOf(t, s, nil)
	there := clientOf(t, s, func(o *kms.Options) { o.Region = "us-east-1" })
	first, second := create(t, s, awskms.KeySpec{MultiRegion: true}), create(t, s, awskms.KeySpec{})
	alias := aws.String("alias/a")
	_, err := here.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: aws.String(first.ID())})
	wantCode(t, "update nothing", err, "NotFoundException")
	if _, err := here.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: alias, TargetKeyId: aws.String(first.ID())}); err != nil {
		t.Fatal(err)
	}
	_, err = here.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: alias, TargetKeyId: aws.String(second.ID())})
	wantCode(t, "create twice", err, "AlreadyExistsException")
	_, err = here.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/aws/x"), TargetKeyId: aws.String(second.ID())})
	wantCode(t, "AWS's own alias", err, "InvalidAliasNameException")
	blob := encrypt(t, here, *alias, []byte("x"), nil)
	if _, err := here.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: aws.String(second.ID())}); err != nil {
		t.Fatal(err)
	}
	_, err = here.Decrypt(t.Context(), &kms.DecryptInput{KeyId: alias, CiphertextBlob: blob})
	wantCode(t, "alias moved", err, "IncorrectKeyException")

	_, err = there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(first.ID())})
	wantCode(t, "no replica yet", err, "NotFoundException")
	replica, err := s.Replicate(first, "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.Decrypt(t.Context(), &kms.DecryptInput{KeyId: aws.String(replica.ARN()), CiphertextBlob: blob}); err != nil {
		t.Errorf("a replica does not open: %v", err)
	}
	out, err := there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(replica.ID())})
	if err != nil || *out.KeyMetadata.MultiRegionConfiguration.PrimaryKey.Arn != first.ARN() ||
		out.KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType != types.MultiRegionKeyTypeReplica {
		t.Errorf("DescribeKey of a replica: %v", err)
	}
	_, err = there.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: aws.String(replica.ID())})
	wantCode(t, "rotate a replica", err, "UnsupportedOperationException")
}

func TestSignatures(t *testing.T) {
	s := start(t)
	key := create(t, s, awskms.KeySpec{})
	if err := s.SetIdentity(awskms.Identity{AccessKeyID: "AKIAOLD", SecretAccessKey: "x", SessionToken: "s", Expired: true}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, id, secret, session, region, code string }{
		{"unknown", "AKIANONE", "x", "", awskms.DefaultRegion, "UnrecognizedClientException"},
		{"wrong secret", awskms.DefaultAccessKeyID, "x", "", awskms.DefaultRegion, "InvalidSignatureException"},
		{"wrong session", "AKIAOLD", "x", "t", awskms.DefaultRegion, "UnrecognizedClientException"},
		{"expired", "AKIAOLD", "x", "s", awskms.DefaultRegion, "ExpiredTokenException"},
		{"another Region", awskms.DefaultAccessKeyID, awskms.DefaultSecretAccessKey, "", "ap-south-1", "InvalidSignatureException"},
	} {
		c := clientOf(t, s, func(o *kms.Options) {
			o.Credentials, o.Region = credentials.NewStaticCredentialsProvider(tc.id, tc.secret, tc.session), tc.region
		})
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
		wantCode(t, tc.name, err, tc.code)
	}
	for name, header := range map[string]string{
		"none": "", "another algorithm": "Bearer x", "half": "AWS4-HMAC-SHA256 Credential=a/b",
	} {
		if got := post(t, s, "TrentService.Encrypt", header, "{}"); !strings.Contains(got, "MissingAuthenticationTokenException") {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, target := range []string{"TrentService.Encrypt2", "Other.Encrypt", ""} {
		if got := post(t, s, target, "", "{}"); !strings.Contains(got, "UnknownOperationException") {
			t.Errorf("target %q: %s", target, got)
		}
	}
	if got := post(t, s, "TrentService.Encrypt", "", strings.Repeat("x", 2<<20)); !strings.Contains(got, "SerializationException") {
		t.Errorf("a large request: %s", got)
	}
}

// post sends an unsigned request and returns the answer's body.
func post(t *testing.T, s *awskms.Server, target, authorization, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Authorization", authorization)
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestPolicies(t *testing.T) {
	s := start(t)
	key := create(t, s, awskms.KeySpec{})
	set := func(policy string) error {
		return s.SetIdentity(awskms.Identity{AccessKeyID: "AKIAP", SecretAccessKey: "x", Policy: policy})
	}
	for name, bad := range map[string]string{
		"not JSON": "x", "unknown field": `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}]}`,
		"effect": `{"Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`, "no action": `{"Statement":[{"Effect":"Allow","Resource":"*"}]}`,
		"wildcard":      `{"Statement":[{"Effect":"Allow","Action":"kms:*crypt","Resource":"*"}]}`,
		"question mark": `{"Statement":[{"Effect":"Allow","Action":"kms:?ncrypt","Resource":"*"}]}`, "variable": `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"${x}"}]}`,
		"two":      `{"Statement":[]}{"Statement":[]}`,
		"operator": `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"kms:EncryptionContext:a":"b"}}}]}`,
	} {
		if set(bad) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if s.SetIdentity(awskms.Identity{}) == nil {
		t.Error("an identity without name was taken")
	}
	if err := set(`{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:kms:*"},{"Effect":"Deny","Action":["KMS:encrypt"],"Resource":"*"}]}`); err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, s, func(o *kms.Options) { o.Credentials = credentials.NewStaticCredentialsProvider("AKIAP", "x", "") })
	if _, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())}); err != nil {
		t.Error(err)
	}
	_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: []byte("x")})
	wantCode(t, "denied by policy", err, "AccessDeniedException")
	_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/none")})
	wantCode(t, "what is not there", err, "AccessDeniedException")

	all := clientOf(t, s, nil)
	s.Deny("kms:DescribeKey", key)
	_, err = all.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
	wantCode(t, "Deny", err, "AccessDeniedException")
	s.Undeny("kms:DescribeKey", key)
	if _, err = all.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())}); err != nil {
		t.Errorf("Undeny: %v", err)
	}
}

// A script comes before what is always so, an operation's own before that of all.
func TestFaultOrder(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key := create(t, s, awskms.KeySpec{})
	s.SetFault(awskms.AllOperations, awskms.Outage())
	s.SetFault("DescribeKey", awskms.Throttle())
	s.Script(awskms.AllOperations, awskms.Fault{Code: "DisabledException"})
	s.Script("DescribeKey", awskms.Fault{Code: "NotFoundException"}, awskms.Fault{})
	for _, want := range []string{"NotFoundException", "", "DisabledException", "ThrottlingException"} {
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
		if want == "" && err != nil {
			t.Errorf("healthy: %v", err)
		} else if want != "" {
			wantCode(t, want, err, want)
		}
	}
	_, err := c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: aws.String(key.ID())})
	wantCode(t, "outage", err, "KMSInternalException")
	if got := s.Requests(); got["DescribeKey"] != 4 || got["EnableKey"] != 1 {
		t.Errorf("requests %v", got)
	}
}

// Closing ends all requests that wait.
func TestCloseEndsStalls(t *testing.T) {
	s, err := awskms.Start(awskms.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.SetFault("DescribeKey", awskms.Fault{Stall: true})
	c := clientOf(t, s, nil)
	done := make(chan error)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		_, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("k")})
		done <- err
	}()
	for s.Requests()["DescribeKey"] == 0 {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil || ctx.Err() != nil {
		t.Errorf("the request ended with %v", err)
	}
}

func TestStartRefuses(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "localhost:0", "192.0.2.1:0", "127.0.0.1", "127.0.0.1:99999"} {
		if s, err := awskms.Start(awskms.Config{Address: address}); err == nil {
			s.Close()
			t.Errorf("%s: started", address)
		}
	}
	s := start(t)
	if _, err := s.CreateKey(awskms.KeySpec{Region: "ap-south-1"}); err == nil {
		t.Error("a key in a Region that is not served")
	}
	if _, err := s.CreateKey(awskms.KeySpec{Spec: "X"}); err == nil {
		t.Error("a key of an unknown spec")
	}
	if _, err := s.Replicate(create(t, s, awskms.KeySpec{}), "us-east-1"); err == nil {
		t.Error("a replica of a single-Region key")
	}
	multi := create(t, s, awskms.KeySpec{MultiRegion: true})
	for _, region := range []string{"ap-south-1", awskms.DefaultRegion} {
		if _, err := s.Replicate(multi, region); err == nil {
			t.Errorf("a replica in %s", region)
		}
	}
}
