package kmstest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

// The classes of a refused blob. A KMS cannot say what was altered if the authentication
// fails; some answer as if access was denied. An altered blob may also name a version that
// does not exist or is switched off.

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
	sampleOf(t, key, 1).on(other).refused(t, testContext(), kms.Corrupt, kms.Denied, kms.NotFound)
	sampleUnder(t, other, 1, nil).on(key).refused(t, nil, kms.Corrupt, kms.Denied, kms.NotFound)
}

// flipped returns a copy of blob with the bits of mask flipped in byte i.
func flipped(blob []byte, i int, mask byte) []byte {
	b := bytes.Clone(blob)
	b[i] ^= mask
	return b
}

func checkTampered(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	blob := s.wrapped[0].Blob
	var blobs [][]byte
	for i := range blob {
		blobs = append(blobs, flipped(blob, i, 1<<(i%8)), flipped(blob, i, 0xff))
	}
	for i := range min(16, len(blob)) { // where headers and versions stand: every bit
		for bit := range 8 {
			blobs = append(blobs, flipped(blob, i, 1<<bit), flipped(blob, len(blob)-1-i, 1<<bit))
		}
	}
	s.altered(blobs...).refused(t, s.ec, refusedBlob()...)
	s.opens(t)
}

func checkTruncated(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	blob := s.wrapped[0].Blob
	var blobs [][]byte
	for n := range blob {
		blobs = append(blobs, blob[:n:n])
		if n > 0 {
			blobs = append(blobs, blob[n:])
		}
	}
	s.altered(blobs...).refused(t, s.ec, refusedBlob()...)
}

func checkLengthened(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	blob := s.wrapped[0].Blob
	var blobs [][]byte
	for _, extra := range []string{"\x00", "\n", "\r\n", " ", "=", "A", "AAAA", "\xff\xff", string(blob)} {
		blobs = append(blobs, slices.Concat(blob, []byte(extra)), slices.Concat([]byte(extra), blob))
	}
	s.altered(blobs...).refused(t, s.ec, refusedBlob()...)
}

func checkEmptyBlob(t testing.TB, h Harness) {
	mustRefuse(t, h.NewKey(t), []kms.Wrapped{{}, {Blob: []byte{}}, {Version: "1"}}, nil, []kms.Class{kms.Corrupt})
}

func checkOversized(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	blob := s.wrapped[0].Blob
	for _, size := range []int{kms.MaxWrappedSize + 1, 1 << 20} {
		big := slices.Concat(blob, bytes.Repeat([]byte{'A'}, size-len(blob)))
		s.altered(big).refused(t, s.ec, kms.Corrupt)
	}
}

func checkForeign(t testing.TB, h Harness) {
	blobs := [][]byte{{0}, {1}, []byte("vault:v1:"), []byte("{}"), []byte("not a wrapped key"), bytes.Repeat([]byte{0}, 64), bytes.Repeat([]byte{0xff}, 256)}
	foreign := sample{key: h.NewKey(t), wrapped: make([]kms.Wrapped, 1)}
	foreign.altered(append(blobs, newDataKeys(8)...)...).refused(t, testContext(), refusedBlob()...)
}

// badAmongGood returns a sample with three bad items of seven.
func badAmongGood(t testing.TB, key kms.Key) (s sample, bad map[int]bool) {
	t.Helper()
	s = sampleOf(t, key, 7)
	s.wrapped[0].Blob = nil
	s.wrapped[3].Blob = flipped(s.wrapped[3].Blob, len(s.wrapped[3].Blob)-2, 1)
	s.wrapped[6].Blob = bytes.Repeat([]byte{'x'}, kms.MaxWrappedSize+1)
	return s, map[int]bool{0: true, 3: true, 6: true}
}

func checkOneBadItem(t testing.TB, h Harness) {
	s, bad := badAmongGood(t, h.NewKey(t))
	got, err := s.key.Unwrap(t.Context(), s.wrapped, s.ec)
	if err != nil {
		t.Fatalf("three bad items of seven failed the whole call: %v", err)
	}
	s.goodOpen(t, OpUnwrap, bad, got)
}

// goodOpen wants just the bad items of the answer to op to be refused.
func (s sample) goodOpen(t testing.TB, op Op, bad map[int]bool, got []kms.Unwrapped) {
	t.Helper()
	if len(got) != len(s.wrapped) {
		t.Fatalf("%s of %d gave %d answers", op, len(s.wrapped), len(got))
	}
	for i, u := range got {
		switch {
		case bad[i] && (u.Err == nil || u.DataKey != nil):
			t.Errorf("item %d is bad but was not refused", i)
		case bad[i]:
			checkError(t, "bad item", s.key, string(op), u.Err, refusedBlob(), s.part(i, i+1).secrets()...)
		case u.Err != nil:
			t.Errorf("item %d is good but failed: %v", i, u.Err)
		case !bytes.Equal(u.DataKey, s.dataKeys[i]):
			t.Errorf("item %d is not the data key that was wrapped", i)
		}
	}
}

func checkAllBad(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	blob := s.wrapped[0].Blob
	last := len(blob) - 1
	blobs := [][]byte{flipped(blob, last, 0x80), nil, blob[:last], bytes.Repeat([]byte{'x'}, kms.MaxWrappedSize+1), {0}}
	s.altered(slices.Repeat(blobs, 2)...).refused(t, s.ec, refusedBlob()...)
	s.opens(t)
}

// checkWrongLength: a wrong length is a bug of the caller, found without the KMS.
func checkWrongLength(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for _, n := range []int{0, 1, 16, kms.DataKeySize - 1, kms.DataKeySize + 1, 64} {
		t.Logf("data key of %d bytes", n)
		good := newDataKeys(2)
		bad := bytes.Repeat([]byte{'k'}, n)
		for _, batch := range [][][]byte{{bad}, {good[0], bad, good[1]}} {
			s := sample{key: key, ec: testContext(), dataKeys: batch}
			s.wrapCall().fails(t.Context(), t, s, kms.Internal)
		}
	}
}
