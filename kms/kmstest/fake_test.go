package kmstest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/waxseal/waxseal/kms"
)

func TestFakeConforms(t *testing.T) {
	Run(t, fakeHarness())
}

func TestFakeFailsWithEveryClass(t *testing.T) {
	for _, class := range kms.Classes() {
		t.Run(class.String(), func(t *testing.T) {
			f := NewFake("k")
			dataKey, wrapped := wrapOne(t, f, nil)
			f.ScriptWrap(Fail(class))
			f.ScriptUnwrap(Fail(class), FailItem(1, class))
			got, err := f.Wrap(t.Context(), [][]byte{dataKey}, nil)
			if got != nil {
				t.Error("a failed Wrap answered")
			}
			checkError(t, "Wrap", f, "wrap", err, []kms.Class{class})
			_, err = f.Unwrap(t.Context(), []kms.Wrapped{wrapped}, nil)
			checkError(t, "Unwrap", f, "unwrap", err, []kms.Class{class})

			items, err := f.Unwrap(t.Context(), []kms.Wrapped{wrapped, wrapped, wrapped}, nil)
			if err != nil {
				t.Fatal(err)
			}
			checkError(t, "item", f, "unwrap", items[1].Err, []kms.Class{class})
			for _, i := range []int{0, 2} {
				if items[i].Err != nil || !bytes.Equal(items[i].DataKey, dataKey) {
					t.Errorf("item %d suffered too: %v", i, items[i].Err)
				}
			}
			mustUnwrap(t, f, []kms.Wrapped{wrapped}, nil, [][]byte{dataKey}) // the script is at its end
			want := Counts{Wraps: 2, Unwraps: 3, WrapItems: 2, UnwrapItems: 5, MaxInFlight: 1, FailedWraps: 1, FailedUnwraps: 1}
			if diff := cmp.Diff(want, f.Counts()); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFakeSpoilsAnswers(t *testing.T) {
	f := NewFake("k")
	dataKey, wrapped := wrapOne(t, f, nil)
	for name, fault := range map[string]Fault{"wrong data key": WrongDataKey(), "bit flip": FlipDataKey()} {
		f.ScriptUnwrap(fault)
		got := unwrapEach(t, f, []kms.Wrapped{wrapped}, nil)[0]
		if got.Err != nil || len(got.DataKey) != kms.DataKeySize || bytes.Equal(got.DataKey, dataKey) {
			t.Errorf("%s: error %v, right data key %v", name, got.Err, bytes.Equal(got.DataKey, dataKey))
		}
	}
	f.ScriptWrap(FlipBlob())
	flipped := mustWrap(t, f, [][]byte{dataKey}, nil)
	mustRefuse(t, f, flipped, nil, []kms.Class{kms.Corrupt}, dataKey)

	f.ScriptWrap(FailItem(1, kms.Throttled), Fault{Drop: true})
	f.ScriptUnwrap(Fault{Drop: true})
	if got, err := f.Wrap(t.Context(), newDataKeys(2), nil); got != nil || kms.ClassOf(err) != kms.Throttled {
		t.Errorf("Wrap with a failing item: %d answers, error %v", len(got), err)
	}
	if got, err := f.Wrap(t.Context(), newDataKeys(2), nil); err != nil || len(got) != 1 {
		t.Errorf("dropping Wrap: %d answers, error %v", len(got), err)
	}
	if got, err := f.Unwrap(t.Context(), []kms.Wrapped{wrapped, wrapped}, nil); err != nil || len(got) != 1 {
		t.Errorf("dropping Unwrap: %d answers, error %v", len(got), err)
	}
	mustUnwrap(t, f, []kms.Wrapped{wrapped}, nil, [][]byte{dataKey})
}

func TestFakeTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake("k")
		dataKey, wrapped := wrapOne(t, f, nil)
		f.ScriptUnwrap(Slow(3*time.Second), Slow(time.Hour), Stall())

		start := time.Now()
		mustUnwrap(t, f, []kms.Wrapped{wrapped}, nil, [][]byte{dataKey})
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("a slow call took %v", took)
		}
		for range 2 {
			start = time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := f.Unwrap(ctx, []kms.Wrapped{wrapped}, nil)
			cancel()
			checkError(t, "Unwrap", f, "unwrap", err, []kms.Class{kms.Canceled})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if took := time.Since(start); took != time.Minute {
				t.Errorf("a stalled call took %v", took)
			}
		}
	})
}

func TestFakeEachAlwaysHeal(t *testing.T) {
	f := NewFake("k")
	var calls []Call
	f.Each(func(c Call) Fault {
		calls = append(calls, c)
		if c.Op == OpWrap && c.N == 2 {
			return Fail(kms.Throttled)
		}
		return Healthy()
	})
	ec := kms.Context{"a": "b"}
	_, wrapped := wrapOne(t, f, ec)
	if _, err := f.Wrap(t.Context(), newDataKeys(3), nil); kms.ClassOf(err) != kms.Throttled {
		t.Errorf("second Wrap: %v", err)
	}
	unwrapEach(t, f, []kms.Wrapped{wrapped}, ec)
	want := []Call{{OpWrap, 1, 1, ec}, {OpWrap, 2, 3, nil}, {OpUnwrap, 1, 1, ec}}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}

	f.ScriptWrap(Healthy(), Fail(kms.NotFound))
	f.Always(Fail(kms.Unavailable))
	wrapOne(t, f, nil) // the script comes first
	f.Heal()
	wrapOne(t, f, nil)
	f.Always(Fail(kms.Unavailable))
	for range 3 {
		if _, err := f.Wrap(t.Context(), newDataKeys(1), nil); kms.ClassOf(err) != kms.Unavailable {
			t.Errorf("Wrap in an outage: %v", err)
		}
	}
}

func TestFakeHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake("k")
		dataKey, wrapped := wrapOne(t, f, nil)
		release := make(chan struct{})
		f.Always(Fault{Hook: func(context.Context) error { <-release; return nil }})
		for range 5 {
			go func() {
				got, err := f.Unwrap(t.Context(), []kms.Wrapped{wrapped}, nil)
				if err != nil || len(got) != 1 || !bytes.Equal(got[0].DataKey, dataKey) {
					t.Errorf("Unwrap: %d answers, error %v", len(got), err)
				}
			}()
		}
		synctest.Wait()
		if got := f.Counts(); got.MaxInFlight != 5 || got.Unwraps != 5 {
			t.Errorf("counts with five calls held: %+v", got)
		}
		close(release)
		synctest.Wait()

		cause := errors.New("secret text of a cause")
		f.Always(Fault{Hook: func(context.Context) error { return cause }})
		_, err := f.Wrap(t.Context(), [][]byte{dataKey}, nil)
		checkError(t, "Wrap", f, "wrap", err, []kms.Class{kms.Internal}, []byte(cause.Error()))
		if !errors.Is(err, cause) {
			t.Errorf("the cause is lost: %v", err)
		}
	})
}

func TestNewFakePanicsOnUnrecordableName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewFake("a b")
}

func TestBackend(t *testing.T) {
	mine := NewFake("mine")
	b := NewBackend(mine)
	r := kms.NewRegistry(b)
	open := func(uri string) kms.Key {
		t.Helper()
		k, err := r.Open(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if open("fake://mine") != kms.Key(mine) {
		t.Error("fake://mine is not mine")
	}
	made := open("fake://tenants/acme")
	if made != open("fake://tenants/acme") || made != kms.Key(b.Fake("tenants/acme")) || made.ID() != "fake://tenants/acme" {
		t.Error("a key made on first use is not kept")
	}
	if b.Fake("nobody") != nil {
		t.Error("a Fake that nobody made")
	}
	b.FailOpen(Err(kms.Denied))
	if _, err := r.Open(t.Context(), "fake://mine"); kms.ClassOf(err) != kms.Denied {
		t.Errorf("Open: %v", err)
	}
	b.FailOpen(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Open(ctx, "fake://mine"); kms.ClassOf(err) != kms.Canceled {
		t.Errorf("Open under an ended context: %v", err)
	}
	if _, err := r.Open(t.Context(), "fake://a@b"); err == nil {
		t.Error("an ID with @ was opened")
	}
	if _, err := r.Open(t.Context(), "fake://h/a@b"); err == nil {
		t.Error("an ID with @ was opened")
	}
	if got := b.Opened(); got != 6 {
		t.Errorf("Opened = %d", got)
	}
}
