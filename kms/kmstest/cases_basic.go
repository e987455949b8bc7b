package kmstest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func basicCases() []conformance {
	return []conformance{
		{name: "ID can be recorded and is stable", check: checkID},
		{name: "round trip", check: checkRoundTrip},
		{name: "two keys have two IDs", needs: []Power{PowerOther}, check: checkTwoIDs},
		{name: "wrapped size and version", check: checkShape},
		{name: "version is read from the blob", check: checkVersionOnlyNames},
	}
}

func checkID(t testing.TB, h Harness) {
	key := h.NewKey(t)
	id := key.ID()
	if err := kms.CheckID(id); err != nil {
		t.Errorf("ID %q cannot be recorded: %v", id, err)
	}
	wrapOne(t, key, nil)
	if again := key.ID(); again != id {
		t.Errorf("ID was %q and became %q", id, again)
	}
	if again := h.Reopen(t, key).ID(); again != id {
		t.Errorf("reopened, the ID is %q, was %q", again, id)
	}
}

func checkTwoIDs(t testing.TB, h Harness) {
	if id, other := h.NewKey(t).ID(), h.OtherKey(t).ID(); other == id {
		t.Errorf("two keys have the ID %q", id)
	}
}

func checkRoundTrip(t testing.TB, h Harness) {
	key := h.NewKey(t)
	contexts := map[string]kms.Context{
		"nil":           nil,
		"empty":         {},
		"one pair":      {"namespace": "default"},
		"several pairs": testContext(),
		"long value":    {"namespace": strings.Repeat("n", 255)},
	}
	for name, ec := range contexts {
		dataKey, wrapped := wrapOne(t, key, ec)
		if bytes.Contains(wrapped.Blob, dataKey) {
			t.Fatalf("context %s: the data key stands in the blob unencrypted", name)
		}
		mustUnwrap(t, key, []kms.Wrapped{wrapped}, ec, [][]byte{dataKey})
	}
	// No context and an empty one are the same: a map that came back from storage
	// does not tell them apart.
	dataKey, wrapped := wrapOne(t, key, nil)
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, kms.Context{}, [][]byte{dataKey})
	dataKey, wrapped = wrapOne(t, key, kms.Context{})
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, nil, [][]byte{dataKey})
	// Any 32 bytes are a data key.
	for _, b := range []byte{0, 0xff, 'a'} {
		plain := [][]byte{bytes.Repeat([]byte{b}, kms.DataKeySize)}
		mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
	}
}

func checkShape(t testing.TB, h Harness) {
	wrapped := mustWrap(t, h.NewKey(t), newDataKeys(3), testContext())
	for i, w := range wrapped {
		if len(w.Blob) < kms.DataKeySize || len(w.Blob) > kms.MaxWrappedSize {
			t.Errorf("item %d: blob of %d bytes, want %d to %d", i, len(w.Blob), kms.DataKeySize, kms.MaxWrappedSize)
		}
		if w.Version != wrapped[0].Version {
			t.Errorf("item %d: version %q in a batch of version %q", i, w.Version, wrapped[0].Version)
		}
		checkVersion(t, h, w.Version)
	}
}

// checkVersion checks that a version can stand after "@" in metadata, and that
// there is one just where the harness says so.
func checkVersion(t testing.TB, h Harness, version string) {
	t.Helper()
	if h.VersionTold != (version != "") {
		t.Errorf("version %q, but VersionTold = %v", version, h.VersionTold)
	}
	if strings.ContainsFunc(version, func(r rune) bool { return r <= ' ' || r > '~' || r == '@' }) || len(version) > 64 {
		t.Errorf("version %q cannot be recorded", version)
	}
}

func checkVersionOnlyNames(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	for _, version := range []string{"", wrapped.Version, "1", "4711", "no such version"} {
		wrapped.Version = version
		got := unwrapEach(t, key, []kms.Wrapped{wrapped}, testContext())
		if got[0].Err != nil || !bytes.Equal(got[0].DataKey, dataKey) {
			t.Errorf("Unwrap with Version %s: %v", fmt.Sprintf("%q", version), got[0].Err)
		}
	}
}
