//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"bytes"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

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
	// instead puts a file of other contents in the keyring's place.
	instead := func(change func(keyring []byte) []byte) func(testing.TB, kms.Key) func() {
		return func(t testing.TB, _ kms.Key) func() {
			check(t, os.Rename(path, path+".away"))
			writeFile(t, path, change(readFile(t, path+".away")))
			return func() { check(t, os.Rename(path+".away", path)) }
		}
	}
	const noServer, noRequests = "there is no server between us and the file", "what is read and written carries no requests"
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
		DisableVersion: func(t testing.TB, key kms.Key, version string) {
			check(t, mustOpenKeyring(t, path).Disable(nameOf(key), version))
		},
		DestroyVersion: func(t testing.TB, key kms.Key, version string) {
			destroyNow(t, path, nameOf(key), version)
		},
		ScheduleDeletion: func(t testing.TB, key kms.Key) {
			r := mustOpenKeyring(t, path)
			check(t, r.Disable(nameOf(key), ""))
			_, err := r.Destroy(nameOf(key), "", 0)
			check(t, err)
		},
		Faults: map[kmstest.Power]func(testing.TB, kms.Key) func(){
			kmstest.FaultDenied: func(t testing.TB, _ kms.Key) func() {
				check(t, os.Chmod(path, 0o640)) // works for root too, which may read everything
				return func() { check(t, os.Chmod(path, 0o600)) }
			},
			kmstest.FaultDown:          instead(func([]byte) []byte { return nil }),
			kmstest.FaultNotTheKMS:     instead(func([]byte) []byte { return []byte("<html>Please log in</html>\n") }),
			kmstest.FaultAnswerDamaged: instead(func(keyring []byte) []byte { return keyring[:len(keyring)/2] }),
			kmstest.FaultHugeAnswer: instead(func(keyring []byte) []byte {
				return append(keyring, bytes.Repeat([]byte(" "), maxFileSize)...)
			}),
		},
		VersionTold: true,
		Lacks: map[kmstest.Power]string{
			kmstest.PowerHasty:          "a file is read without waiting; a change that waits for its turn has a test of its own",
			kmstest.FaultThrottled:      "a file has no quota",
			kmstest.FaultThrottledFor:   "a file has no quota",
			kmstest.FaultExpired:        "a file is opened without credentials",
			kmstest.FaultServerError:    noServer + "; a disk that fails has tests of its own",
			kmstest.FaultStall:          "a system call for a file does not end with a context",
			kmstest.FaultReset:          noServer,
			kmstest.FaultWrongKey:       "a keyring that was replaced by another gives NotFound, and has a test of its own",
			kmstest.FaultShortPlaintext: "what is unwrapped was authenticated in this process",
			kmstest.FaultRequestDamaged: noRequests,
		},
	})
}

// destroyNow destroys a version, with its time over.
func destroyNow(t testing.TB, path, name, version string) {
	t.Helper()
	check(t, (&store{path: path}).update(t.Context(), false, func(c *contents) error {
		for _, v := range c.keys[name].versions {
			if versionName(v.number) == version {
				v.state, v.destroyAt = Pending, time.Now().UTC().Truncate(time.Second)
			}
		}
		return nil
	}))
}
