package awskms_test

import (
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// A worker's rights and nothing more: it may not describe keys.
const blindWorker = `{"Statement": [{"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"}]}`

// bare hides what a key can do beyond wrapping and unwrapping.
type bare struct{ kms.Key }

func TestConformance(t *testing.T) {
	for _, tc := range []struct {
		name        string
		spec        awsserver.KeySpec
		credentials aws.CredentialsProvider
		bare        bool
	}{
		{"with every right", awsserver.KeySpec{}, root(), false},
		{"multi-Region key", awsserver.KeySpec{MultiRegion: true}, root(), false},
		{"as a worker that may not ask about keys", awsserver.KeySpec{}, credentials.NewStaticCredentialsProvider("AKIABLIND", "secret-access-key", "session-of-the-blind-worker"), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &bench{server: startServer(t), spec: tc.spec, credentials: tc.credentials, bare: tc.bare}
			if err := b.server.SetIdentity(awsserver.Identity{AccessKeyID: "AKIABLIND", SecretAccessKey: "secret-access-key", SessionToken: "session-of-the-blind-worker", Policy: blindWorker}); err != nil {
				t.Fatal(err)
			}
			kmstest.Run(t, b.harness())
		})
	}
}

// The same, with AWS itself, if WAXSEAL_TEST_AWS_KEY names a key there.
func TestReal(t *testing.T) {
	restoreEnvironment(t)
	kmstest.RunReal(t, "WAXSEAL_TEST_AWS_KEY", kms.NewRegistry(awskms.Backend))
}

// bench makes keys in a server, and trouble.
type bench struct {
	server      *awsserver.Server
	spec        awsserver.KeySpec
	credentials aws.CredentialsProvider
	bare        bool
	made        sync.Map // key ID → *awsserver.Key
}

// of returns the server's side of a key.
func (b *bench) of(t testing.TB, key kms.Key) *awsserver.Key {
	t.Helper()
	k, ok := b.made.Load(key.ID()[strings.LastIndexByte(key.ID(), '/')+1:])
	if !ok {
		t.Fatalf("no such key: %s", key.ID())
	}
	return k.(*awsserver.Key)
}

func (b *bench) open(t testing.TB, arn string, timeout time.Duration) kms.Key {
	t.Helper()
	key := open(t, b.server, awskms.Config{Key: arn, Credentials: b.credentials, Timeout: timeout})
	if b.bare {
		return bare{key}
	}
	return key
}

func (b *bench) create(t testing.TB) kms.Key {
	t.Helper()
	k := createKey(t, b.server, b.spec)
	b.made.Store(k.ID(), k)
	return b.open(t, k.ARN(), 0)
}

func (b *bench) harness() kmstest.Harness {
	as := func(state string) func(testing.TB, kms.Key) {
		return func(t testing.TB, key kms.Key) { t.Helper(); b.of(t, key).SetState(state) }
	}
	h := kmstest.Harness{
		NewKey:   b.create,
		OtherKey: b.create,
		Reopen: func(t testing.TB, key kms.Key) kms.Key {
			t.Helper()
			return b.open(t, b.of(t, key).ARN(), 0)
		},
		Hasty: func(t testing.TB, key kms.Key) kms.Key {
			t.Helper()
			return b.open(t, b.of(t, key).ARN(), 200*time.Millisecond)
		},
		Rotate:           func(t testing.TB, key kms.Key) { t.Helper(); b.of(t, key).Rotate() },
		Disable:          as(awsserver.Disabled),
		Enable:           as(awsserver.Enabled),
		ScheduleDeletion: as(awsserver.PendingDeletion),
		Faults:           b.faults(),
		Credentials:      []string{awsserver.DefaultSecretAccessKey, "secret-access-key", "session-of-the-blind-worker"},
		Lacks: map[kmstest.Power]string{
			kmstest.PowerDisableVersion: "AWS KMS disables whole keys only",
			kmstest.PowerDestroyVersion: "AWS KMS destroys whole keys only",
			kmstest.FaultRequestDamaged: "AWS KMS has no checksums of fields: TLS finds the damage, and the signature covers the request; the test server speaks plain HTTP",
		},
	}
	if b.bare {
		maps.Copy(h.Lacks, map[kmstest.Power]string{
			kmstest.PowerRewrapper: "this identity may only encrypt and decrypt", kmstest.PowerRotator: "likewise", kmstest.PowerRetirer: "likewise", kmstest.PowerProber: "likewise",
		})
	}
	return h
}

// faults are what can go wrong on the way to AWS KMS and in it.
func (b *bench) faults() map[kmstest.Power]func(testing.TB, kms.Key) func() {
	always := func(f awsserver.Fault) func(testing.TB, kms.Key) func() {
		return func(testing.TB, kms.Key) func() {
			b.server.SetFault(awsserver.AllOperations, f)
			return func() { b.server.SetFault(awsserver.AllOperations, awsserver.Fault{}) }
		}
	}
	throttledFor := awsserver.Throttle()
	throttledFor.RetryAfter = kmstest.ThrottledFor
	return map[kmstest.Power]func(testing.TB, kms.Key) func(){
		kmstest.FaultDenied:         always(awsserver.Fault{Code: "AccessDeniedException"}),
		kmstest.FaultThrottled:      always(awsserver.Throttle()),
		kmstest.FaultThrottledFor:   always(throttledFor),
		kmstest.FaultExpired:        always(awsserver.Fault{Code: "ExpiredTokenException"}),
		kmstest.FaultServerError:    always(awsserver.Outage()),
		kmstest.FaultStall:          always(awsserver.Fault{StallInBody: true}),
		kmstest.FaultReset:          always(awsserver.Fault{ResetInBody: true}),
		kmstest.FaultNotTheKMS:      always(awsserver.Fault{Raw: []byte("<!DOCTYPE html><title>Sign in to the network</title>")}),
		kmstest.FaultWrongKey:       always(awsserver.Fault{WrongKeyID: true}),
		kmstest.FaultShortPlaintext: always(awsserver.Fault{TruncatePlaintext: true}),
		kmstest.FaultAnswerDamaged:  always(awsserver.Fault{Damage: true}),
		kmstest.FaultHugeAnswer:     always(awsserver.Fault{Raw: []byte(`{"KeyId":"` + strings.Repeat("x", 16<<20) + `"}`)}),
		kmstest.FaultDown: func(t testing.TB, _ kms.Key) func() {
			t.Helper()
			b.server.Stop()
			return func() {
				if err := b.server.Resume(); err != nil {
					t.Errorf("Resume: %v", err)
				}
			}
		},
	}
}
