package kmstest

import (
	"bytes"
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
	sampleOf(t, key, 1)
	keepsID(t, h, key, id)
}

// keepsID wants a key, and a second handle to it, to have the ID id.
func keepsID(t testing.TB, h Harness, key kms.Key, id string) {
	t.Helper()
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
		s := sampleUnder(t, key, 1, ec)
		if bytes.Contains(s.wrapped[0].Blob, s.dataKeys[0]) {
			t.Fatalf("context %s: the data key stands in the blob unencrypted", name)
		}
		s.opens(t)
	}
	// No context and an empty one are the same: storage may turn one into the other.
	for _, ec := range []kms.Context{nil, {}} {
		s := sampleUnder(t, key, 2, ec)
		mustUnwrap(t, key, s.wrapped, nil, s.dataKeys)
		mustUnwrap(t, key, s.wrapped, kms.Context{}, s.dataKeys)
	}
	// Any 32 bytes are a data key.
	for _, b := range []byte{0, 0xff, 'a'} {
		plain := [][]byte{bytes.Repeat([]byte{b}, kms.DataKeySize)}
		mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
	}
}

func checkShape(t testing.TB, h Harness) {
	wrapped := sampleOf(t, h.NewKey(t), 3).wrapped
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
	s := sampleOf(t, h.NewKey(t), 1)
	for _, version := range []string{"", s.wrapped[0].Version, "1", "4711", "no such version"} {
		s.wrapped[0].Version = version
		t.Logf("version %q", version)
		s.opens(t)
	}
}
