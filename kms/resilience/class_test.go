package resilience_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

// TestClasses is the table of classes, seen from outside: the number of attempts, and the
// effect on the breaker.
func TestClasses(t *testing.T) {
	for _, tt := range []struct {
		class    kms.Class
		asked    int
		opens    bool // the breaker, when it keeps coming
		closesIt bool // when it comes for the trial
		reopens  bool // likewise
	}{
		{class: kms.Unavailable, asked: 3, opens: true, reopens: true},
		{class: kms.Throttled, asked: 3, closesIt: true},
		{class: kms.Denied, asked: 1, closesIt: true},
		{class: kms.NotFound, asked: 1, closesIt: true},
		{class: kms.Disabled, asked: 1, closesIt: true},
		{class: kms.Corrupt, asked: 1, closesIt: true},
		{class: kms.Internal, asked: 1, closesIt: true},
		{class: kms.Invalid, asked: 1, closesIt: true},
	} {
		t.Run(tt.class.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := kmstest.NewFake("k")
				_, wrapped := wrapOn(t, fake, 2)
				fake.Always(kmstest.Fail(tt.class))
				k := decorate(t, fake, resilience.Config{})
				_, err := k.Wrap(t.Context(), dataKeys(2), nil)
				wantError(t, err, tt.class, "wrap", "scripted fault")
				if got := fake.Counts().Wraps; got != tt.asked {
					t.Errorf("Wrap asked %d times, want %d", got, tt.asked)
				}

				k = decorate(t, fake, resilience.Config{})
				got, err := k.Unwrap(t.Context(), wrapped, nil)
				wantError(t, err, tt.class, "unwrap", "scripted fault")
				if got != nil {
					t.Error("a failed Unwrap answered")
				}
				if got := fake.Counts().Unwraps; got != tt.asked {
					t.Errorf("Unwrap asked %d times, want %d", got, tt.asked)
				}

				// Likewise when one item of several fails: its neighbor keeps its answer.
				fake.Heal()
				fake.Each(func(c kmstest.Call) kmstest.Fault { return kmstest.FailItem(c.Items-1, tt.class) })
				k = decorate(t, fake, resilience.Config{})
				items, err := k.Unwrap(t.Context(), wrapped, nil)
				if err != nil || items[0].Err != nil || len(items[0].DataKey) != kms.DataKeySize {
					t.Fatalf("the item that did not fail: %v, %v", items, err)
				}
				wantError(t, items[1].Err, tt.class, "unwrap", "scripted fault")
				if got := fake.Counts().UnwrapItems; got != 2*tt.asked+1+tt.asked {
					t.Errorf("%d items asked for over both calls, want %d: what is answered is asked for again", got, 2*tt.asked+1+tt.asked)
				}

				// The breaker, when it keeps coming.
				fake.Heal()
				fake.Always(kmstest.Fail(tt.class))
				k = decorate(t, fake, resilience.Config{Attempts: 1, BreakerFailures: 3})
				for range 10 {
					wantClass(t, wrapOnce(t.Context(), k), tt.class)
				}
				if open := !available(t, k); open != tt.opens {
					t.Errorf("after ten failures the breaker is open: %v, want %v", open, tt.opens)
				}

				// And when it comes for the trial.
				var s seen
				k = opened(t, fake, resilience.Config{Attempts: 1, Hooks: s.hooks()})
				fake.Always(kmstest.Fail(tt.class))
				wantClass(t, wrapOnce(t.Context(), k), tt.class)
				last := s.states[len(s.states)-1]
				if closed := last == resilience.Closed; closed != tt.closesIt {
					t.Errorf("after a trial the breaker is %v", last)
				}
				if open := last == resilience.Open; open != tt.reopens {
					t.Errorf("after a trial the breaker is %v", last)
				}
			})
		})
	}
}

func available(t testing.TB, k kms.Key) bool {
	t.Helper()
	a, ok := kms.As[kms.Availability](k)
	if !ok {
		t.Fatal("a decorated key is no kms.Availability")
	}
	return a.Available()
}

// opened returns a key with a breaker that is open and due for a trial.
func opened(t testing.TB, fake *kmstest.Fake, cfg resilience.Config) kms.Key {
	t.Helper()
	cfg.BreakerFailures, cfg.BreakerOpenFor = 1, time.Second
	k := decorate(t, fake, cfg)
	fake.Always(kmstest.Fail(kms.Unavailable))
	wantClass(t, wrapOnce(t.Context(), k), kms.Unavailable)
	if available(t, k) {
		t.Fatal("the breaker is not open")
	}
	fake.Heal()
	pass(time.Second)
	if !available(t, k) {
		t.Fatal("the key is not available although a trial is due")
	}
	return k
}

func TestCanceledTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		_, wrapped := wrapOn(t, fake, 3)
		fake.Always(kmstest.Stall())
		var s seen
		k := decorate(t, fake, resilience.Config{BreakerFailures: 1, Hooks: s.hooks()})
		for range 3 {
			err := wrapOnce(within(t, t.Context(), time.Second), k)
			wantError(t, err, kms.Canceled, "wrap", "canceled")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v does not tell that the deadline passed", err)
			}
		}
		got, err := k.Unwrap(within(t, t.Context(), time.Second), wrapped, nil)
		wantError(t, err, kms.Canceled, "unwrap", "canceled")
		if got != nil {
			t.Error("a canceled Unwrap answered")
		}
		if n := fake.Counts().Wraps; n != 3 {
			t.Errorf("asked %d times, want 3", n)
		}
		if len(s.states) != 0 || !available(t, k) {
			t.Errorf("callers who gave up moved the breaker: %v", s.states)
		}
	})
}

func TestCanceledGivesTheTrialBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seen
		fake := kmstest.NewFake("k")
		k := opened(t, fake, resilience.Config{Hooks: s.hooks()})
		for range 3 {
			fake.Always(kmstest.Stall())
			wantClass(t, wrapOnce(within(t, t.Context(), time.Second), k), kms.Canceled)
			if !available(t, k) {
				t.Fatal("no other trial after one whose caller gave up")
			}
		}
		fake.Heal()
		if err := wrapOnce(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		want := []resilience.State{resilience.Open, resilience.HalfOpen, resilience.Closed}
		if got := s.states; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("states %v, want %v", got, want)
		}
	})
}

// TestUnavailableOnceGone: a connection that breaks because the caller gave up
// is the caller's doing.
func TestUnavailableBecauseCallerGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := decorate(t, wraps(func(ctx context.Context) error {
			<-ctx.Done()
			return classErr(kms.Unavailable)
		}), resilience.Config{BreakerFailures: 1})
		err := wrapOnce(within(t, t.Context(), time.Second), k)
		wantError(t, err, kms.Canceled, "wrap", "the caller gave up")
		if !errors.Is(err, context.DeadlineExceeded) || !available(t, k) {
			t.Errorf("%v, available %v", err, available(t, k))
		}
	})
}

func TestOwnTimeoutIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Stall())
		var s seen
		k := decorate(t, fake, resilience.Config{Hooks: s.hooks(), BreakerFailures: 3})
		start := time.Now()
		err := wrapOnce(t.Context(), k)
		wantError(t, err, kms.Unavailable, "wrap", "no answer within 2s")
		if took := time.Since(start); took < 6*time.Second || took > 6300*time.Millisecond {
			t.Errorf("took %s, want three timeouts of 2 s", took)
		}
		for i, took := range s.took {
			if took != 2*time.Second {
				t.Errorf("attempt %d took %s", i+1, took)
			}
		}
		if available(t, k) {
			t.Error("three timeouts did not open the breaker")
		}
	})
}

// TestCanceledByNobody: a backend that shares a request among callers may give one of them
// the error of another that gave up.
func TestCanceledByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		k := decorate(t, wraps(func(context.Context) error {
			if asked++; asked < 3 {
				return classErr(kms.Canceled)
			}
			return nil
		}), resilience.Config{})
		if err := wrapOnce(t.Context(), k); err != nil || asked != 3 {
			t.Errorf("error %v after %d attempts", err, asked)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		k := decorate(t, wraps(func(context.Context) error { return context.Canceled }), resilience.Config{})
		err := wrapOnce(t.Context(), k)
		wantError(t, err, kms.Unavailable, "wrap", "the call was canceled, and not by its caller")
	})
}

func TestEndedContextAsksNobody(t *testing.T) {
	fake := kmstest.NewFake("k")
	_, wrapped := wrapOn(t, fake, 1)
	k := decorate(t, fake, resilience.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := wrapOnce(ctx, k)
	wantError(t, err, kms.Canceled, "wrap", "the caller gave up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is no context.Canceled", err)
	}
	got, err := k.Unwrap(ctx, wrapped, nil)
	wantError(t, err, kms.Canceled, "unwrap", "the caller gave up")
	if got != nil || fake.Counts() != (kmstest.Counts{}) {
		t.Errorf("answers %v, counts %+v", got, fake.Counts())
	}
}

func TestPanicIsInternal(t *testing.T) {
	asked := 0
	k := decorate(t, wraps(func(context.Context) error {
		asked++
		panic("secret")
	}), resilience.Config{Concurrency: 1})
	for range 3 { // the place is given back each time
		wantError(t, wrapOnce(t.Context(), k), kms.Internal, "wrap", "the backend panicked with a string")
	}
	if asked != 3 {
		t.Errorf("asked %d times, want once a call", asked)
	}
}
