package kmstest

import (
	"bytes"
	"context"
	"errors"
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

const opRewrap = "rewrap"

// rewrapperOf returns the key's power to rewrap, which the harness says it has.
func rewrapperOf(t testing.TB, key kms.Key) kms.Rewrapper {
	t.Helper()
	r, ok := kms.As[kms.Rewrapper](key)
	if !ok {
		t.Fatalf("%T is no kms.Rewrapper, but another key of the harness is", key)
	}
	return r
}

// mustRewrap rewraps from source to key and returns the outcome.
func mustRewrap(t testing.TB, key, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) []kms.Wrapped {
	t.Helper()
	got, err := rewrapperOf(t, key).Rewrap(t.Context(), source, wrapped, ec)
	if err != nil {
		t.Fatalf("Rewrap of %d: %v", len(wrapped), err)
	}
	if len(got) != len(wrapped) {
		t.Fatalf("Rewrap of %d gave %d answers", len(wrapped), len(got))
	}
	out := make([]kms.Wrapped, len(got))
	for i, r := range got {
		if r.Err != nil {
			t.Fatalf("Rewrap: item %d of %d: %v", i, len(got), r.Err)
		}
		if len(r.Wrapped.Blob) == 0 || len(r.Wrapped.Blob) > kms.MaxWrappedSize {
			t.Fatalf("Rewrap: item %d of %d: blob of %d bytes", i, len(got), len(r.Wrapped.Blob))
		}
		out[i] = r.Wrapped
	}
	return out
}

// mustNotRewrap wants every item refused with one of classes.
func mustNotRewrap(t testing.TB, key, source kms.Key, wrapped []kms.Wrapped, ec kms.Context, classes []kms.Class, secrets ...[]byte) {
	t.Helper()
	got, err := rewrapperOf(t, key).Rewrap(t.Context(), source, wrapped, ec)
	if err != nil {
		if got != nil {
			t.Error("Rewrap gave both an error and an answer")
		}
		got = slices.Repeat([]kms.Rewrapped{{Err: err}}, len(wrapped))
	}
	if len(got) != len(wrapped) {
		t.Fatalf("Rewrap of %d gave %d answers", len(wrapped), len(got))
	}
	for i, r := range got {
		if r.Wrapped.Blob != nil {
			t.Errorf("Rewrap: item %d: a blob came with the refusal, or instead of it", i)
		}
		if r.Err == nil {
			t.Errorf("Rewrap: item %d: not refused", i)
			continue
		}
		checkError(t, "Rewrap", key, opRewrap, r.Err, classes, append([][]byte{wrapped[i].Blob}, secrets...)...)
	}
}

func checkRewrap(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for _, ec := range []kms.Context{nil, {"namespace": "default"}, testContext()} {
		dataKeys := newDataKeys(3)
		before := mustWrap(t, key, dataKeys, ec)
		for _, source := range []kms.Key{key, h.Reopen(t, key)} {
			if !rewrapperOf(t, key).RewrapsFrom(source) {
				t.Fatal("RewrapsFrom says that the key does not take what it wrapped itself")
			}
			after := mustRewrap(t, key, source, before, ec)
			for i := range after {
				if bytes.Equal(after[i].Blob, before[i].Blob) {
					t.Errorf("item %d: rewrapped is the same blob", i)
				}
				checkVersion(t, h, after[i].Version)
			}
			mustUnwrap(t, key, after, ec, dataKeys)
			mustRefuse(t, key, after, kms.Context{"namespace": "other"}, refusedContext(), dataKeys...)
		}
		mustUnwrap(t, key, before, ec, dataKeys) // what was there still opens
	}
}

func checkRewrapBatch(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys := newDataKeys(250)
	wrapped := mustWrap(t, key, dataKeys, testContext())
	slices.Reverse(wrapped)
	slices.Reverse(dataKeys)
	mustUnwrap(t, key, mustRewrap(t, key, key, wrapped, testContext()), testContext(), dataKeys)
}

func checkRewrapNothing(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for name, wrapped := range map[string][]kms.Wrapped{"nil": nil, "empty": {}} {
		if got, err := rewrapperOf(t, key).Rewrap(t.Context(), key, wrapped, testContext()); err != nil || len(got) != 0 {
			t.Errorf("Rewrap of %s: %d answers, error %v", name, len(got), err)
		}
	}
}

func checkRewrapVersion(t testing.TB, h Harness) {
	key := h.NewKey(t)
	oldKey, old := wrapOne(t, key, testContext())
	h.Rotate(t, key)
	newKey, current := wrapOne(t, key, testContext())
	dataKeys := [][]byte{oldKey, newKey}
	moved := mustRewrap(t, key, key, []kms.Wrapped{old, current}, testContext())
	mustUnwrap(t, key, moved, testContext(), dataKeys)
	if h.VersionTold && (moved[0].Version != current.Version || moved[1].Version != current.Version) {
		t.Errorf("from the versions %q and %q to %q and %q, want the current one", old.Version, current.Version, moved[0].Version, moved[1].Version)
	}
	if _, given := h.Lacks[PowerDisableVersion]; !given {
		h.DisableVersion(t, key, old.Version)
		mustUnwrap(t, key, moved, testContext(), dataKeys) // the old version is not needed any more
	}
}

func checkRewrapContext(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	missing, extra, changed := testContext(), testContext(), testContext()
	delete(missing, "namespace")
	extra["extra"] = "1"
	changed["namespace"] += "2"
	for _, wrong := range []kms.Context{nil, missing, extra, changed} {
		mustNotRewrap(t, key, key, []kms.Wrapped{wrapped}, wrong, refusedContext(), dataKey)
	}
	mustUnwrap(t, key, mustRewrap(t, key, key, []kms.Wrapped{wrapped}, testContext()), testContext(), [][]byte{dataKey})
}

func checkRewrapBadItems(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys := newDataKeys(6)
	wrapped := mustWrap(t, key, dataKeys, testContext())
	bad := map[int]bool{0: true, 2: true, 5: true}
	wrapped[0].Blob = nil
	wrapped[2].Blob = slices.Clone(wrapped[2].Blob)
	wrapped[2].Blob[len(wrapped[2].Blob)-2] ^= 1
	wrapped[5].Blob = bytes.Repeat([]byte{'x'}, kms.MaxWrappedSize+1)
	got, err := rewrapperOf(t, key).Rewrap(t.Context(), key, wrapped, testContext())
	if err != nil || len(got) != len(wrapped) {
		t.Fatalf("three bad items of %d: %d answers, error %v", len(wrapped), len(got), err)
	}
	for i, r := range got {
		switch {
		case bad[i] && (r.Err == nil || r.Wrapped.Blob != nil):
			t.Errorf("item %d is bad but was not refused", i)
		case bad[i]:
			checkError(t, "bad item", key, opRewrap, r.Err, refusedBlob(), dataKeys[i], wrapped[i].Blob)
		case r.Err != nil:
			t.Errorf("item %d is good but failed: %v", i, r.Err)
		default:
			mustUnwrap(t, key, []kms.Wrapped{r.Wrapped}, testContext(), dataKeys[i:i+1])
		}
	}
}

func checkRewrapOther(t testing.TB, h Harness) {
	key, other := h.NewKey(t), h.OtherKey(t)
	dataKeys := newDataKeys(3)
	wrapped := mustWrap(t, other, dataKeys, testContext())
	if !rewrapperOf(t, key).RewrapsFrom(other) {
		mustNotRewrap(t, key, other, wrapped, testContext(), []kms.Class{kms.Internal}, dataKeys...)
		return
	}
	mustUnwrap(t, key, mustRewrap(t, key, other, wrapped, testContext()), testContext(), dataKeys)
	// What the source did not wrap is refused, also if the key itself wrapped it.
	own := mustWrap(t, key, dataKeys, testContext())
	mustNotRewrap(t, key, other, own, testContext(), refusedBlob(), dataKeys...)
}

// stranger is a key of no backend's.
type stranger struct{ kms.Key }

func checkRewrapStranger(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys := newDataKeys(2)
	foreign := stranger{NewFake("stranger")}
	if rewrapperOf(t, key).RewrapsFrom(foreign) {
		t.Error("RewrapsFrom takes a key of another KMS")
	}
	mustNotRewrap(t, key, foreign, mustWrap(t, foreign, dataKeys, testContext()), testContext(), []kms.Class{kms.Internal}, dataKeys...)
}

func checkRewrapArguments(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys, ec := newDataKeys(3), testContext()
	wrapped := mustWrap(t, key, dataKeys, ec)
	before, ecBefore := cloneWrapped(wrapped), maps.Clone(ec)
	got := mustRewrap(t, key, key, wrapped, ec)
	if !reflect.DeepEqual(wrapped, before) || !maps.Equal(ec, ecBefore) {
		t.Error("Rewrap changed its arguments")
	}
	kept := cloneWrapped(got)
	for _, w := range wrapped {
		clear(w.Blob[:cap(w.Blob)])
	}
	clear(got[0].Blob[:cap(got[0].Blob)])
	if !reflect.DeepEqual(got[1:], kept[1:]) {
		t.Error("answers share memory with arguments, or with each other")
	}
	mustUnwrap(t, key, got[1:], testContext(), dataKeys[1:])
}

func cloneWrapped(wrapped []kms.Wrapped) []kms.Wrapped {
	out := make([]kms.Wrapped, len(wrapped))
	for i, w := range wrapped {
		out[i] = kms.Wrapped{Version: w.Version, Blob: bytes.Clone(w.Blob)}
	}
	return out
}

func checkRewrapEnded(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	for cause, ctx := range ended(t) {
		got, err := rewrapperOf(t, key).Rewrap(ctx, key, []kms.Wrapped{wrapped}, testContext())
		if err == nil || got != nil {
			t.Errorf("Rewrap under a context that ended (%v): answered", cause)
			continue
		}
		checkError(t, "Rewrap", key, opRewrap, err, []kms.Class{kms.Canceled}, dataKey, wrapped.Blob)
		if !errors.Is(err, cause) {
			t.Errorf("Rewrap: errors.Is(err, %q) is false", cause)
		}
	}
}

func checkRewrapDisabled(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	h.Disable(t, key)
	mustNotRewrap(t, key, key, []kms.Wrapped{wrapped, wrapped}, testContext(), []kms.Class{kms.Disabled}, dataKey)
	h.Enable(t, key)
	mustUnwrap(t, key, mustRewrap(t, key, key, []kms.Wrapped{wrapped}, testContext()), testContext(), [][]byte{dataKey})
}

func checkRewrapFaults(t testing.TB, h Harness) {
	eachFaultOnTheWay(t, h, func(ctx context.Context, p faultPromise, key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped) {
		got, err := rewrapperOf(t, key).Rewrap(ctx, key, wrapped, testContext())
		if err != nil {
			got = slices.Repeat([]kms.Rewrapped{{Err: err}}, len(wrapped))
		}
		if len(got) != len(wrapped) {
			t.Errorf("%s: Rewrap of %d gave %d answers", p.fault, len(wrapped), len(got))
		}
		for i, r := range got {
			if r.Err == nil || r.Wrapped.Blob != nil {
				t.Errorf("%s: Rewrap: item %d: answered", p.fault, i)
				continue
			}
			p.checkFailure(t, h, fmt.Sprintf("%s: Rewrap", p.fault), key, opRewrap, r.Err, p.wrap, dataKeys...)
		}
	})
}

// eachFaultOnTheWay runs check under every fault that befalls whatever a key is
// asked, with a key of its own that is well afterwards.
func eachFaultOnTheWay(t testing.TB, h Harness, check func(ctx context.Context, p faultPromise, key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped)) {
	t.Helper()
	for _, p := range faultPromises() {
		if _, lacks := h.Lacks[p.fault]; lacks || !p.onTheWay {
			continue
		}
		key := h.NewKey(t)
		dataKeys := newDataKeys(2)
		wrapped := mustWrap(t, key, dataKeys, testContext())
		heal := once(h.Faults[p.fault](t, key))
		func() {
			defer heal() // also when check ends the test
			ctx, cancel := context.WithTimeout(t.Context(), callLimit)
			defer cancel()
			check(ctx, p, key, dataKeys, wrapped)
		}()
		mustBeBack(t, key, p.fault, wrapped, dataKeys)
	}
}
