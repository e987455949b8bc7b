package awskms_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/waxseal/waxseal/internal/emulator/awskms"
)

// stsOf returns a client of STS at the same address.
func stsOf(t *testing.T, s *awskms.Server, id, secret, session string) *sts.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return sts.New(sts.Options{
		BaseEndpoint: aws.String(s.URL()), Region: awskms.DefaultRegion, Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, session),
	})
}

func TestCallerIdentity(t *testing.T) {
	s := start(t)
	for _, id := range []awskms.Identity{
		{AccessKeyID: "AKIAROLE", SecretAccessKey: "x", SessionToken: "s", ARN: "arn:aws:sts::444455556666:assumed-role/r/s", Policy: `{"Statement":[]}`},
		{AccessKeyID: "AKIAOLD", SecretAccessKey: "x", SessionToken: "s", Expired: true},
	} {
		if err := s.SetIdentity(id); err != nil {
			t.Fatal(err)
		}
	}
	if s.SetIdentity(awskms.Identity{AccessKeyID: "A", SecretAccessKey: "x", ARN: "tester"}) == nil {
		t.Error("an ARN that is none was taken")
	}
	out, err := stsOf(t, s, awskms.DefaultAccessKeyID, awskms.DefaultSecretAccessKey, "").GetCallerIdentity(t.Context(), nil)
	if err != nil || *out.Arn != "arn:aws:iam::111122223333:user/tester" || *out.Account != awskms.DefaultAccount || *out.UserId != awskms.DefaultAccessKeyID {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = stsOf(t, s, "AKIAROLE", "x", "s").GetCallerIdentity(t.Context(), nil) // needs no permission
	if err != nil || *out.Arn != "arn:aws:sts::444455556666:assumed-role/r/s" || *out.Account != "444455556666" {
		t.Errorf("%+v, %v", out, err)
	}
	for _, tc := range []struct{ id, secret, session, code string }{
		{"AKIANONE", "x", "", "InvalidClientTokenId"}, {awskms.DefaultAccessKeyID, "x", "", "SignatureDoesNotMatch"}, {"AKIAOLD", "x", "s", "ExpiredToken"},
	} {
		_, err := stsOf(t, s, tc.id, tc.secret, tc.session).GetCallerIdentity(t.Context(), nil)
		wantCode(t, tc.id, err, tc.code)
	}
	root := stsOf(t, s, awskms.DefaultAccessKeyID, awskms.DefaultSecretAccessKey, "")
	_, err = root.GetSessionToken(t.Context(), nil)
	wantCode(t, "an operation that is not served", err, "InvalidAction")
	for want, fault := range map[string]awskms.Fault{
		"Throttling": awskms.Throttle(), "AccessDenied": {Code: "AccessDeniedException"}, "InternalFailure": awskms.Outage(),
		"MissingAuthenticationToken": {Code: "MissingAuthenticationTokenException"}, "IncompleteSignature": {Code: "IncompleteSignatureException"}, "Odd": {Code: "Odd", Status: 418},
	} {
		s.Script("GetCallerIdentity", fault)
		_, err := root.GetCallerIdentity(t.Context(), nil)
		wantCode(t, want, err, want)
	}
	if n := s.Requests()["GetCallerIdentity"]; n != 11 {
		t.Errorf("%d requests", n)
	}
}

func TestRotation(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key := create(t, s, awskms.KeySpec{})
	id := aws.String(key.ARN())
	status := func() *kms.GetKeyRotationStatusOutput {
		t.Helper()
		out, err := c.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: id})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := status(); out.KeyRotationEnabled || out.NextRotationDate != nil || out.OnDemandRotationStartDate != nil {
		t.Errorf("%+v", out)
	}
	_, err := c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(10)})
	wantCode(t, "a short period", err, "ValidationException")
	if _, err := c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	key.Rotate()
	if out := status(); !out.KeyRotationEnabled || *out.RotationPeriodInDays != 365 || time.Until(*out.NextRotationDate) < 364*24*time.Hour {
		t.Errorf("%+v", out)
	}
	if _, err := c.DisableKeyRotation(t.Context(), &kms.DisableKeyRotationInput{KeyId: id}); err != nil || status().KeyRotationEnabled {
		t.Errorf("DisableKeyRotation: %v", err)
	}

	s.SetRotationTime(time.Hour)
	rotate := func() error {
		_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
		return err
	}
	list := func(in kms.ListKeyRotationsInput) *kms.ListKeyRotationsOutput {
		t.Helper()
		in.KeyId = id
		out, err := c.ListKeyRotations(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if err := rotate(); err != nil || status().OnDemandRotationStartDate == nil || len(list(kms.ListKeyRotationsInput{}).Rotations) != 1 {
		t.Errorf("a rotation that takes its time: %v", err)
	}
	wantCode(t, "a second one", rotate(), "ConflictException")
	s.SetRotationTime(0)
	if got := list(kms.ListKeyRotationsInput{}).Rotations; len(got) != 2 || got[0].RotationType != types.RotationTypeAutomatic || got[1].RotationType != types.RotationTypeOnDemand || status().OnDemandRotationStartDate != nil {
		t.Errorf("%+v", got)
	}
	got := list(kms.ListKeyRotationsInput{IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial, Limit: aws.Int32(2)})
	if len(got.Rotations) != 2 || !got.Truncated || got.Rotations[0].RotationDate != nil || got.Rotations[0].KeyMaterialState != types.KeyMaterialStateNonCurrent {
		t.Errorf("%+v", got)
	}
	rest := list(kms.ListKeyRotationsInput{IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial, Limit: aws.Int32(2), Marker: got.NextMarker})
	if len(rest.Rotations) != 1 || rest.Truncated || rest.Rotations[0].KeyMaterialState != types.KeyMaterialStateCurrent {
		t.Errorf("%+v", rest)
	}
	for name, tc := range map[string]struct {
		in   kms.ListKeyRotationsInput
		code string
	}{
		"marker":  {kms.ListKeyRotationsInput{Marker: aws.String("x")}, "InvalidMarkerException"},
		"beyond":  {kms.ListKeyRotationsInput{Marker: aws.String("9")}, "InvalidMarkerException"},
		"limit":   {kms.ListKeyRotationsInput{Limit: aws.Int32(1001)}, "ValidationException"},
		"include": {kms.ListKeyRotationsInput{IncludeKeyMaterial: "X"}, "ValidationException"},
	} {
		tc.in.KeyId = id
		_, err := c.ListKeyRotations(t.Context(), &tc.in)
		wantCode(t, name, err, tc.code)
	}
	for range 24 {
		if err := rotate(); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, "the 26th", rotate(), "LimitExceededException")

	until := time.Now().Add(time.Hour)
	for _, spec := range []awskms.KeySpec{{CustomKeyStore: true}, {ImportedUntil: until}} {
		k := create(t, s, spec)
		_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: aws.String(k.ARN())})
		wantCode(t, "rotate", err, "UnsupportedOperationException")
		_, err = c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: aws.String(k.ARN())})
		wantCode(t, "rotate by itself", err, "UnsupportedOperationException")
		out, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(k.ARN())})
		if err != nil || out.KeyMetadata.Origin == types.OriginTypeAwsKms || (out.KeyMetadata.ValidTo != nil) == spec.CustomKeyStore || (out.KeyMetadata.CustomKeyStoreId != nil) != spec.CustomKeyStore {
			t.Errorf("%+v, %v", out, err)
		}
	}
	key.SetState(awskms.Disabled)
	_, err = c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: id})
	wantCode(t, "disabled", err, "DisabledException")
	key.SetState(awskms.PendingDeletion)
	_, err = c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: id})
	wantCode(t, "pending deletion", err, "KMSInvalidStateException")
}

// Keys of another account are used where both sides permit it, by their ARN, and
// are managed by their own account.
func TestAccounts(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	shared, private := create(t, s, awskms.KeySpec{Account: "444455556666", Shared: true}), create(t, s, awskms.KeySpec{Account: "444455556666"})
	blob := encrypt(t, c, shared.ARN(), []byte("x"), nil)
	if _, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String(shared.ARN())}); err != nil {
		t.Error(err)
	}
	for name, id := range map[string]string{"private": private.ARN(), "no such key": strings.Replace(private.ARN(), "key/", "key/0", 1)} {
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		wantCode(t, name, err, "AccessDeniedException")
	}
	_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(shared.ID())})
	wantCode(t, "by its ID", err, "NotFoundException")
	_, err = c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: aws.String(shared.ARN())})
	wantCode(t, "managed by a stranger", err, "AccessDeniedException")
	if err := s.SetIdentity(awskms.Identity{AccessKeyID: "AKIAOWNER", SecretAccessKey: "x", ARN: "arn:aws:iam::444455556666:user/owner"}); err != nil {
		t.Fatal(err)
	}
	owner := clientOf(t, s, func(o *kms.Options) { o.Credentials = credentials.NewStaticCredentialsProvider("AKIAOWNER", "x", "") })
	if _, err := owner.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: aws.String(private.ID())}); err != nil {
		t.Error(err)
	}
}

func TestDeletion(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	primary := create(t, s, awskms.KeySpec{MultiRegion: true})
	replica, err := s.Replicate(primary, "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	s.SetAlias("alias/a", primary)
	out, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: aws.String(primary.ID()), PendingWindowInDays: aws.Int32(9)})
	if err != nil || out.DeletionDate != nil || out.KeyState != types.KeyStatePendingReplicaDeletion {
		t.Errorf("%+v, %v", out, err)
	}
	meta, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/a")})
	if err != nil || meta.KeyMetadata.PendingDeletionWindowInDays == nil || *meta.KeyMetadata.PendingDeletionWindowInDays != 9 {
		t.Errorf("%+v, %v", meta, err)
	}
	if _, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: aws.String(primary.ID())}); err != nil {
		t.Error(err)
	}
	replica.Delete()
	out, err = c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: aws.String(primary.ID())})
	if err != nil || out.DeletionDate == nil {
		t.Errorf("%+v, %v", out, err)
	}
	primary.Delete()
	for _, id := range []string{primary.ARN(), "alias/a"} {
		_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		wantCode(t, "deleted", err, "NotFoundException")
	}
}

// Stopped, nothing listens; resumed, all is as it was.
func TestStopAndResume(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key := create(t, s, awskms.KeySpec{})
	describe := func() error {
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
		return err
	}
	if err := s.Resume(); err != nil {
		t.Errorf("to resume what runs: %v", err)
	}
	address := strings.TrimPrefix(s.URL(), "http://")
	for range 3 {
		if err := describe(); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		s.Stop()
		if err := describe(); err == nil {
			t.Error("a server that is stopped answers")
		}
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
			conn.Close()
			t.Error("something listens")
		}
		if err := s.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	if err := describe(); err != nil {
		t.Error(err)
	}
	s.Stop()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if s.Resume() == nil {
		t.Error("resumed at an address that is taken")
	}
	taken.Close()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if s.Resume() == nil {
		t.Error("resumed what is closed")
	}
}

// Latency is for each request, and requests wait at the same time.
func TestLatency(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key := create(t, s, awskms.KeySpec{})
	describe := func(ctx context.Context) error {
		_, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
		return err
	}
	const latency = 20 * time.Millisecond
	s.SetLatency(latency)
	began := time.Now()
	if err := describe(t.Context()); err != nil || time.Since(began) < latency {
		t.Errorf("%v after %v", err, time.Since(began))
	}

	const requests = 16
	s.ResetRequests()
	s.SetLatency(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, requests)
	for range requests {
		go func() { done <- describe(ctx) }()
	}
	for s.Requests()["DescribeKey"] < requests { // all have come, and none is answered
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	for range requests {
		if err := <-done; err == nil {
			t.Error("answered an hour early")
		}
	}
	s.SetLatency(0)
	if err := describe(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDamageAndClock(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key, other := create(t, s, awskms.KeySpec{}), create(t, s, awskms.KeySpec{})
	blob := encrypt(t, c, key.ID(), []byte("x"), nil)
	s.Script("Decrypt", awskms.Fault{Damage: true})
	if _, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob}); err == nil {
		t.Error("a damaged answer was understood")
	}
	move := func() (*kms.ReEncryptOutput, error) {
		return c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: aws.String(other.ARN())})
	}
	right, err := move()
	if err != nil || len(*right.DestinationKeyMaterialId) != 64 || *right.DestinationKeyMaterialId == *right.SourceKeyMaterialId {
		t.Fatalf("%+v, %v", right, err)
	}
	for name, fault := range map[string]awskms.Fault{"key": {WrongKeyID: true}, "source": {WrongSourceKeyID: true}, "blob": {EmptyCiphertext: true}} {
		s.Script("ReEncrypt", fault)
		got, err := move()
		if err != nil || (*got.KeyId == other.ARN()) == fault.WrongKeyID || (*got.SourceKeyId == key.ARN()) == fault.WrongSourceKeyID || (len(got.CiphertextBlob) > 0) == fault.EmptyCiphertext {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	s.Script("ReEncrypt", awskms.Fault{FlipCiphertext: true})
	got, err := move()
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: got.CiphertextBlob})
	wantCode(t, "a flipped bit", err, "InvalidCiphertextException")
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: aws.String(other.ARN()), DryRun: aws.Bool(true)})
	wantCode(t, "dry run", err, "DryRunOperationException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x"), EncryptionContext: map[string]string{"n": strings.Repeat("x", 8192)}})
	wantCode(t, "a long context", err, "ValidationException")
	for name, ec := range map[string]map[string]string{"an empty value": {"n": ""}, "an empty name": {"": "x"}} {
		_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x"), EncryptionContext: ec})
		wantCode(t, name+" in a context", err, "ValidationException")
		_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: aws.String(key.ARN()), CiphertextBlob: blob, EncryptionContext: ec})
		wantCode(t, name+" in a context of decrypt", err, "ValidationException")
	}

	s.SetClock(time.Hour)
	_, err = clientOf(t, s, nil).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
	wantCode(t, "a clock that is off", err, "InvalidSignatureException")
}
