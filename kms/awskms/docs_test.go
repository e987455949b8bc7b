package awskms_test

import (
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/kmstest/awsserver"
)

// The policies of the documentation, as they stand there, permit what their
// holders do, and no more.
func TestDocumentedPolicies(t *testing.T) {
	text, err := os.ReadFile("../../docs/kms/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "\n```json\n")
	if len(blocks) != 4 {
		t.Fatalf("%d policies, want 3", len(blocks)-1)
	}
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	s.SetAlias("alias/payments", made)
	as := func(i int) credentials.StaticCredentialsProvider {
		t.Helper()
		policy, _, found := strings.Cut(blocks[i], "\n```\n")
		policy = strings.ReplaceAll(policy, "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", made.ARN())
		if !found || !strings.Contains(policy, made.ARN()) {
			t.Fatalf("policy %d has no end, or names another key", i)
		}
		id := awsserver.Identity{AccessKeyID: "AKIA" + string(rune('0'+i)), SecretAccessKey: "secret-access-key", Policy: policy}
		if err := s.SetIdentity(id); err != nil {
			t.Fatal(err)
		}
		return credentials.NewStaticCredentialsProvider(id.AccessKeyID, id.SecretAccessKey, "")
	}
	payments, other := kms.Context{"namespace": "payments-prod"}, kms.Context{"namespace": "other"}
	plain := dataKeys(1)

	worker := open(t, s, awskms.Config{Key: "alias/payments", Region: region, Credentials: as(1)})
	wrapped := mustWrap(t, worker, plain, payments)
	mustUnwrap(t, worker, wrapped, payments, plain)
	_, err = worker.Wrap(t.Context(), plain, other)
	wantError(t, err, kms.Denied, "kms:Encrypt")
	_, err = worker.Wrap(t.Context(), plain, nil)
	wantError(t, err, kms.Denied, "kms:Encrypt")

	codecServer := open(t, s, awskms.Config{Key: made.ARN(), Credentials: as(2)})
	mustUnwrap(t, codecServer, wrapped, payments, plain)
	_, err = codecServer.Wrap(t.Context(), plain, payments)
	wantError(t, err, kms.Denied, "kms:Encrypt")
	_, err = tryOpen(t, s, awskms.Config{Key: "alias/payments", Region: region, Credentials: as(2)})
	wantError(t, err, kms.Denied, "kms:DescribeKey")

	admin := open(t, s, awskms.Config{Key: "alias/payments", Region: region, Credentials: as(3)})
	_, err = admin.Wrap(t.Context(), plain, payments)
	wantError(t, err, kms.Denied, "kms:Encrypt")
	wantError(t, unwrapError(t, admin, wrapped[0]), kms.Denied, "kms:Decrypt")
}
