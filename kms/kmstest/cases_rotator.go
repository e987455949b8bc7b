package kmstest

import (
	"context"
	"errors"
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

// unsupported reports whether this KMS does not have an operation that failed with
// err, and if so checks that err says what there is instead.
func unsupported(t testing.TB, what string, key kms.Key, err error) bool {
	t.Helper()
	if !errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	checkError(t, what, key, anyOp, err, []kms.Class{kms.Invalid})
	if e, ok := errors.AsType[*kms.Error](err); ok && e.Hint() == "" {
		t.Errorf("%s is not supported, and nothing says what there is instead", what)
	}
	t.Logf("%s: not supported: %v", what, err)
	return true
}

// supported is the reverse for an operation that has to succeed where there is one.
func supported(t testing.TB, what string, key kms.Key, err error) bool {
	t.Helper()
	if unsupported(t, what, key, err) {
		return false
	}
	mustDo(t, what, err)
	return true
}

func mustDo(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
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

// wantState wants a version to be in a state.
func wantState(t testing.TB, key kms.Key, id string, want kms.VersionState) {
	t.Helper()
	versions, err := powerOf[kms.Rotator](t, key).Versions(t.Context())
	mustDo(t, "Versions", err)
	i := slices.IndexFunc(versions, func(v kms.Version) bool { return v.ID == id })
	if i < 0 {
		t.Fatalf("Versions: there is no version %q among %v", id, versions)
	}
	if got := versions[i].State; got != want {
		t.Errorf("version %q is %v, want %v", id, got, want)
	}
}

// mustRotate rotates with the key's own power.
func mustRotate(t testing.TB, key kms.Key) kms.Version {
	t.Helper()
	v, err := powerOf[kms.Rotator](t, key).Rotate(t.Context())
	mustDo(t, "Rotate", err)
	return v
}

func checkVersions(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	key, version := s.key, s.wrapped[0].Version
	if got := primaryOf(t, key).ID; h.VersionTold && got != version && !h.real {
		t.Errorf("the primary is %q, but wraps as %q", got, version)
	}
	if h.real {
		return // each rotation of a real key stays, and costs
	}
	for range 2 {
		before := mustVersions(t, key)
		mustRotate(t, key)
		after := mustVersions(t, h.Reopen(t, key))
		if len(after) != len(before)+1 || after[len(after)-1].ID != primaryOf(t, key).ID {
			t.Errorf("a rotation made %d versions out of %d, or not the last one the primary", len(after), len(before))
		}
	}
}

func checkRotate(t testing.TB, h Harness) {
	key := h.NewKey(t)
	second := h.Reopen(t, key)
	old := sampleOf(t, second, 1)
	before := primaryOf(t, key)
	v := mustRotate(t, key)
	if v.ID == "" || v.ID == before.ID || !v.Primary || v.State != kms.VersionEnabled {
		t.Errorf("Rotate gave %+v, when the primary was %q", v, before.ID)
	}
	for _, k := range []kms.Key{key, second} {
		old.opens(t, k)
		s := sampleOf(t, k, 1)
		s.opens(t, key)
		if got := s.wrapped[0].Version; h.VersionTold && !h.real && got != v.ID { // a real service takes its time
			t.Errorf("after a rotation to %q a handle wraps under %q", v.ID, got)
		}
	}
	if got := primaryOf(t, key); !h.real && got.ID != v.ID {
		t.Errorf("Rotate gave %q, but the primary is %q", v.ID, got.ID)
	}
}

// twoVersions returns what a key wrapped before and after a rotation, and the older
// version's ID.
func twoVersions(t testing.TB, h Harness) (old, current sample, id string) {
	t.Helper()
	key := h.NewKey(t)
	old = sampleOf(t, key, 1)
	id = primaryOf(t, key).ID
	mustRotate(t, key)
	return old, sampleOf(t, key, 1), id
}

func checkDisableVersion(t testing.TB, h Harness) {
	old, current, id := twoVersions(t, h)
	r := powerOf[kms.Retirer](t, old.key)
	if !supported(t, "Disable of a version", old.key, r.Disable(t.Context(), id)) {
		unsupported(t, "Enable of a version", old.key, r.Enable(t.Context(), id))
		old.and(current).opens(t)
		return
	}
	wantState(t, old.key, id, kms.VersionDisabled)
	for _, k := range []kms.Key{old.key, h.Reopen(t, old.key)} {
		old.on(k).refused(t, old.ec, kms.Disabled)
		current.opens(t, k)
	}
	mustDo(t, "Enable of a version", r.Enable(t.Context(), id))
	wantState(t, old.key, id, kms.VersionEnabled)
	old.and(current).opens(t)
}

func checkDisableKey(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	r := powerOf[kms.Retirer](t, s.key)
	if !supported(t, "Disable of the key", s.key, r.Disable(t.Context(), "")) {
		unsupported(t, "Enable of the key", s.key, r.Enable(t.Context(), ""))
		s.opens(t)
		return
	}
	for _, k := range []kms.Key{s.key, h.Reopen(t, s.key)} {
		s.on(k).off(t, kms.Disabled)
	}
	mustDo(t, "Enable of the key", r.Enable(t.Context(), ""))
	s.opens(t)
	sampleOf(t, s.key, 1)
}

// checkDestroyVersion disables, destroys and, where there is time left for it,
// restores and enables the older of two versions.
func checkDestroyVersion(t testing.TB, h Harness) {
	old, current, id := twoVersions(t, h)
	key, r := old.key, powerOf[kms.Retirer](t, old.key)
	supported(t, "Disable of a version", key, r.Disable(t.Context(), id))
	at, err := r.Destroy(t.Context(), id, 0)
	if !supported(t, "Destroy of a version", key, err) {
		unsupported(t, "Restore of a version", key, r.Restore(t.Context(), id))
		return
	}
	if at.IsZero() {
		t.Error("Destroy does not say when")
	}
	old.refused(t, old.ec, kms.Disabled, kms.NotFound)
	current.opens(t)
	if !time.Now().Before(at) {
		if err := r.Restore(t.Context(), id); err == nil {
			t.Error("Restore of a version that is gone: no error")
		} else if !unsupported(t, "Restore of a version", key, err) {
			checkError(t, "Restore of a version that is gone", key, anyOp, err, []kms.Class{kms.NotFound, kms.Invalid})
		}
		return
	}
	wantState(t, key, id, kms.VersionPendingDestruction)
	mustVersions(t, key)
	mustDo(t, "Restore of a version", r.Restore(t.Context(), id))
	wantState(t, key, id, kms.VersionDisabled)
	old.refused(t, old.ec, kms.Disabled)
	mustDo(t, "Enable of a version", r.Enable(t.Context(), id))
	old.and(current).opens(t)
}

func checkDestroyKey(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	r := powerOf[kms.Retirer](t, s.key)
	supported(t, "Disable of the key", s.key, r.Disable(t.Context(), ""))
	at, err := r.Destroy(t.Context(), "", 0)
	if !supported(t, "Destroy of the key", s.key, err) {
		unsupported(t, "Restore of the key", s.key, r.Restore(t.Context(), ""))
		return
	}
	s.off(t, kms.Disabled, kms.NotFound)
	if !time.Now().Before(at) {
		if at.IsZero() {
			t.Error("Destroy does not say when")
		}
		return
	}
	mustDo(t, "Restore of the key", r.Restore(t.Context(), ""))
	s.off(t, kms.Disabled)
	mustDo(t, "Enable of the key", r.Enable(t.Context(), ""))
	s.opens(t)
}

// checkDestroyEnabled: a version has to be disabled before it is destroyed, which
// shows whether anything still needs it.
func checkDestroyEnabled(t testing.TB, h Harness) {
	old, current, id := twoVersions(t, h)
	_, err := powerOf[kms.Retirer](t, old.key).Destroy(t.Context(), id, 0)
	switch {
	case err == nil:
		t.Error("Destroy of an enabled version: not refused")
	case !unsupported(t, "Destroy of a version", old.key, err):
		checkError(t, "Destroy of an enabled version", old.key, anyOp, err, []kms.Class{kms.Invalid})
	}
	old.and(current).opens(t)
}

// retirerCalls are the operations of a Retirer, on one version.
func retirerCalls(r kms.Retirer, version string) []call {
	on := func(name string, do func(ctx context.Context, version string) error) call {
		return callOf(name, func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx, version) })
	}
	return []call{
		on("Disable", r.Disable), on("Enable", r.Enable), on("Restore", r.Restore),
		callOf("Destroy", func(ctx context.Context) (time.Time, error) { return r.Destroy(ctx, version, 0) }),
	}
}

// rotatorCalls are the operations of a Rotator.
func (s sample) rotatorCalls(t testing.TB) []call {
	t.Helper()
	r := powerOf[kms.Rotator](t, s.key)
	return []call{callOf("Rotate", r.Rotate), callOf("Versions", r.Versions)}
}

func checkUnknownVersion(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	before := mustVersions(t, s.key)
	for _, version := range []string{"4711", "0", "-1", "no such version", "../1"} {
		t.Logf("version %q", version)
		for _, c := range retirerCalls(powerOf[kms.Retirer](t, s.key), version) {
			c.fails(t.Context(), t, s, kms.NotFound, kms.Invalid)
		}
	}
	if after := mustVersions(t, s.key); !sameVersions(after, before) {
		t.Errorf("refused operations changed the versions %v to %v", before, after)
	}
	s.opens(t)
}

func checkRotatorEnded(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 1)
	before := mustVersions(t, s.key)
	calls := s.rotatorCalls(t)
	if retirer, ok := kms.As[kms.Retirer](s.key); ok {
		calls = append(calls, retirerCalls(retirer, primaryOf(t, s.key).ID)...)
	}
	for cause, ctx := range ended(t) {
		for _, c := range calls {
			answered, err := c.do(ctx)
			if errors.Is(err, errors.ErrUnsupported) {
				continue // known without a request
			}
			c.do = func(context.Context) (bool, error) { return answered, err }
			c.canceled(ctx, t, s, cause)
		}
	}
	if after := mustVersions(t, s.key); !sameVersions(after, before) {
		t.Errorf("calls under an ended context changed the versions %v to %v", before, after)
	}
}

func checkRotatorFaults(t testing.TB, h Harness) {
	eachFaultOnTheWay(t, h, func(ctx context.Context, p faultPromise, s sample) {
		for _, c := range s.rotatorCalls(t) {
			p.checkCall(ctx, t, h, s, c)
		}
	})
}
