package awskms_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/waxseal/waxseal/internal/emulator/awskms"
)

// The first steps on a command line.
func TestKeysAndAliases(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	made, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("payments"), MultiRegion: aws.Bool(true)})
	if err != nil || *made.KeyMetadata.Description != "payments" || !*made.KeyMetadata.MultiRegion || made.KeyMetadata.KeyState != types.KeyStateEnabled {
		t.Fatalf("%+v, %v", made, err)
	}
	id := made.KeyMetadata.KeyId
	for _, in := range []*kms.CreateKeyInput{
		{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify}, {KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, {},
	} {
		if _, err := c.CreateKey(t.Context(), in); err != nil {
			t.Error(err)
		}
	}
	for name, tc := range map[string]struct {
		in   *kms.CreateKeyInput
		code string
	}{
		"origin": {&kms.CreateKeyInput{Origin: types.OriginTypeExternal}, "UnsupportedOperationException"},
		"spec":   {&kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256}, "UnsupportedOperationException"},
		"usage":  {&kms.CreateKeyInput{KeyUsage: types.KeyUsageTypeSignVerify}, "ValidationException"},
		"HMAC":   {&kms.CreateKeyInput{KeySpec: types.KeySpecHmac256}, "ValidationException"},
	} {
		_, err := c.CreateKey(t.Context(), tc.in)
		wantCode(t, name, err, tc.code)
	}
	for _, name := range []string{"alias/b", "alias/a"} {
		if _, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: id}); err != nil {
			t.Fatal(err)
		}
	}
	keys := 0
	pages := kms.NewListKeysPaginator(c, &kms.ListKeysInput{Limit: aws.Int32(3)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		keys += len(page.Keys)
	}
	if keys != 4 || s.Requests()["ListKeys"] != 2 {
		t.Errorf("%d keys, %v", keys, s.Requests())
	}
	list := func(in *kms.ListAliasesInput) []types.AliasListEntry {
		t.Helper()
		out, err := c.ListAliases(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out.Aliases
	}
	all := list(&kms.ListAliasesInput{})
	if len(all) != 2 || *all[0].AliasName != "alias/a" || *all[0].TargetKeyId != *id || *all[0].AliasArn != "arn:aws:kms:eu-west-1:111122223333:alias/a" {
		t.Errorf("%+v", all)
	}
	if _, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: all[0].AliasArn}); err != nil {
		t.Error(err)
	}
	if got := list(&kms.ListAliasesInput{KeyId: aws.String(create(t, s, awskms.KeySpec{}).ID())}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/a")}); err != nil || len(list(&kms.ListAliasesInput{KeyId: id})) != 1 {
		t.Error(err)
	}
	_, err = c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/a")})
	wantCode(t, "delete twice", err, "NotFoundException")
	for name, code := range map[string]string{"alias/b": "NotFoundException", "arn:aws:kms:eu-west-1:111122223333:alias/b": "InvalidArnException"} {
		_, err = c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &name}) // a key is managed by its ID or ARN
		wantCode(t, name, err, code)
	}
	_, err = c.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: aws.String("none")})
	wantCode(t, "aliases of nothing", err, "NotFoundException")
	_, err = c.ListAliases(t.Context(), &kms.ListAliasesInput{Limit: aws.Int32(0)})
	wantCode(t, "limit", err, "ValidationException")
	_, err = c.ListKeys(t.Context(), &kms.ListKeysInput{Marker: aws.String("-")})
	wantCode(t, "marker", err, "InvalidMarkerException")
	for _, action := range []string{"kms:CreateKey", "kms:ListKeys", "kms:ListAliases"} {
		s.Deny(action, nil)
	}
	_, err = c.CreateKey(t.Context(), &kms.CreateKeyInput{})
	wantCode(t, "CreateKey", err, "AccessDeniedException")
	_, err = c.ListKeys(t.Context(), &kms.ListKeysInput{})
	wantCode(t, "ListKeys", err, "AccessDeniedException")
	_, err = c.ListAliases(t.Context(), &kms.ListAliasesInput{})
	wantCode(t, "ListAliases", err, "AccessDeniedException")
}

func TestDataKeys(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key := create(t, s, awskms.KeySpec{})
	id, ec := aws.String(key.ID()), map[string]string{"a": "b"}
	for name, tc := range map[string]struct {
		in   *kms.GenerateDataKeyInput
		size int
	}{
		"AES-256": {&kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256}, 32},
		"AES-128": {&kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes128}, 16},
		"bytes":   {&kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1024)}, 1024},
		"none":    {&kms.GenerateDataKeyInput{}, 0},
		"both":    {&kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256, NumberOfBytes: aws.Int32(1)}, 0},
		"many":    {&kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1025)}, 0},
		"unknown": {&kms.GenerateDataKeyInput{KeySpec: "AES_1"}, 0},
	} {
		tc.in.KeyId, tc.in.EncryptionContext = id, ec
		out, err := c.GenerateDataKey(t.Context(), tc.in)
		if tc.size == 0 {
			wantCode(t, name, err, "ValidationException")
			continue
		}
		if err != nil || len(out.Plaintext) != tc.size {
			t.Errorf("%s: %v", name, err)
			continue
		}
		opened, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: ec})
		if err != nil || !bytes.Equal(opened.Plaintext, out.Plaintext) {
			t.Errorf("%s: Decrypt: %v", name, err)
		}
	}
	blind, err := c.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, KeySpec: types.DataKeySpecAes256})
	if err != nil || len(blind.CiphertextBlob) != 184 {
		t.Errorf("%+v, %v", blind, err)
	}
	_, err = c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: id, KeySpec: types.DataKeySpecAes256, DryRun: aws.Bool(true)})
	wantCode(t, "dry run", err, "DryRunOperationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: id, DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}})
	wantCode(t, "dry run without a ciphertext", err, "DryRunOperationException")
	s.Deny("kms:Decrypt", key)
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: id, DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}})
	wantCode(t, "dry run, denied", err, "AccessDeniedException")
	_, err = c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String("none"), KeySpec: types.DataKeySpecAes256})
	wantCode(t, "no key", err, "NotFoundException")
}

// What each fault does to the real client.
func TestFaults(t *testing.T) {
	s := start(t)
	c := clientOf(t, s, nil)
	key := create(t, s, awskms.KeySpec{})
	plain := bytes.Repeat([]byte("p"), 32)
	blob := encrypt(t, c, key.ID(), plain, nil)
	decrypt := func(ctx context.Context) (*kms.DecryptOutput, error) {
		return c.Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String(key.ID()), CiphertextBlob: blob})
	}
	for name, fault := range map[string]awskms.Fault{
		"reset": {Reset: true}, "reset in the answer": {ResetInBody: true}, "a page": {Raw: []byte("<html>"), Status: 503}, "not JSON": {Raw: []byte("<html>")}, "damage": {Damage: true},
	} {
		s.Script("Decrypt", fault)
		if out, err := decrypt(t.Context()); err == nil {
			t.Errorf("%s: %+v", name, out)
		}
	}
	for name, fault := range map[string]awskms.Fault{"stall": {Stall: true}, "stall in the answer": {StallInBody: true}, "latency": {Latency: time.Hour}} {
		s.Script("Decrypt", fault)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		// After headers the client may give up by itself: it finds its request's body
		// closed while it still looks for the end of it.
		if _, err := decrypt(ctx); err == nil || ctx.Err() == nil && !fault.StallInBody {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	for name, tc := range map[string]struct {
		fault awskms.Fault
		right func(*kms.DecryptOutput) bool
	}{
		"other bytes": {awskms.Fault{WrongPlaintext: true}, func(o *kms.DecryptOutput) bool {
			return len(o.Plaintext) == 32 && !bytes.Equal(o.Plaintext, plain)
		}},
		"a byte less": {awskms.Fault{TruncatePlaintext: true}, func(o *kms.DecryptOutput) bool { return bytes.Equal(o.Plaintext, plain[:31]) }},
		"another key": {awskms.Fault{WrongKeyID: true}, func(o *kms.DecryptOutput) bool { return *o.KeyId != key.ARN() }},
		"late":        {awskms.Fault{Latency: time.Millisecond}, func(o *kms.DecryptOutput) bool { return bytes.Equal(o.Plaintext, plain) }},
	} {
		s.Script("Decrypt", tc.fault)
		if out, err := decrypt(t.Context()); err != nil || !tc.right(out) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	for name, fault := range map[string]awskms.Fault{"flipped": {FlipCiphertext: true}, "empty": {EmptyCiphertext: true}, "another key": {WrongKeyID: true}} {
		s.Script("Encrypt", fault)
		out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: plain})
		if err != nil || (len(out.CiphertextBlob) == 0) != fault.EmptyCiphertext || (*out.KeyId != key.ARN()) != fault.WrongKeyID {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	throttle := awskms.Throttle()
	throttle.RetryAfter = 7 * time.Second
	s.SetFault("Decrypt", throttle)
	if got := head(t, s); got.Get("Retry-After") != "7" {
		t.Errorf("%v", got)
	}
}

// head returns the headers of an answer to an unsigned Decrypt.
func head(t *testing.T, s *awskms.Server) http.Header {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "TrentService.Decrypt")
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.Header
}

// What IAM compares without regard to case is not narrower here.
func TestPolicyCase(t *testing.T) {
	s := start(t)
	key := create(t, s, awskms.KeySpec{})
	if err := s.SetIdentity(awskms.Identity{AccessKeyID: "AKIAP", SecretAccessKey: "x", Policy: `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"KMS:Enc*","Resource":"` + key.ARN() + `","Condition":{"StringEquals":{"kms:encryptioncontext:NameSpace":["a","b"]}}},
		{"Effect":"Deny","Action":"kms:encrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"bad"}}}]}`}); err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, s, func(o *kms.Options) { o.Credentials = credentials.NewStaticCredentialsProvider("AKIAP", "x", "") })
	for _, tc := range []struct {
		ec map[string]string
		ok bool
	}{
		{map[string]string{"namespace": "a"}, true},
		{map[string]string{"Namespace": "b", "tenant": "good"}, true},
		{map[string]string{"namespace": "A"}, false},
		{map[string]string{"namespace": "a", "tenant": "bad"}, false},
		{nil, false},
	} {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x"), EncryptionContext: tc.ec})
		if (err == nil) != tc.ok {
			t.Errorf("%v: %v", tc.ec, err)
		}
	}
	key.SetState(awskms.Updating) // does what an enabled one does
	if _, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x"), EncryptionContext: map[string]string{"namespace": "a"}}); err != nil {
		t.Error(err)
	}
}
