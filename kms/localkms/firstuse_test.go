package localkms

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

func keysIn(t *testing.T, path string) int {
	t.Helper()
	keys, err := mustOpenKeyring(t, path).List()
	check(t, err)
	return len(keys)
}

// A codec server opens keys by names that come out of envelopes; only wrapping
// may make one.
func TestKeyIsMadeWhenItFirstWraps(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	k, err := r.Open(t.Context(), "k")
	check(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("opening did not make the file that the ID is from: %v", err)
	}
	if n := keysIn(t, path); n != 0 {
		t.Errorf("opening made %d keys", n)
	}
	_, err = k.Unwrap(t.Context(), []kms.Wrapped{{Blob: make([]byte, blobSize)}}, nil)
	wantError(t, err, kms.NotFound, `has no key "k"`)
	if n := keysIn(t, path); n != 0 {
		t.Errorf("unwrapping made %d keys", n)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { check(t, roundTrip(t.Context(), k)) })
	}
	wg.Wait()
	if n := keysIn(t, path); n != 1 {
		t.Errorf("wrapping made %d keys", n)
	}
	if v := mustList(t, r)[0].Versions; len(v) != 1 {
		t.Errorf("%d versions after many first uses at once", len(v))
	}
}

func TestRemovedKeyIsNotMadeAnew(t *testing.T) {
	path := tempPath(t)
	k := mustOpen(t, path, "k")
	check(t, k.store.update(t.Context(), false, func(c *contents) error {
		delete(c.keys, "k")
		return nil
	}))
	_, err := k.Wrap(t.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil)
	wantError(t, err, kms.NotFound, `has no key "k"`)
	if n := keysIn(t, path); n != 0 {
		t.Errorf("%d keys", n)
	}
}

func TestFirstUseOfAKeyringThatIsGone(t *testing.T) {
	path := tempPath(t)
	k, err := mustOpenKeyring(t, path).Open(t.Context(), "k")
	check(t, err)
	check(t, os.Remove(path))
	_, err = k.Wrap(t.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil)
	wantError(t, err, kms.Invalid, "there is no keyring file")
}

func mustList(t *testing.T, r *Keyring) []KeyInfo {
	t.Helper()
	keys, err := r.List()
	check(t, err)
	return keys
}

// Changing a file's mode leaves its time as it is.
func TestKeyringOpenedUpWhileInUse(t *testing.T) {
	path := tempPath(t)
	k := mustOpen(t, path, "k")
	hourAgo := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(path, hourAgo, hourAgo))
	wrapNew(t, k, nil)
	check(t, os.Chmod(path, 0o644))
	_, err := k.Wrap(t.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil)
	wantError(t, err, kms.Denied)
	check(t, os.Chmod(path, 0o600))
	wrapNew(t, k, nil)
}
