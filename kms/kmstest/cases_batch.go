package kmstest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func batchCases() []conformance {
	return []conformance{
		{name: "empty batch gives empty answer", check: checkEmptyBatch},
		{name: "batch of 1", check: func(t testing.TB, h Harness) { checkBatch(t, h, 1) }},
		{name: "batch of 2 keeps order", check: func(t testing.TB, h Harness) { checkBatch(t, h, 2) }},
		{name: "batch of 250 keeps order", check: func(t testing.TB, h Harness) { checkBatch(t, h, 250) }},
		{name: "batch of 1,000 keeps order", check: func(t testing.TB, h Harness) { checkBatch(t, h, 1000) }},
		{name: "the same blob many times in one batch", check: checkSameBlob},
	}
}

func checkEmptyBatch(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for name, dataKeys := range map[string][][]byte{"nil": nil, "empty": {}} {
		if got, err := key.Wrap(t.Context(), dataKeys, testContext()); err != nil || len(got) != 0 {
			t.Errorf("Wrap of %s: %d answers, error %v", name, len(got), err)
		}
	}
	for name, wrapped := range map[string][]kms.Wrapped{"nil": nil, "empty": {}} {
		if got, err := key.Unwrap(t.Context(), wrapped, testContext()); err != nil || len(got) != 0 {
			t.Errorf("Unwrap of %s: %d answers, error %v", name, len(got), err)
		}
	}
}

// checkBatch puts n data keys into one call each way.
func checkBatch(t testing.TB, h Harness, n int) {
	t.Helper()
	key := h.NewKey(t)
	dataKeys := newDataKeys(n)
	if n > 2 {
		dataKeys[n-1] = bytes.Clone(dataKeys[0]) // the same data key may come twice
	}
	wrapped := mustWrap(t, key, dataKeys, testContext())
	mustUnwrap(t, key, wrapped, testContext(), dataKeys)

	blobs := make(map[string]bool, n)
	for _, w := range wrapped {
		blobs[string(w.Blob)] = true
	}
	if len(blobs) != n {
		t.Errorf("%d data keys gave %d distinct blobs", n, len(blobs))
	}
	// An answer has the order of its own call, not that of wrapping.
	slices.Reverse(wrapped)
	slices.Reverse(dataKeys)
	mustUnwrap(t, key, wrapped, testContext(), dataKeys)
}

func checkSameBlob(t testing.TB, h Harness) {
	const times = 5
	s := sampleOf(t, h.NewKey(t), 1)
	got := unwrapEach(t, s.key, slices.Repeat(s.wrapped, times), s.ec)
	wipeEach(t, got, slices.Repeat(s.dataKeys, times))
}

// wipeEach wants each item to be the data key in want, also after those before it
// were wiped with their spare capacity.
func wipeEach(t testing.TB, got []kms.Unwrapped, want [][]byte) {
	t.Helper()
	for i, u := range got {
		if u.Err != nil || !bytes.Equal(u.DataKey, want[i]) {
			t.Fatalf("item %d of %d: not the data key that was wrapped (error %v)", i, len(got), u.Err)
		}
		clear(u.DataKey[:cap(u.DataKey)])
	}
}
