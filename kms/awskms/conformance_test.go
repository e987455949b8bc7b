package awskms_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/kmstest/awsserver"
)

// What a worker needs and nothing more: it may not ask about keys.
const blindWorker = `{"Statement": [{"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"}]}`

func TestConformance(t *testing.T) {
	s := startServer(t)
	if err := s.SetIdentity(awsserver.Identity{AccessKeyID: "AKIABLIND", SecretAccessKey: "secret-access-key", SessionToken: "session", Policy: blindWorker}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name        string
		spec        awsserver.KeySpec
		credentials aws.CredentialsProvider
	}{
		{"with every right", awsserver.KeySpec{}, root()},
		{"multi-Region key as a worker that may not ask about it", awsserver.KeySpec{MultiRegion: true}, credentials.NewStaticCredentialsProvider("AKIABLIND", "secret-access-key", "session")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var made sync.Map // key ID → *awsserver.Key
			of := func(t testing.TB, key kms.Key) *awsserver.Key {
				t.Helper()
				k, ok := made.Load(key.ID()[strings.LastIndexByte(key.ID(), '/')+1:])
				if !ok {
					t.Fatalf("no such key: %s", key.ID())
				}
				return k.(*awsserver.Key)
			}
			create := func(t testing.TB) kms.Key {
				t.Helper()
				k := createKey(t, s, tc.spec)
				made.Store(k.ID(), k)
				return open(t, s, awskms.Config{Key: k.ARN(), Credentials: tc.credentials})
			}
			kmstest.Run(t, kmstest.Harness{
				NewKey:   create,
				OtherKey: create,
				Reopen: func(t testing.TB, key kms.Key) kms.Key {
					t.Helper()
					return open(t, s, awskms.Config{Key: of(t, key).ARN(), Credentials: tc.credentials})
				},
				Rotate:  func(t testing.TB, key kms.Key) { t.Helper(); of(t, key).Rotate() },
				Disable: func(t testing.TB, key kms.Key) { t.Helper(); of(t, key).SetState(awsserver.Disabled) },
				Enable:  func(t testing.TB, key kms.Key) { t.Helper(); of(t, key).SetState(awsserver.Enabled) },
				Lacks: map[kmstest.Power]string{
					kmstest.PowerDisableVersion:  "not yet wired to this harness",
					kmstest.PowerDestroyVersion:  "not yet wired to this harness",
					kmstest.PowerPendingDeletion: "not yet wired to this harness",
					kmstest.PowerHasty:           "not yet wired to this harness",
					kmstest.PowerRewrapper:       "not yet wired to this harness",
					kmstest.PowerRotator:         "not yet wired to this harness",
					kmstest.PowerProber:          "not yet wired to this harness",
					kmstest.FaultDenied:          "not yet wired to this harness",
					kmstest.FaultThrottled:       "not yet wired to this harness",
					kmstest.FaultThrottledFor:    "not yet wired to this harness",
					kmstest.FaultExpired:         "not yet wired to this harness",
					kmstest.FaultDown:            "not yet wired to this harness",
					kmstest.FaultServerError:     "not yet wired to this harness",
					kmstest.FaultStall:           "not yet wired to this harness",
					kmstest.FaultReset:           "not yet wired to this harness",
					kmstest.FaultNotTheKMS:       "not yet wired to this harness",
					kmstest.FaultWrongKey:        "not yet wired to this harness",
					kmstest.FaultShortPlaintext:  "not yet wired to this harness",
					kmstest.FaultRequestDamaged:  "not yet wired to this harness",
					kmstest.FaultAnswerDamaged:   "not yet wired to this harness",
					kmstest.FaultHugeAnswer:      "not yet wired to this harness",
				},
			})
		})
	}
}
