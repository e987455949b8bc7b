package kmstest

import (
	"bytes"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func lifecycleCases() []conformance {
	return []conformance{
		{name: "a second handle is the same key", check: checkReopen},
		{name: "old versions open after rotation", needs: []Power{PowerRotate}, check: checkRotation},
		{name: "a second handle follows rotation", needs: []Power{PowerRotate}, check: checkRotationElsewhere},
		{name: "rotation under load", needs: []Power{PowerRotate}, check: checkRotationUnderLoad},
		{name: "rotation keeps the ID", needs: []Power{PowerRotate}, check: checkRotationKeepsID},
		{name: "disabled key gives Disabled", needs: []Power{PowerDisable}, check: checkDisabled},
		{name: "disabled version gives Disabled, others open", needs: []Power{PowerRotate, PowerDisableVersion}, check: checkDisabledVersion},
		{name: "destroyed version is lost, others open", needs: []Power{PowerRotate, PowerDestroyVersion}, check: checkDestroyedVersion},
		{name: "key pending deletion gives Disabled", needs: []Power{PowerPendingDeletion}, check: checkPendingDeletion},
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

func checkRotationKeepsID(t testing.TB, h Harness) {
	key := h.NewKey(t)
	id := key.ID()
	wrapOne(t, key, nil)
	h.Rotate(t, key)
	wrapOne(t, key, nil)
	if got := key.ID(); got != id {
		t.Errorf("rotated, the ID is %q, was %q", got, id)
	}
	if got := h.Reopen(t, key).ID(); got != id {
		t.Errorf("rotated and reopened, the ID is %q, was %q", got, id)
	}
}

func checkDisabled(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	dataKey, wrapped := wrapOne(t, key, testContext())
	mustUnwrap(t, second, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})

	h.Disable(t, key)
	for _, k := range []kms.Key{key, second, h.Reopen(t, key)} {
		mustBeOff(t, k, dataKey, wrapped)
	}

	h.Enable(t, key)
	for _, k := range []kms.Key{key, second} {
		mustUnwrap(t, k, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
		wrapOne(t, k, testContext())
	}
}

// mustBeOff checks that a key neither wraps nor unwraps, with Class Disabled.
func mustBeOff(t testing.TB, key kms.Key, dataKey []byte, wrapped kms.Wrapped) {
	t.Helper()
	disabled := []kms.Class{kms.Disabled}
	got, err := key.Wrap(t.Context(), [][]byte{dataKey}, testContext())
	if err == nil || got != nil {
		t.Error("Wrap with a disabled key: answered")
	} else {
		checkError(t, "Wrap", key, "wrap", err, disabled, dataKey)
	}
	mustRefuse(t, key, []kms.Wrapped{wrapped}, testContext(), disabled, dataKey)
}

func checkDisabledVersion(t testing.TB, h Harness) {
	checkLostVersion(t, h, h.DisableVersion, []kms.Class{kms.Disabled})
}

// A KMS that keeps only a lower bound (Vault) tells no more than that the version
// is not allowed.
func checkDestroyedVersion(t testing.TB, h Harness) {
	checkLostVersion(t, h, h.DestroyVersion, []kms.Class{kms.NotFound, kms.Disabled})
}

// checkLostVersion wraps under two versions and has lose take the older one.
func checkLostVersion(t testing.TB, h Harness, lose func(testing.TB, kms.Key, string), classes []kms.Class) {
	t.Helper()
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	oldKey, old := wrapOne(t, key, testContext())
	mustUnwrap(t, second, []kms.Wrapped{old}, testContext(), [][]byte{oldKey})
	h.Rotate(t, key)
	newKey, current := wrapOne(t, key, testContext())
	lose(t, key, old.Version)
	for _, k := range []kms.Key{key, second, h.Reopen(t, key)} {
		mustRefuse(t, k, []kms.Wrapped{old}, testContext(), classes, oldKey)
		mustUnwrap(t, k, []kms.Wrapped{current}, testContext(), [][]byte{newKey})
		// In one batch the loss is that of its own item.
		got := unwrapEach(t, k, []kms.Wrapped{current, old, current}, testContext())
		for _, i := range []int{0, 2} {
			if got[i].Err != nil || !bytes.Equal(got[i].DataKey, newKey) {
				t.Errorf("beside a lost version, another one does not open: %v", got[i].Err)
			}
		}
		if got[1].Err == nil || got[1].DataKey != nil {
			t.Error("a lost version opened in a batch")
		}
		wrapOne(t, k, testContext())
	}
}

func checkPendingDeletion(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	dataKey, wrapped := wrapOne(t, key, testContext())
	mustUnwrap(t, second, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
	h.ScheduleDeletion(t, key)
	for _, k := range []kms.Key{key, second, h.Reopen(t, key)} {
		mustBeOff(t, k, dataKey, wrapped)
	}
}
