package kmstest

import (
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
	before := sampleOf(t, key, 1)
	second := h.Reopen(t, key)
	before.opens(t, second)
	sampleOf(t, second, 1).opens(t, key)
}

func checkRotation(t testing.TB, h Harness) {
	key := h.NewKey(t)
	const rotations = 3
	all := sampleOf(t, key, 1)
	for range rotations {
		h.Rotate(t, key)
		all = all.and(sampleOf(t, key, 1))
	}
	versions := map[string]bool{}
	for _, w := range all.wrapped {
		checkVersion(t, h, w.Version)
		versions[w.Version] = true
	}
	if h.VersionTold && len(versions) != rotations+1 {
		t.Errorf("%d rotations gave the versions %v", rotations, versions)
	}
	all.opens(t, key, h.Reopen(t, key)) // all versions in one batch
}

func checkRotationElsewhere(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	old := sampleOf(t, second, 1) // the second handle may remember the old version
	h.Rotate(t, key)

	sampleOf(t, key, 1).opens(t, second)
	current := sampleOf(t, second, 1)
	current.opens(t, key)
	if version := old.wrapped[0].Version; h.VersionTold && current.wrapped[0].Version == version {
		t.Errorf("after a rotation elsewhere the second handle still wraps under version %q", version)
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
	sampleOf(t, key, 1)
	h.Rotate(t, key)
	sampleOf(t, key, 1)
	keepsID(t, h, key, id)
}

func checkDisabled(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	s := sampleOf(t, key, 1)
	s.opens(t, second)

	h.Disable(t, key)
	for _, k := range []kms.Key{key, second, h.Reopen(t, key)} {
		s.on(k).off(t, kms.Disabled)
	}

	h.Enable(t, key)
	for _, k := range []kms.Key{key, second} {
		s.opens(t, k)
		sampleOf(t, k, 1)
	}
}

func checkDisabledVersion(t testing.TB, h Harness) {
	checkLostVersion(t, h, h.DisableVersion, kms.Disabled)
}

// checkDestroyedVersion accepts Disabled too: a KMS that keeps only a lower bound
// (Vault) says no more than that the version is not allowed.
func checkDestroyedVersion(t testing.TB, h Harness) {
	checkLostVersion(t, h, h.DestroyVersion, kms.NotFound, kms.Disabled)
}

// checkLostVersion wraps under two versions and loses the older one.
func checkLostVersion(t testing.TB, h Harness, lose func(testing.TB, kms.Key, string), classes ...kms.Class) {
	t.Helper()
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	old := sampleOf(t, key, 1)
	old.opens(t, second)
	h.Rotate(t, key)
	current := sampleOf(t, key, 1)
	lose(t, key, old.wrapped[0].Version)
	for _, k := range []kms.Key{key, second, h.Reopen(t, key)} {
		old.on(k).refused(t, old.ec, classes...)
		current.opens(t, k)
		// In a batch only the items of the lost version fail.
		batch := current.and(old).and(current)
		got := unwrapEach(t, k, batch.wrapped, batch.ec)
		wipeEach(t, []kms.Unwrapped{got[0], got[2]}, current.and(current).dataKeys)
		if got[1].Err == nil || got[1].DataKey != nil {
			t.Error("a lost version opened in a batch")
		}
		sampleOf(t, k, 1)
	}
}

func checkPendingDeletion(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	s := sampleOf(t, key, 1)
	s.opens(t, second)
	h.ScheduleDeletion(t, key)
	for _, k := range []kms.Key{key, second, h.Reopen(t, key)} {
		s.on(k).off(t, kms.Disabled)
	}
}
