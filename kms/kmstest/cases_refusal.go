package kmstest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

// What a refused blob may be called. Where the authentication of a KMS fails it
// cannot say what was altered; some answer as if access was denied. An altered
// blob may also name a version that does not exist or is switched off.

func refusedContext() []kms.Class { return []kms.Class{kms.Corrupt, kms.Denied} }

func refusedBlob() []kms.Class {
	return []kms.Class{kms.Corrupt, kms.Denied, kms.NotFound, kms.Disabled}
}

func refusalCases() []conformance {
	return []conformance{
		{name: "wrong key is refused", needs: []Power{PowerOther}, check: checkWrongKey},
		{name: "tampered blob is refused", check: checkTampered},
		{name: "truncated blob is refused", check: checkTruncated},
		{name: "lengthened blob is refused", check: checkLengthened},
		{name: "empty blob is refused", check: checkEmptyBlob},
		{name: "oversized blob is refused", check: checkOversized},
		{name: "foreign bytes are refused", check: checkForeign},
		{name: "one bad item harms no other", check: checkOneBadItem},
		{name: "a batch of bad items is refused one by one", check: checkAllBad},
		{name: "wrong data key length is refused", check: checkWrongLength},
	}
}

func checkWrongKey(t testing.TB, h Harness) {
	key, other := h.NewKey(t), h.OtherKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	mustRefuse(t, other, []kms.Wrapped{wrapped}, testContext(), []kms.Class{kms.Corrupt, kms.Denied, kms.NotFound}, dataKey)
	dataKey, wrapped = wrapOne(t, other, nil)
	mustRefuse(t, key, []kms.Wrapped{wrapped}, nil, []kms.Class{kms.Corrupt, kms.Denied, kms.NotFound}, dataKey)
}

// altered returns one copy of w for each blob.
func altered(w kms.Wrapped, blobs ...[]byte) []kms.Wrapped {
	out := make([]kms.Wrapped, len(blobs))
	for i, b := range blobs {
		out[i] = kms.Wrapped{Version: w.Version, Blob: b}
	}
	return out
}

func checkTampered(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	var blobs [][]byte
	flip := func(i int, mask byte) {
		b := bytes.Clone(wrapped.Blob)
		b[i] ^= mask
		blobs = append(blobs, b)
	}
	for i := range wrapped.Blob {
		flip(i, 1<<(i%8))
		flip(i, 0xff)
	}
	for i := range min(16, len(wrapped.Blob)) { // where headers and versions stand: every bit
		for bit := range 8 {
			flip(i, 1<<bit)
			flip(len(wrapped.Blob)-1-i, 1<<bit)
		}
	}
	mustRefuse(t, key, altered(wrapped, blobs...), testContext(), refusedBlob(), dataKey)
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
}

func checkTruncated(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	var blobs [][]byte
	for n := range wrapped.Blob {
		blobs = append(blobs, wrapped.Blob[:n:n])
		if n > 0 {
			blobs = append(blobs, wrapped.Blob[n:])
		}
	}
	mustRefuse(t, key, altered(wrapped, blobs...), testContext(), refusedBlob(), dataKey)
}

func checkLengthened(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	var blobs [][]byte
	for _, extra := range []string{"\x00", "\n", "\r\n", " ", "=", "A", "AAAA", "\xff\xff", string(wrapped.Blob)} {
		blobs = append(blobs, slices.Concat(wrapped.Blob, []byte(extra)), slices.Concat([]byte(extra), wrapped.Blob))
	}
	mustRefuse(t, key, altered(wrapped, blobs...), testContext(), refusedBlob(), dataKey)
}

func checkEmptyBlob(t testing.TB, h Harness) {
	mustRefuse(t, h.NewKey(t), []kms.Wrapped{{}, {Blob: []byte{}}, {Version: "1"}}, nil, []kms.Class{kms.Corrupt})
}

func checkOversized(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	for _, size := range []int{kms.MaxWrappedSize + 1, 1 << 20} {
		big := slices.Concat(wrapped.Blob, bytes.Repeat([]byte{'A'}, size-len(wrapped.Blob)))
		mustRefuse(t, key, altered(wrapped, big), testContext(), []kms.Class{kms.Corrupt}, dataKey)
	}
}

func checkForeign(t testing.TB, h Harness) {
	key := h.NewKey(t)
	blobs := [][]byte{{0}, {1}, []byte("vault:v1:"), []byte("{}"), []byte("not a wrapped key"), bytes.Repeat([]byte{0}, 64), bytes.Repeat([]byte{0xff}, 256)}
	mustRefuse(t, key, altered(kms.Wrapped{}, append(blobs, newDataKeys(8)...)...), testContext(), refusedBlob())
}

func checkOneBadItem(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys := newDataKeys(7)
	wrapped := mustWrap(t, key, dataKeys, testContext())
	bad := map[int]bool{0: true, 3: true, 6: true}
	wrapped[0].Blob = nil
	wrapped[3].Blob = slices.Clone(wrapped[3].Blob)
	wrapped[3].Blob[len(wrapped[3].Blob)-2] ^= 1
	wrapped[6].Blob = bytes.Repeat([]byte{'x'}, kms.MaxWrappedSize+1)

	got, err := key.Unwrap(t.Context(), wrapped, testContext())
	if err != nil {
		t.Fatalf("three bad items of seven failed the whole call: %v", err)
	}
	if len(got) != len(wrapped) {
		t.Fatalf("Unwrap of %d gave %d answers", len(wrapped), len(got))
	}
	for i, u := range got {
		switch {
		case bad[i] && (u.Err == nil || u.DataKey != nil):
			t.Errorf("item %d is bad but was not refused", i)
		case bad[i]:
			checkError(t, "bad item", key, "unwrap", u.Err, refusedBlob(), dataKeys[i], wrapped[i].Blob)
		case u.Err != nil:
			t.Errorf("item %d is good but failed: %v", i, u.Err)
		case !bytes.Equal(u.DataKey, dataKeys[i]):
			t.Errorf("item %d is not the data key that was wrapped", i)
		}
	}
}

func checkAllBad(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	flipped := bytes.Clone(wrapped.Blob)
	flipped[len(flipped)-1] ^= 0x80
	blobs := [][]byte{flipped, nil, wrapped.Blob[:len(wrapped.Blob)-1], bytes.Repeat([]byte{'x'}, kms.MaxWrappedSize+1), {0}}
	mustRefuse(t, key, altered(wrapped, slices.Concat(blobs, blobs)...), testContext(), refusedBlob(), dataKey)
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
}

func checkWrongLength(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for _, n := range []int{0, 1, 16, kms.DataKeySize - 1, kms.DataKeySize + 1, 64} {
		good := newDataKeys(2)
		bad := bytes.Repeat([]byte{'k'}, n)
		for _, batch := range [][][]byte{{bad}, {good[0], bad, good[1]}} {
			got, err := key.Wrap(t.Context(), batch, testContext())
			if err == nil || got != nil {
				t.Errorf("Wrap of a data key of %d bytes: not refused, or not as a whole (%d answers, error %v)", n, len(got), err)
				continue
			}
			// Internal: our own caller has a bug; no KMS was asked.
			checkError(t, "wrong length", key, "wrap", err, []kms.Class{kms.Internal}, batch...)
		}
	}
}
