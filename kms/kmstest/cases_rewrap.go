package kmstest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func rewrapperCases() []conformance {
	only := []Power{PowerRewrapper}
	return []conformance{
		{name: "rewrap keeps the data key and the context", needs: only, check: checkRewrap},
		{name: "rewrap of 250 keeps order", needs: only, check: checkRewrapBatch},
		{name: "rewrap of nothing gives nothing", needs: only, check: checkRewrapNothing},
		{name: "rewrap moves to the current version", needs: []Power{PowerRewrapper, PowerRotate}, check: checkRewrapVersion},
		{name: "rewrap under the wrong context is refused", needs: only, check: checkRewrapContext},
		{name: "rewrap: bad items harm no other", needs: only, check: checkRewrapBadItems},
		{name: "rewrap from another key, if it takes it", needs: []Power{PowerRewrapper, PowerOther}, check: checkRewrapOther},
		{name: "rewrap from a stranger's key is refused", needs: only, check: checkRewrapStranger},
		{name: "rewrap mutates nothing and aliases nothing", needs: only, check: checkRewrapArguments},
		{name: "rewrap under an ended context gives Canceled", needs: only, check: checkRewrapEnded},
		{name: "rewrap with a disabled key gives Disabled", needs: []Power{PowerRewrapper, PowerDisable}, check: checkRewrapDisabled},
		{name: "rewrap fails as wrap does", needs: only, testOnly: true, check: checkRewrapFaults},
	}
}

// rewrapped rewraps the sample from its key to key.
func (s sample) rewrapped(t testing.TB, key kms.Key) sample {
	t.Helper()
	got, err := powerOf[kms.Rewrapper](t, key).Rewrap(t.Context(), s.key, s.wrapped, s.ec)
	if err != nil || len(got) != len(s.wrapped) {
		t.Fatalf("Rewrap of %d: %d answers, error %v", len(s.wrapped), len(got), err)
	}
	s.key, s.wrapped = key, nil
	for i, r := range got {
		if r.Err != nil {
			t.Fatalf("Rewrap: item %d of %d: %v", i, len(got), r.Err)
		}
		if len(r.Wrapped.Blob) == 0 || len(r.Wrapped.Blob) > kms.MaxWrappedSize {
			t.Fatalf("Rewrap: item %d of %d: blob of %d bytes", i, len(got), len(r.Wrapped.Blob))
		}
		s.wrapped = append(s.wrapped, r.Wrapped)
	}
	return s
}

// notRewrapped wants key to refuse every item of the sample's key under ec, with one
// of classes.
func (s sample) notRewrapped(t testing.TB, key kms.Key, ec kms.Context, classes ...kms.Class) {
	t.Helper()
	got, err := powerOf[kms.Rewrapper](t, key).Rewrap(t.Context(), s.key, s.wrapped, ec)
	for i, r := range itemsOf(t, "Rewrap", len(s.wrapped), got, err, kms.Rewrapped{Err: err}) {
		if r.Wrapped.Blob != nil {
			t.Errorf("Rewrap: item %d: a blob came with the refusal, or instead of it", i)
		}
		if r.Err == nil {
			t.Errorf("Rewrap: item %d: not refused", i)
			continue
		}
		checkError(t, "Rewrap", key, string(OpRewrap), r.Err, classes, append([][]byte{s.wrapped[i].Blob}, s.dataKeys...)...)
	}
}

func checkRewrap(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for _, ec := range []kms.Context{nil, {"namespace": "default"}, testContext()} {
		before := sampleUnder(t, key, 3, ec)
		for _, source := range []kms.Key{key, h.Reopen(t, key)} {
			if !powerOf[kms.Rewrapper](t, key).RewrapsFrom(source) {
				t.Fatal("RewrapsFrom says that the key does not take what it wrapped itself")
			}
			after := before.on(source).rewrapped(t, key)
			for i, w := range after.wrapped {
				if bytes.Equal(w.Blob, before.wrapped[i].Blob) {
					t.Errorf("item %d: rewrapped is the same blob", i)
				}
				checkVersion(t, h, w.Version)
			}
			after.opens(t)
			after.refused(t, kms.Context{"namespace": "other"}, refusedContext()...)
		}
		before.opens(t) // the old blobs still open
	}
}

func checkRewrapBatch(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 250)
	slices.Reverse(s.wrapped)
	slices.Reverse(s.dataKeys)
	s.rewrapped(t, s.key).opens(t)
}

func checkRewrapNothing(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for name, wrapped := range map[string][]kms.Wrapped{"nil": nil, "empty": {}} {
		if got, err := powerOf[kms.Rewrapper](t, key).Rewrap(t.Context(), key, wrapped, testContext()); err != nil || len(got) != 0 {
			t.Errorf("Rewrap of %s: %d answers, error %v", name, len(got), err)
		}
	}
}

func checkRewrapVersion(t testing.TB, h Harness) {
	key := h.NewKey(t)
	old := sampleOf(t, key, 1)
	h.Rotate(t, key)
	both := old.and(sampleOf(t, key, 1))
	moved := both.rewrapped(t, key)
	moved.opens(t)
	was, current := both.wrapped[0].Version, both.wrapped[1].Version
	if first, second := moved.wrapped[0].Version, moved.wrapped[1].Version; h.VersionTold && (first != current || second != current) {
		t.Errorf("from the versions %q and %q to %q and %q, want the current one", was, current, first, second)
	}
	if _, given := h.Lacks[PowerDisableVersion]; !given {
		h.DisableVersion(t, key, was)
		moved.opens(t) // the old version is not needed any more
	}
}

func checkRewrapContext(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	missing, extra, changed := testContext(), testContext(), testContext()
	delete(missing, "namespace")
	extra["extra"] = "1"
	changed["namespace"] += "2"
	for _, wrong := range []kms.Context{nil, missing, extra, changed} {
		s.notRewrapped(t, s.key, wrong, refusedContext()...)
	}
	s.rewrapped(t, s.key).opens(t)
}

func checkRewrapBadItems(t testing.TB, h Harness) {
	s, bad := badAmongGood(t, h.NewKey(t))
	got, err := powerOf[kms.Rewrapper](t, s.key).Rewrap(t.Context(), s.key, s.wrapped, s.ec)
	if err != nil {
		t.Fatalf("three bad items of seven failed the whole call: %v", err)
	}
	opened := make([]kms.Unwrapped, len(got))
	for i, r := range got {
		opened[i] = kms.Unwrapped{DataKey: r.Wrapped.Blob, Err: r.Err}
		if r.Err == nil {
			opened[i] = unwrapEach(t, s.key, []kms.Wrapped{r.Wrapped}, s.ec)[0]
		}
	}
	s.goodOpen(t, OpRewrap, bad, opened)
}

func checkRewrapOther(t testing.TB, h Harness) {
	key, other := h.NewKey(t), h.OtherKey(t)
	s := sampleOf(t, other, 3)
	if !powerOf[kms.Rewrapper](t, key).RewrapsFrom(other) {
		s.notRewrapped(t, key, s.ec, kms.Internal)
		return
	}
	s.rewrapped(t, key).opens(t)
	// What the source did not wrap is refused, also if the key itself wrapped it.
	sampleOf(t, key, 3).on(other).notRewrapped(t, key, s.ec, refusedBlob()...)
}

// stranger is a key of no backend's.
type stranger struct{ kms.Key }

func checkRewrapStranger(t testing.TB, h Harness) {
	key := h.NewKey(t)
	s := sampleOf(t, stranger{NewFake("stranger")}, 2)
	if powerOf[kms.Rewrapper](t, key).RewrapsFrom(s.key) {
		t.Error("RewrapsFrom takes a key of another KMS")
	}
	s.notRewrapped(t, key, s.ec, kms.Internal)
}

func checkRewrapArguments(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 3)
	before, ecBefore := cloneWrapped(s.wrapped), maps.Clone(s.ec)
	got := s.rewrapped(t, s.key)
	if !reflect.DeepEqual(s.wrapped, before) || !maps.Equal(s.ec, ecBefore) {
		t.Error("Rewrap changed its arguments")
	}
	kept := cloneWrapped(got.wrapped)
	for _, w := range append(s.wrapped, got.wrapped[0]) {
		clear(w.Blob[:cap(w.Blob)])
	}
	if !reflect.DeepEqual(got.wrapped[1:], kept[1:]) {
		t.Error("answers share memory with arguments, or with each other")
	}
	got.part(1, 3).opens(t)
}

func checkRewrapEnded(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	s.failEnded(t, s.rewrapCall(t))
}

func checkRewrapDisabled(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 2)
	h.Disable(t, s.key)
	s.notRewrapped(t, s.key, s.ec, kms.Disabled)
	h.Enable(t, s.key)
	s.rewrapped(t, s.key).opens(t)
}

func checkRewrapFaults(t testing.TB, h Harness) {
	eachFaultOnTheWay(t, h, func(ctx context.Context, p faultPromise, s sample) {
		got, err := powerOf[kms.Rewrapper](t, s.key).Rewrap(ctx, s.key, s.wrapped, s.ec)
		for i, r := range itemsOf(t, "Rewrap", len(s.wrapped), got, err, kms.Rewrapped{Err: err}) {
			if r.Err == nil || r.Wrapped.Blob != nil {
				t.Errorf("%s: Rewrap: item %d: answered", p.fault, i)
				continue
			}
			p.checkFailure(t, h, fmt.Sprintf("%s: Rewrap", p.fault), s.key, string(OpRewrap), r.Err, p.wrap, s.dataKeys...)
		}
	})
}
