package awskms_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// The policies of the documentation, as they stand there, permit what their
// holders do, and no more.
func TestDocumentedPolicies(t *testing.T) {
	text, err := os.ReadFile("../../docs/kms/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "\n```json\n")
	if len(blocks) != 5 {
		t.Fatalf("%d policies, want 4", len(blocks)-1)
	}
	s := startServer(t)
	made, fresh := createKey(t, s, awsserver.KeySpec{}), createKey(t, s, awsserver.KeySpec{})
	s.SetAlias("alias/payments", made)
	as := func(i int) credentials.StaticCredentialsProvider {
		t.Helper()
		policy, _, found := strings.Cut(blocks[i], "\n```\n")
		policy = strings.ReplaceAll(policy, "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", made.ARN())
		policy = strings.ReplaceAll(policy, "arn:aws:kms:eu-west-1:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321", fresh.ARN())
		if !found || !strings.Contains(policy, made.ARN()) {
			t.Fatalf("policy %d has no end, or names another key", i)
		}
		id := awsserver.Identity{AccessKeyID: "AKIA" + string(rune('0'+i)), SecretAccessKey: "secret-access-key", Policy: policy}
		if err := s.SetIdentity(id); err != nil {
			t.Fatal(err)
		}
		return credentials.NewStaticCredentialsProvider(id.AccessKeyID, id.SecretAccessKey, "")
	}
	keyOf := func(i int, name string) *awskms.Key {
		t.Helper()
		key := open(t, s, awskms.Config{Key: name, Region: region, Credentials: as(i)})
		impatient(key)
		return key
	}
	payments, other := kms.Context{"namespace": "payments-prod"}, kms.Context{"namespace": "other"}
	plain := dataKeys(1)
	trusted := open(t, s, awskms.Config{Key: made.ARN()})
	wrapped := mustWrap(t, trusted, plain, payments)
	ctx := t.Context()

	// can lists what key's holder is able to do, in the context of the worker's namespace.
	can := func(key *awskms.Key) []string {
		t.Helper()
		var able []string
		for _, try := range []struct {
			what string
			do   func() error
		}{
			{"wrap", func() error { _, err := key.Wrap(ctx, plain, payments); return err }},
			{"unwrap", func() error { return unwrapErrorUnder(t, key, wrapped[0], payments) }},
			{"rewrap here", func() error { return rewrapError(t, key, key, wrapped[0], payments) }},
			{"versions", func() error { _, err := key.Versions(ctx); return err }},
			{"rotate", func() error { _, err := key.Rotate(ctx); return err }},
			{"disable", func() error { return key.Disable(ctx, "") }},
			{"enable", func() error { return key.Enable(ctx, "") }},
			{"destroy", func() error { _, err := key.Destroy(ctx, "", 0); return err }},
			{"restore", func() error { return key.Restore(ctx, "") }},
		} {
			switch err := try.do(); {
			case err == nil:
				able = append(able, try.what)
			case kms.ClassOf(err) != kms.Denied:
				t.Errorf("%s: neither permitted nor denied: %v", try.what, err)
			}
		}
		return able
	}
	check := func(who string, key *awskms.Key, want ...string) {
		t.Helper()
		if got := can(key); !slices.Equal(got, want) {
			t.Errorf("%s may %q, want %q", who, got, want)
		}
	}

	worker := keyOf(1, "alias/payments")
	check("a worker", worker, "wrap", "unwrap")
	_, err = worker.Wrap(ctx, plain, other)
	wantError(t, err, kms.Denied, "kms:Encrypt")
	_, err = worker.Wrap(ctx, plain, nil)
	wantError(t, err, kms.Denied, "kms:Encrypt")
	wantError(t, unwrapErrorUnder(t, worker, mustWrap(t, trusted, plain, other)[0], other), kms.Denied, "kms:Decrypt")
	if r := mustProbe(t, worker); r.Key == "" {
		t.Errorf("%+v", r)
	}

	codecServer := keyOf(2, made.ARN())
	check("a codec server", codecServer, "unwrap")
	_, err = tryOpen(t, s, awskms.Config{Key: "alias/payments", Region: region, Credentials: as(2)})
	wantError(t, err, kms.Denied, "kms:DescribeKey")
	mustProbe(t, codecServer)

	from, to := keyOf(3, made.ARN()), keyOf(3, fresh.ARN())
	moved := mustRewrap(t, to, from, wrapped, payments)
	mustUnwrap(t, open(t, s, awskms.Config{Key: fresh.ARN()}), moved, payments, plain)
	wantError(t, rewrapError(t, from, to, moved[0], payments), kms.Denied, "kms:ReEncryptFrom")
	check("a job that rewraps", from)

	admin := keyOf(4, "alias/payments")
	made.SetState(awsserver.Enabled)
	check("an admin", admin, "versions", "rotate", "disable", "enable", "destroy", "restore")
	made.SetState(awsserver.Enabled)
	wantWarning(t, mustProbe(t, admin), "rotation of the key material is off", true)

	// None of them may do anything with another key.
	for i := 1; i <= 4; i++ {
		stranger := createKey(t, s, awsserver.KeySpec{})
		key := open(t, s, awskms.Config{Key: stranger.ARN(), Credentials: as(i)})
		check("somebody, with a key that is not theirs,", key)
	}
}
