package kmstest

import (
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func lifecycleCases() []conformance {
	return []conformance{
		{name: "a second handle is the same key", check: checkReopen},
		{name: "old versions open after rotation", needs: PowerRotate, check: checkRotation},
		{name: "a second handle follows rotation", needs: PowerRotate, check: checkRotationElsewhere},
		{name: "rotation under load", needs: PowerRotate, check: checkRotationUnderLoad},
		{name: "disabled key gives Disabled", needs: PowerDisable, check: checkDisabled},
	}
}

func checkReopen(t testing.TB, h Harness) {
	key := h.NewKey(t)
	before, wrappedBefore := wrapOne(t, key, testContext())
	second := h.Reopen(t, key)
	mustUnwrap(t, second, []kms.Wrapped{wrappedBefore}, testContext(), [][]byte{before})
	after, wrappedAfter := wrapOne(t, second, testContext())
	mustUnwrap(t, key, []kms.Wrapped{wrappedAfter}, testContext(), [][]byte{after})
}

func checkRotation(t testing.TB, h Harness) {
	key := h.NewKey(t)
	const rotations = 3
	var dataKeys [][]byte
	var wrapped []kms.Wrapped
	versions := map[string]bool{}
	for i := range rotations + 1 {
		if i > 0 {
			h.Rotate(t, key)
		}
		d, w := wrapOne(t, key, testContext())
		checkVersion(t, h, w.Version)
		dataKeys, wrapped = append(dataKeys, d), append(wrapped, w)
		versions[w.Version] = true
	}
	if h.VersionTold && len(versions) != rotations+1 {
		t.Errorf("%d rotations gave the versions %v", rotations, versions)
	}
	mustUnwrap(t, key, wrapped, testContext(), dataKeys) // all versions in one batch
	mustUnwrap(t, h.Reopen(t, key), wrapped, testContext(), dataKeys)
}

func checkRotationElsewhere(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	_, old := wrapOne(t, second, testContext()) // it has used, and may remember, the old version
	h.Rotate(t, key)

	dataKey, wrapped := wrapOne(t, key, testContext())
	mustUnwrap(t, second, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
	dataKey, wrapped = wrapOne(t, second, testContext())
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
	if h.VersionTold && wrapped.Version == old.Version {
		t.Errorf("after a rotation elsewhere the second handle still wraps under version %q", old.Version)
	}
}

func checkRotationUnderLoad(t testing.TB, h Harness) {
	key := h.NewKey(t)
	hammer(t, key, func() {
		for range 3 {
			h.Rotate(t, key)
		}
	})
}

func checkDisabled(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	dataKey, wrapped := wrapOne(t, key, testContext())
	mustUnwrap(t, second, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})

	h.Disable(t, key)
	for _, k := range []kms.Key{key, second, h.Reopen(t, key)} {
		disabled := []kms.Class{kms.Disabled}
		got, err := k.Wrap(t.Context(), [][]byte{dataKey}, testContext())
		if err == nil || got != nil {
			t.Error("Wrap with a disabled key: answered")
		} else {
			checkError(t, "Wrap", k, "wrap", err, disabled, dataKey)
		}
		mustRefuse(t, k, []kms.Wrapped{wrapped}, testContext(), disabled, dataKey)
	}

	h.Enable(t, key)
	for _, k := range []kms.Key{key, second} {
		mustUnwrap(t, k, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
		wrapOne(t, k, testContext())
	}
}
