//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// TestConformance opens every key by its URI, and rotates and disables through a
// Keyring of its own, as another process would.
func TestConformance(t *testing.T) {
	path := tempPath(t)
	registry := kms.NewRegistry(Backend)
	open := func(t testing.TB, name string) kms.Key {
		t.Helper()
		key, err := registry.Open(t.Context(), URI(path, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { check(t, key.(kms.Closer).Close()) })
		return key
	}
	var n atomic.Int64
	newKey := func(t testing.TB) kms.Key {
		name := fmt.Sprintf("key-%d", n.Add(1))
		if _, err := mustOpenKeyring(t, path).Ensure(name); err != nil {
			t.Fatal(err)
		}
		return open(t, name)
	}
	nameOf := func(key kms.Key) string { return key.(*Key).name }
	kmstest.Run(t, kmstest.Harness{
		NewKey: newKey, OtherKey: newKey,
		Reopen: func(t testing.TB, key kms.Key) kms.Key { return open(t, nameOf(key)) },
		Rotate: func(t testing.TB, key kms.Key) { mustRotate(t, path, nameOf(key)) },
		Disable: func(t testing.TB, key kms.Key) {
			check(t, mustOpenKeyring(t, path).Disable(nameOf(key), ""))
		},
		Enable: func(t testing.TB, key kms.Key) {
			check(t, mustOpenKeyring(t, path).Enable(nameOf(key), ""))
		},
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
}
