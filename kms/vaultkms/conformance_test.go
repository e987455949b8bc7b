package vaultkms_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// What a worker needs and nothing more: without the right to read the key, the
// first Wrap finds out about it in another way.
const blindWorker = `
path "+/transit/encrypt/*" { capabilities = ["update"] }
path "+/transit/decrypt/*" { capabilities = ["update"] }
`

func TestConformance(t *testing.T) {
	s := startVault(t)
	s.EnableTransit(t, "team/transit")
	s.WritePolicy(t, "blind-worker", blindWorker)
	for _, tc := range []struct {
		name, mount, keyType string
		token                vaultkms.Token
	}{
		{"AES with every right", mount, "aes256-gcm96", vaulttest.RootToken},
		{"ChaCha20 as a worker that may not read the key", "team/transit", "chacha20-poly1305", vaultkms.Token(s.Token(t, "blind-worker"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var made atomic.Int64
			open := func(t testing.TB, id string) kms.Key {
				t.Helper()
				name := id[strings.LastIndexByte(id, '/')+1:]
				return newKey(t, vaultkms.Config{Mount: tc.mount, Name: name, Address: s.Addr, Token: tc.token})
			}
			create := func(t testing.TB) kms.Key {
				t.Helper()
				name := fmt.Sprintf("key-%d", made.Add(1))
				s.CreateKey(t, tc.mount, name, map[string]any{"type": tc.keyType})
				return open(t, name)
			}
			kmstest.Run(t, kmstest.Harness{
				NewKey:   create,
				OtherKey: create,
				Reopen:   func(t testing.TB, key kms.Key) kms.Key { t.Helper(); return open(t, key.ID()) },
				Rotate: func(t testing.TB, key kms.Key) {
					t.Helper()
					s.RotateKey(t, tc.mount, key.ID()[strings.LastIndexByte(key.ID(), '/')+1:])
				},
				VersionTold: true,
				Lacks: map[kmstest.Power]string{
					kmstest.PowerDisable:         "a transit key has no off switch; min_decryption_version, which forbids old versions, has a test of its own",
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
