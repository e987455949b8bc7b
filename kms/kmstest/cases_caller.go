package kmstest

import (
	"bytes"
	"maps"
	"reflect"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func callerCases() []conformance {
	return []conformance{
		{name: "ended context gives Canceled", check: checkEnded},
		{name: "arguments are not mutated", check: checkNotMutated},
		{name: "answers are not aliased", check: checkNotAliased},
		{name: "concurrent use", check: checkConcurrent},
	}
}

func checkEnded(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	s.failEnded(t, s.wrapCall(), s.unwrapCall())
	s.opens(t) // the key is none the worse
}

func checkNotMutated(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys, ec := newDataKeys(3), testContext()
	keysBefore, ecBefore := cloneAll(dataKeys), maps.Clone(ec)
	wrapped := mustWrap(t, key, dataKeys, ec)
	if !reflect.DeepEqual(dataKeys, keysBefore) {
		t.Error("Wrap changed its data keys")
	}
	before := cloneWrapped(wrapped)
	mustUnwrap(t, key, wrapped, ec, dataKeys)
	if !reflect.DeepEqual(wrapped, before) {
		t.Error("Unwrap changed its blobs")
	}
	if !maps.Equal(ec, ecBefore) {
		t.Error("the context was changed")
	}
}

func checkNotAliased(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys := newDataKeys(3)
	want := cloneAll(dataKeys)
	wrapped := mustWrap(t, key, dataKeys, testContext())
	for _, d := range dataKeys {
		clear(d) // a caller wipes its data keys when it is done
	}
	wipeEach(t, unwrapEach(t, key, wrapped, testContext()), want)
	mustUnwrap(t, key, wrapped, testContext(), want)

	kept := bytes.Clone(wrapped[1].Blob)
	clear(wrapped[0].Blob[:cap(wrapped[0].Blob)])
	if !bytes.Equal(wrapped[1].Blob, kept) {
		t.Error("two blobs of one answer share memory")
	}
	mustUnwrap(t, key, wrapped[1:], testContext(), want[1:])
}

// inParallel calls do(0) to do(n-1) at one time and waits for all of them.
func inParallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

func checkConcurrent(t testing.TB, h Harness) {
	hammer(t, h.NewKey(t), func() {})
}

// hammer wraps and unwraps in 32 goroutines while during runs.
func hammer(t testing.TB, key kms.Key, during func()) {
	t.Helper()
	const goroutines, rounds = 32, 4
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				dataKeys := newDataKeys(2)
				wrapped, err := key.Wrap(t.Context(), dataKeys, testContext())
				if err != nil || len(wrapped) != 2 {
					t.Errorf("Wrap: %d answers, error %v", len(wrapped), err)
					return
				}
				got, err := key.Unwrap(t.Context(), wrapped, testContext())
				if err != nil || len(got) != 2 {
					t.Errorf("Unwrap: %d answers, error %v", len(got), err)
					return
				}
				for i, u := range got {
					if u.Err != nil || !bytes.Equal(u.DataKey, dataKeys[i]) {
						t.Errorf("Unwrap: item %d: not the data key that was wrapped (error %v)", i, u.Err)
					}
				}
			}
		})
	}
	defer wg.Wait() // also when during ends the test with t.Fatal
	during()
}
