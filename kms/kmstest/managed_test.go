package kmstest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
)

func wantClass(t *testing.T, what string, err error, class kms.Class) {
	t.Helper()
	if err == nil || kms.ClassOf(err) != class {
		t.Errorf("%s: error %v, want Class %v", what, err, class)
	}
}

func TestManagedHasThePowersOfAFakeAndMore(t *testing.T) {
	f := NewFake("k")
	if _, ok := kms.As[kms.Rotator](f); ok {
		t.Error("a plain Fake is a Rotator: tests of keys without powers need one")
	}
	m := f.Managed()
	if m.ID() != f.ID() || !m.RewrapsFrom(f) || !m.RewrapsFrom(f.Reopen()) || !m.RewrapsFrom(decorated{f}) {
		t.Error("a Managed does not take what its own Fake wrapped")
	}
	if m.RewrapsFrom(NewFake("k")) || m.RewrapsFrom(nil) {
		t.Error("a Managed takes what another key wrapped")
	}
}

func TestManagedFailsAsScripted(t *testing.T) {
	m := NewFake("k").Managed()
	dataKeys := newDataKeys(3)
	wrapped := mustWrap(t, m, dataKeys, nil)
	m.Script(OpRewrap, Throttle(time.Minute), FailItem(1, kms.Denied), FlipBlob(), Fault{Drop: true})
	m.Script(OpRotate, Fail(kms.Denied))
	m.Script(OpProbe, Fail(kms.Unavailable))

	got, err := m.Rewrap(t.Context(), m, wrapped, nil)
	checkError(t, "Rewrap", m, "rewrap", err, []kms.Class{kms.Throttled})
	if e, _ := errors.AsType[*kms.Error](err); got != nil || e.RetryAfter != time.Minute {
		t.Errorf("throttled: %d answers, RetryAfter %v", len(got), e.RetryAfter)
	}
	got, err = m.Rewrap(t.Context(), m, wrapped, nil)
	if err != nil || got[0].Err != nil || got[2].Err != nil {
		t.Fatalf("one item of three fails: %v, %v", got, err)
	}
	checkError(t, "item", m, "rewrap", got[1].Err, []kms.Class{kms.Denied})
	got, err = m.Rewrap(t.Context(), m, wrapped, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		mustRefuse(t, m, []kms.Wrapped{r.Wrapped}, nil, []kms.Class{kms.Corrupt})
	}
	if got, err = m.Rewrap(t.Context(), m, wrapped, nil); err != nil || len(got) != 2 {
		t.Errorf("dropping Rewrap: %d answers, error %v", len(got), err)
	}
	_, err = m.Rotate(t.Context())
	checkError(t, "Rotate", m, "rotate", err, []kms.Class{kms.Denied})
	_, err = m.Probe(t.Context())
	checkError(t, "Probe", m, "probe", err, []kms.Class{kms.Unavailable})
	if v := m.Version(); v != "1" {
		t.Errorf("a rotation that failed made version %s", v)
	}
	if _, err := m.Rotate(t.Context()); err != nil { // the script is at its end
		t.Error(err)
	}
	want := Counts{Wraps: 1, WrapItems: 3, Unwraps: 3, UnwrapItems: 3, MaxInFlight: 1, Rewraps: 4, RewrapItems: 12, FailedRewraps: 1, Admin: 3, FailedAdmin: 2}
	if diff := cmp.Diff(want, m.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// The life of a version, and what is refused at each station.
func TestManagedVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewFake("k").Managed()
		ctx := t.Context()
		dataKey, wrapped := wrapOne(t, m, nil)
		made := time.Now()
		pause(t, time.Hour)
		if _, err := m.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
		destroy := func(version string, wait time.Duration) error { _, err := m.Destroy(ctx, version, wait); return err }
		wantClass(t, "destroy an enabled version", destroy("1", 0), kms.Invalid)
		wantClass(t, "restore an enabled version", m.Restore(ctx, "1"), kms.Invalid)
		if err := errors.Join(m.Disable(ctx, "1"), destroy("1", time.Minute)); err != nil {
			t.Fatal(err)
		}
		want := []kms.Version{
			{ID: "1", State: kms.VersionPendingDestruction, Created: made.UTC(), DestroyAt: time.Now().Add(time.Minute).UTC()},
			{ID: "2", State: kms.VersionEnabled, Primary: true, Created: time.Now().UTC()},
		}
		got, err := m.Versions(ctx)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("versions, error %v (-want +got):\n%s", err, diff)
		}
		wantClass(t, "enable a version that is to be destroyed", m.Enable(ctx, "1"), kms.Disabled)
		mustRefuse(t, m, []kms.Wrapped{wrapped}, nil, []kms.Class{kms.Disabled}, dataKey)
		if err := errors.Join(m.Restore(ctx, "1"), m.Enable(ctx, "1")); err != nil {
			t.Fatal(err)
		}
		mustUnwrap(t, m, []kms.Wrapped{wrapped}, nil, [][]byte{dataKey})

		m.DestroyVersion("1")
		m.EnableVersion("1") // of no avail
		mustRefuse(t, m, []kms.Wrapped{wrapped}, nil, []kms.Class{kms.NotFound}, dataKey)
		for what, err := range map[string]error{
			"disable": m.Disable(ctx, "1"), "enable": m.Enable(ctx, "1"), "destroy": destroy("1", 0), "restore": m.Restore(ctx, "1"),
		} {
			wantClass(t, what+" a destroyed version", err, kms.NotFound)
		}
	})
}

func TestManagedKeyState(t *testing.T) {
	m := NewFake("k").Managed()
	ctx := t.Context()
	dataKey, wrapped := wrapOne(t, m, testContext())
	_, err := m.Destroy(ctx, "", 0)
	wantClass(t, "destroy an enabled key", err, kms.Invalid)
	wantClass(t, "restore an enabled key", m.Restore(ctx, ""), kms.Invalid)

	m.ScheduleDeletion()
	sample{m, testContext(), [][]byte{dataKey}, []kms.Wrapped{wrapped}}.off(t, kms.Disabled)
	wantClass(t, "enable a key that is to be deleted", m.Enable(ctx, ""), kms.Disabled)
	_, err = m.Probe(ctx)
	wantClass(t, "probe a key that is to be deleted", err, kms.Disabled)
	if err := errors.Join(m.Restore(ctx, ""), m.Enable(ctx, "")); err != nil {
		t.Fatal(err)
	}
	mustUnwrap(t, m, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})

	// A key with its primary off wraps nothing, and says so.
	m.DisableVersion("1")
	_, err = m.Probe(ctx)
	wantClass(t, "probe a key without a usable primary", err, kms.Disabled)
	sample{m, testContext(), [][]byte{dataKey}, []kms.Wrapped{wrapped}}.off(t, kms.Disabled)
	m.EnableVersion("1")
	mustUnwrap(t, m, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
}

func TestFakePanicsOnUnknownVersion(t *testing.T) {
	for _, version := range []string{"", "0", "2", "x"} {
		t.Run(version, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			NewFake("k").DisableVersion(version)
		})
	}
}

// A key that a test rotates as an operator would.
func ExampleManaged() {
	key := NewFake("payments").Managed()
	rotator, _ := kms.As[kms.Rotator](key)
	made, err := rotator.Rotate(context.Background())
	fmt.Println(made.ID, made.State, err)

	versions, err := rotator.Versions(context.Background())
	fmt.Println(len(versions), "versions", err)
	// Output:
	// 2 enabled <nil>
	// 2 versions <nil>
}
