package kmstest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

func rotatorCases() []conformance {
	only, both := []Power{PowerRotator}, []Power{PowerRotator, PowerRetirer}
	return []conformance{
		{name: "Versions: in order, with one primary", needs: only, check: checkVersions},
		{name: "Rotate gives a new primary, and old data opens", needs: only, check: checkRotate},
		{name: "Disable and Enable a version", needs: both, testOnly: true, check: checkDisableVersion},
		{name: "Disable and Enable the key", needs: both, testOnly: true, check: checkDisableKey},
		{name: "Destroy and Restore a version", needs: both, testOnly: true, check: checkDestroyVersion},
		{name: "Destroy and Restore the key", needs: both, testOnly: true, check: checkDestroyKey},
		{name: "Destroy of an enabled version is refused", needs: both, testOnly: true, check: checkDestroyEnabled},
		{name: "an unknown version is refused", needs: both, testOnly: true, check: checkUnknownVersion},
		{name: "Rotator under an ended context gives Canceled", needs: only, check: checkRotatorEnded},
		{name: "Rotator fails as wrap does", needs: only, testOnly: true, check: checkRotatorFaults},
	}
}

// powerOf returns a power of the key's, which the harness says it has.
func powerOf[T any](t testing.TB, key kms.Key) T {
	t.Helper()
	power, ok := kms.As[T](key)
	if !ok {
		t.Fatalf("%T is no %v, but another key of the harness is", key, reflect.TypeFor[T]())
	}
	return power
}

// checkOf checks an error of an operation whose name is the backend's to choose.
func checkOf(t testing.TB, what string, key kms.Key, err error, classes []kms.Class, secrets ...[]byte) {
	t.Helper()
	op := "of some name"
	if e, ok := errors.AsType[*kms.Error](err); ok && e.Op != "" {
		op = e.Op
	}
	checkError(t, what, key, op, err, classes, secrets...)
}

// unsupported reports whether err says that this KMS does not have the operation,
// and if so checks that it says what there is instead.
func unsupported(t testing.TB, what string, key kms.Key, err error) bool {
	t.Helper()
	if !errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	checkOf(t, what, key, err, []kms.Class{kms.Invalid})
	if e, ok := errors.AsType[*kms.Error](err); ok && e.Hint() == "" {
		t.Errorf("%s is not supported, and nothing says what there is instead", what)
	}
	t.Logf("%s: not supported: %v", what, err)
	return true
}

// mustVersions lists the versions of a healthy key and checks what holds for
// every such list.
func mustVersions(t testing.TB, key kms.Key) []kms.Version {
	t.Helper()
	versions, err := powerOf[kms.Rotator](t, key).Versions(t.Context())
	if err != nil || len(versions) == 0 {
		t.Fatalf("Versions: %d of them, error %v", len(versions), err)
	}
	primaries, seen := 0, map[string]bool{}
	var last time.Time
	for _, v := range versions {
		if v.ID == "" || seen[v.ID] {
			t.Errorf("Versions: ID %q is empty or stands twice", v.ID)
		}
		seen[v.ID] = true
		if v.Primary {
			primaries++
			if v.State != kms.VersionEnabled {
				t.Errorf("Versions: the primary is %v", v.State)
			}
		}
		if !v.Created.IsZero() {
			if v.Created.Before(last) {
				t.Errorf("Versions: %s was made at %v, before the one that stands ahead of it", v.ID, v.Created)
			}
			if v.Created.Location() != time.UTC || time.Until(v.Created) > time.Hour {
				t.Errorf("Versions: %s was made at %v", v.ID, v.Created)
			}
			last = v.Created
		}
		if v.DestroyAt.IsZero() == (v.State == kms.VersionPendingDestruction) {
			t.Errorf("Versions: %s is %v, to be destroyed at %v", v.ID, v.State, v.DestroyAt)
		}
	}
	if primaries != 1 {
		t.Errorf("Versions: %d primaries among %d", primaries, len(versions))
	}
	return versions
}

// sameVersions reports whether two lists hold the same versions in the same states.
func sameVersions(a, b []kms.Version) bool {
	return slices.EqualFunc(a, b, func(a, b kms.Version) bool {
		return a.ID == b.ID && a.State == b.State && a.Primary == b.Primary
	})
}

// primaryOf returns the version that wraps.
func primaryOf(t testing.TB, key kms.Key) kms.Version {
	t.Helper()
	versions := mustVersions(t, key)
	i := slices.IndexFunc(versions, func(v kms.Version) bool { return v.Primary })
	if i < 0 {
		t.Fatal("no version is the primary")
	}
	return versions[i]
}

// stateOf returns the state of one version.
func stateOf(t testing.TB, key kms.Key, id string) kms.VersionState {
	t.Helper()
	versions, err := powerOf[kms.Rotator](t, key).Versions(t.Context())
	if err != nil {
		t.Fatalf("Versions: %v", err)
	}
	i := slices.IndexFunc(versions, func(v kms.Version) bool { return v.ID == id })
	if i < 0 {
		t.Fatalf("Versions: there is no version %q among %v", id, versions)
	}
	return versions[i].State
}

func wantState(t testing.TB, key kms.Key, id string, want ...kms.VersionState) {
	t.Helper()
	if got := stateOf(t, key, id); !slices.Contains(want, got) {
		t.Errorf("version %q is %v, want %v", id, got, want)
	}
}

func checkVersions(t testing.TB, h Harness) {
	key := h.NewKey(t)
	_, wrapped := wrapOne(t, key, nil)
	if got := primaryOf(t, key).ID; h.VersionTold && got != wrapped.Version && !h.real {
		t.Errorf("the primary is %q, but wraps as %q", got, wrapped.Version)
	}
	if h.real {
		return // each rotation of a real key stays, and costs
	}
	for range 2 {
		before := mustVersions(t, key)
		if _, err := powerOf[kms.Rotator](t, key).Rotate(t.Context()); err != nil {
			t.Fatalf("Rotate: %v", err)
		}
		after := mustVersions(t, h.Reopen(t, key))
		if len(after) != len(before)+1 || after[len(after)-1].ID != primaryOf(t, key).ID {
			t.Errorf("a rotation made %d versions out of %d, or not the last one the primary", len(after), len(before))
		}
	}
}

func checkRotate(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	oldKey, old := wrapOne(t, second, testContext())
	before := primaryOf(t, key)
	v, err := powerOf[kms.Rotator](t, key).Rotate(t.Context())
	if err != nil {
		t.Fatalf("Rotate: %v", err)
	}
	if v.ID == "" || v.ID == before.ID || !v.Primary || v.State != kms.VersionEnabled {
		t.Errorf("Rotate gave %+v, when the primary was %q", v, before.ID)
	}
	for _, k := range []kms.Key{key, second} {
		mustUnwrap(t, k, []kms.Wrapped{old}, testContext(), [][]byte{oldKey})
		dataKey, wrapped := wrapOne(t, k, testContext())
		mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
		if h.VersionTold && !h.real && wrapped.Version != v.ID { // a real service takes its time
			t.Errorf("after a rotation to %q a handle wraps under %q", v.ID, wrapped.Version)
		}
	}
	if got := primaryOf(t, key); !h.real && got.ID != v.ID {
		t.Errorf("Rotate gave %q, but the primary is %q", v.ID, got.ID)
	}
}

// twoVersions returns a key that was rotated, what it wrapped before and after,
// and the older version's ID.
func twoVersions(t testing.TB, h Harness) (key kms.Key, dataKeys [][]byte, old, current kms.Wrapped, id string) {
	t.Helper()
	key = h.NewKey(t)
	oldKey, old := wrapOne(t, key, testContext())
	id = primaryOf(t, key).ID
	if _, err := powerOf[kms.Rotator](t, key).Rotate(t.Context()); err != nil {
		t.Fatalf("Rotate: %v", err)
	}
	newKey, current := wrapOne(t, key, testContext())
	return key, [][]byte{oldKey, newKey}, old, current, id
}

func checkDisableVersion(t testing.TB, h Harness) {
	key, dataKeys, old, current, id := twoVersions(t, h)
	r := powerOf[kms.Retirer](t, key)
	err := r.Disable(t.Context(), id)
	if unsupported(t, "Disable of a version", key, err) {
		unsupported(t, "Enable of a version", key, r.Enable(t.Context(), id))
		mustUnwrap(t, key, []kms.Wrapped{old, current}, testContext(), dataKeys)
		return
	}
	if err != nil {
		t.Fatalf("Disable of version %s: %v", id, err)
	}
	wantState(t, key, id, kms.VersionDisabled)
	for _, k := range []kms.Key{key, h.Reopen(t, key)} {
		mustRefuse(t, k, []kms.Wrapped{old}, testContext(), []kms.Class{kms.Disabled}, dataKeys...)
		mustUnwrap(t, k, []kms.Wrapped{current}, testContext(), dataKeys[1:])
	}
	if err := r.Enable(t.Context(), id); err != nil {
		t.Fatalf("Enable of version %s: %v", id, err)
	}
	wantState(t, key, id, kms.VersionEnabled)
	mustUnwrap(t, key, []kms.Wrapped{old, current}, testContext(), dataKeys)
}

func checkDisableKey(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	r := powerOf[kms.Retirer](t, key)
	err := r.Disable(t.Context(), "")
	if unsupported(t, "Disable of the key", key, err) {
		unsupported(t, "Enable of the key", key, r.Enable(t.Context(), ""))
		mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
		return
	}
	if err != nil {
		t.Fatalf("Disable of the key: %v", err)
	}
	for _, k := range []kms.Key{key, h.Reopen(t, key)} {
		mustBeOff(t, k, dataKey, wrapped)
	}
	if err := r.Enable(t.Context(), ""); err != nil {
		t.Fatalf("Enable of the key: %v", err)
	}
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
	wrapOne(t, key, nil)
}

// checkDestroyVersion disables, destroys and, where there is time left for it,
// restores and enables the older of two versions.
func checkDestroyVersion(t testing.TB, h Harness) {
	key, dataKeys, old, current, id := twoVersions(t, h)
	r := powerOf[kms.Retirer](t, key)
	if err := r.Disable(t.Context(), id); err != nil && !unsupported(t, "Disable of a version", key, err) {
		t.Fatalf("Disable of version %s: %v", id, err)
	}
	at, err := r.Destroy(t.Context(), id, 0)
	if unsupported(t, "Destroy of a version", key, err) {
		unsupported(t, "Restore of a version", key, r.Restore(t.Context(), id))
		return
	}
	if err != nil {
		t.Fatalf("Destroy of version %s: %v", id, err)
	}
	if at.IsZero() {
		t.Error("Destroy does not say when")
	}
	mustRefuse(t, key, []kms.Wrapped{old}, testContext(), []kms.Class{kms.Disabled, kms.NotFound}, dataKeys...)
	mustUnwrap(t, key, []kms.Wrapped{current}, testContext(), dataKeys[1:])
	if !time.Now().Before(at) {
		if err := r.Restore(t.Context(), id); err == nil {
			t.Error("Restore of a version that is gone: no error")
		} else if !unsupported(t, "Restore of a version", key, err) {
			checkOf(t, "Restore of a version that is gone", key, err, []kms.Class{kms.NotFound, kms.Invalid})
		}
		return
	}
	wantState(t, key, id, kms.VersionPendingDestruction)
	mustVersions(t, key)
	if err := r.Restore(t.Context(), id); err != nil {
		t.Fatalf("Restore of version %s: %v", id, err)
	}
	wantState(t, key, id, kms.VersionDisabled)
	mustRefuse(t, key, []kms.Wrapped{old}, testContext(), []kms.Class{kms.Disabled}, dataKeys...)
	if err := r.Enable(t.Context(), id); err != nil {
		t.Fatalf("Enable of version %s: %v", id, err)
	}
	mustUnwrap(t, key, []kms.Wrapped{old, current}, testContext(), dataKeys)
}

func checkDestroyKey(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	r := powerOf[kms.Retirer](t, key)
	if err := r.Disable(t.Context(), ""); err != nil && !unsupported(t, "Disable of the key", key, err) {
		t.Fatalf("Disable of the key: %v", err)
	}
	at, err := r.Destroy(t.Context(), "", 0)
	if unsupported(t, "Destroy of the key", key, err) {
		unsupported(t, "Restore of the key", key, r.Restore(t.Context(), ""))
		return
	}
	if err != nil {
		t.Fatalf("Destroy of the key: %v", err)
	}
	got, err := key.Wrap(t.Context(), [][]byte{dataKey}, testContext())
	if err == nil || got != nil {
		t.Error("Wrap with a key that is to be destroyed: answered")
	} else {
		checkError(t, "Wrap", key, "wrap", err, []kms.Class{kms.Disabled, kms.NotFound}, dataKey)
	}
	mustRefuse(t, key, []kms.Wrapped{wrapped}, testContext(), []kms.Class{kms.Disabled, kms.NotFound}, dataKey)
	if !time.Now().Before(at) {
		if at.IsZero() {
			t.Error("Destroy does not say when")
		}
		return
	}
	if err := r.Restore(t.Context(), ""); err != nil {
		t.Fatalf("Restore of the key: %v", err)
	}
	mustBeOff(t, key, dataKey, wrapped)
	if err := r.Enable(t.Context(), ""); err != nil {
		t.Fatalf("Enable of the key: %v", err)
	}
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
}

// checkDestroyEnabled: a version is switched off before it is destroyed, which shows
// whether anything still needs it.
func checkDestroyEnabled(t testing.TB, h Harness) {
	key, dataKeys, old, current, id := twoVersions(t, h)
	_, err := powerOf[kms.Retirer](t, key).Destroy(t.Context(), id, 0)
	switch {
	case err == nil:
		t.Error("Destroy of an enabled version: not refused")
	case !unsupported(t, "Destroy of a version", key, err):
		checkOf(t, "Destroy of an enabled version", key, err, []kms.Class{kms.Invalid})
	}
	mustUnwrap(t, key, []kms.Wrapped{old, current}, testContext(), dataKeys)
}

// retirerCalls are the operations of a Retirer, on one version.
func retirerCalls(ctx context.Context, r kms.Retirer, version string) map[string]func() error {
	return map[string]func() error{
		"Disable": func() error { return r.Disable(ctx, version) },
		"Enable":  func() error { return r.Enable(ctx, version) },
		"Destroy": func() error { _, err := r.Destroy(ctx, version, 0); return err },
		"Restore": func() error { return r.Restore(ctx, version) },
	}
}

func checkUnknownVersion(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	before := mustVersions(t, key)
	for _, version := range []string{"4711", "0", "-1", "no such version", "../1"} {
		for name, call := range retirerCalls(t.Context(), powerOf[kms.Retirer](t, key), version) {
			what := fmt.Sprintf("%s of version %q", name, version)
			if err := call(); err == nil {
				t.Errorf("%s: no error", what)
			} else {
				checkOf(t, what, key, err, []kms.Class{kms.NotFound, kms.Invalid})
			}
		}
	}
	if after := mustVersions(t, key); !sameVersions(after, before) {
		t.Errorf("refused operations changed the versions %v to %v", before, after)
	}
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
}

func checkRotatorEnded(t testing.TB, h Harness) {
	key := h.NewKey(t)
	_, wrapped := wrapOne(t, key, nil)
	before := mustVersions(t, key)
	for cause, ctx := range ended(t) {
		r, calls := powerOf[kms.Rotator](t, key), map[string]func() error{}
		if retirer, ok := kms.As[kms.Retirer](key); ok {
			calls = retirerCalls(ctx, retirer, primaryOf(t, key).ID)
		}
		calls["Rotate"] = func() error { _, err := r.Rotate(ctx); return err }
		calls["Versions"] = func() error { _, err := r.Versions(ctx); return err }
		for name, call := range calls {
			err := call()
			switch {
			case err == nil:
				t.Errorf("%s under a context that ended (%v): answered", name, cause)
			case errors.Is(err, errors.ErrUnsupported): // that takes no asking
			default:
				checkOf(t, name, key, err, []kms.Class{kms.Canceled}, wrapped.Blob)
				if !errors.Is(err, cause) {
					t.Errorf("%s: errors.Is(err, %q) is false", name, cause)
				}
			}
		}
	}
	if after := mustVersions(t, key); !sameVersions(after, before) {
		t.Errorf("calls under an ended context changed the versions %v to %v", before, after)
	}
}

func checkRotatorFaults(t testing.TB, h Harness) {
	eachFaultOnTheWay(t, h, func(ctx context.Context, p faultPromise, key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped) {
		r := powerOf[kms.Rotator](t, key)
		for name, call := range map[string]func() error{
			"Rotate":   func() error { _, err := r.Rotate(ctx); return err },
			"Versions": func() error { _, err := r.Versions(ctx); return err },
		} {
			failsAs(t, h, p, name, key, call(), append(dataKeys, wrapped[0].Blob)...)
		}
	})
}

// failsAs checks the error of an operation whose name is the backend's to choose.
func failsAs(t testing.TB, h Harness, p faultPromise, what string, key kms.Key, err error, secrets ...[]byte) {
	t.Helper()
	what = fmt.Sprintf("%s: %s", p.fault, what)
	e, ok := errors.AsType[*kms.Error](err)
	switch {
	case err == nil:
		t.Errorf("%s: answered", what)
	case !ok || e.Op == "":
		t.Errorf("%s: error is a %T, not a *kms.Error with an operation", what, err)
	default:
		p.checkFailure(t, h, what, key, e.Op, err, p.wrap, secrets...)
	}
}
