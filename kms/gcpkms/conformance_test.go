package gcpkms_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestConformance(t *testing.T) {
	s := startServer(t)
	for _, level := range []kmspb.ProtectionLevel{kmspb.ProtectionLevel_SOFTWARE, kmspb.ProtectionLevel_HSM, kmspb.ProtectionLevel_EXTERNAL} {
		t.Run(level.String(), func(t *testing.T) {
			var made atomic.Int64
			registry := kms.NewRegistry(gcpkms.Backend)
			open := func(t testing.TB, id string) kms.Key {
				t.Helper()
				key, err := registry.Open(t.Context(), id+"?insecure-plaintext=true&endpoint="+url.QueryEscape(s.Addr()))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { key.(*gcpkms.Key).Close() })
				return key
			}
			create := func(t testing.TB) kms.Key {
				t.Helper()
				name := fmt.Sprintf("projects/p/locations/global/keyRings/r/cryptoKeys/%s-%d", level, made.Add(1))
				if err := s.AddKeyLike(name, &kmspb.CryptoKey{
					Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: level},
				}); err != nil {
					t.Fatal(err)
				}
				return open(t, "gcpkms://"+name)
			}
			set := func(t testing.TB, key kms.Key, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) {
				t.Helper()
				if err := s.SetState(strings.TrimPrefix(key.ID(), "gcpkms://"), 0, state); err != nil {
					t.Fatal(err)
				}
			}
			kmstest.Run(t, kmstest.Harness{
				NewKey:   create,
				OtherKey: create,
				Reopen:   func(t testing.TB, key kms.Key) kms.Key { t.Helper(); return open(t, key.ID()) },
				Rotate: func(t testing.TB, key kms.Key) {
					t.Helper()
					if _, err := s.Rotate(strings.TrimPrefix(key.ID(), "gcpkms://")); err != nil {
						t.Fatal(err)
					}
				},
				Disable:     func(t testing.TB, key kms.Key) { t.Helper(); set(t, key, kmspb.CryptoKeyVersion_DISABLED) },
				Enable:      func(t testing.TB, key kms.Key) { t.Helper(); set(t, key, kmspb.CryptoKeyVersion_ENABLED) },
				VersionTold: true,
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
