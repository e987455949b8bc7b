//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// A keyring takes what another one wrapped: so its data moves to another file.
func TestRewrapFromAnotherKeyring(t *testing.T) {
	from, to := mustOpen(t, tempPath(t), "old"), mustOpen(t, tempPath(t), "new")
	dataKey, w := wrapNew(t, from, nil)
	if !to.RewrapsFrom(from) || to.RewrapsFrom(kmstest.NewFake("k")) || to.RewrapsFrom(nil) {
		t.Error("RewrapsFrom does not tell local keys from others")
	}
	got, err := to.Rewrap(t.Context(), from, []kms.Wrapped{w}, nil)
	check(t, err)
	check(t, got[0].Err)
	wantOpens(t, to, got[0].Wrapped, dataKey)

	check(t, to.Disable(t.Context(), ""))
	out, err := to.Rewrap(t.Context(), from, []kms.Wrapped{w}, nil)
	wantError(t, err, kms.Disabled, "rewrap", to.ID())
	if out != nil {
		t.Error("part of an answer came with the error")
	}
	check(t, from.Close())
	_, err = to.Rewrap(t.Context(), from, []kms.Wrapped{w}, nil)
	wantError(t, err, kms.Internal, "the key is closed")
}

// Only wrapping makes a key, and what cannot be opened is not wrapped.
func TestRewrapOfNothingMakesNoKey(t *testing.T) {
	path := tempPath(t)
	from := mustOpen(t, path, "k")
	to, err := mustOpenKeyring(t, path).Open(t.Context(), "new")
	check(t, err)
	defer func() { check(t, to.Close()) }()
	got, err := to.Rewrap(t.Context(), from, []kms.Wrapped{{Blob: []byte("x")}}, nil)
	check(t, err)
	wantError(t, got[0].Err, kms.Corrupt)
	if n := keysIn(t, path); n != 1 {
		t.Errorf("%d keys in the keyring", n)
	}
}
