package resilience_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

func TestBreakerOpensTriesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		var s seen
		k := decorate(t, fake, resilience.Config{Attempts: 1, Hooks: s.hooks()})
		fail := func(n int) {
			t.Helper()
			fake.Always(kmstest.Fail(kms.Unavailable))
			for range n {
				wantError(t, wrapOnce(t.Context(), k), kms.Unavailable, "wrap", "scripted fault")
			}
		}
		fail(4)
		fake.Heal()
		if err := wrapOnce(t.Context(), k); err != nil { // one answer, and it counts from zero
			t.Fatal(err)
		}
		fail(4)
		if !available(t, k) {
			t.Fatal("open after four failures in a row")
		}
		fail(1)
		if available(t, k) {
			t.Fatal("not open after five failures in a row")
		}

		asked := fake.Counts().Wraps
		pass(1960 * time.Millisecond)
		err := wrapOnce(t.Context(), k)
		wantError(t, err, kms.Unavailable, "wrap", "not asked: it has not been answering (scripted fault); it will be tried again in 3s")
		if !errors.Is(err, fakeCause(t, err)) || !errors.Is(err, kms.ErrNotAsked) || !strings.Contains(hint(err), "a test asked for it") {
			t.Errorf("%v lost its cause or its hint %q", err, hint(err))
		}
		if fake.Counts().Wraps != asked {
			t.Error("an open breaker let a call through")
		}

		pass(3040 * time.Millisecond)
		if !available(t, k) {
			t.Fatal("no trial after five seconds")
		}
		fail(1)
		if available(t, k) {
			t.Fatal("a trial that failed did not open it again")
		}
		pass(5 * time.Second)
		fake.Heal()
		if err := wrapOnce(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		fail(4)
		if !available(t, k) {
			t.Error("closed by a trial, it remembers failures of before")
		}
		o, h, c := resilience.Open, resilience.HalfOpen, resilience.Closed
		if diff := cmp.Diff([]resilience.State{o, h, o, h, c}, s.states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]resilience.Reason{resilience.BreakerOpen}, s.rejected); diff != "" {
			t.Errorf("rejections (-want +got):\n%s", diff)
		}
	})
}

// fakeCause returns the error of the KMS that err has as its cause.
func fakeCause(t testing.TB, err error) error {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](errors.Unwrap(err))
	if !ok || e.Detail != "scripted fault" {
		t.Fatalf("the cause of %v is %v", err, errors.Unwrap(err))
	}
	return e
}

func hint(err error) string {
	h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err)
	if !ok {
		return ""
	}
	return h.Hint()
}

// TestOneTrial: of a crowd that arrives when a trial is due, one goes through.
func TestOneTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		k := opened(t, fake, resilience.Config{})
		fake.Always(kmstest.Slow(time.Second))
		before := fake.Counts().Wraps
		var mu sync.Mutex
		var refused, served int
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				err := wrapOnce(t.Context(), k)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					served++
					return
				}
				refused++
				wantError(t, err, kms.Unavailable, "wrap", "it is being tried again just now")
			})
		}
		synctest.Wait()
		if available(t, k) {
			t.Error("available while the trial is under way")
		}
		wg.Wait()
		if served != 1 || refused != 49 || fake.Counts().Wraps-before != 1 {
			t.Errorf("%d served and %d refused, %d asked", served, refused, fake.Counts().Wraps-before)
		}
		if !available(t, k) {
			t.Error("not available after a trial that went well")
		}
	})
}

// TestLateAnswersDoNotCount: what was sent before the breaker opened neither
// closes it nor decides the trial.
func TestLateAnswersDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan error)
		var next func() error
		k := decorate(t, wraps(func(context.Context) error { return next() }),
			resilience.Config{Attempts: 1, BreakerFailures: 1, BreakerOpenFor: time.Second})
		var wg sync.WaitGroup
		next = func() error { return <-slow }
		late := make([]error, 2)
		for i := range late {
			wg.Go(func() { late[i] = wrapOnce(t.Context(), k) })
		}
		synctest.Wait()
		next = func() error { return classErr(kms.Unavailable) }
		wantClass(t, wrapOnce(t.Context(), k), kms.Unavailable) // opens

		slow <- nil
		synctest.Wait()
		if available(t, k) {
			t.Fatal("a late answer closed the breaker")
		}
		pass(time.Second)
		trial := make(chan error)
		next = func() error { return <-trial }
		var tried error
		wg.Go(func() { tried = wrapOnce(t.Context(), k) })
		synctest.Wait()
		slow <- classErr(kms.Unavailable)
		synctest.Wait()
		trial <- nil
		wg.Wait()
		if (late[0] == nil) == (late[1] == nil) || tried != nil {
			t.Errorf("late ones %v, trial %v: a late answer is still one to its caller", late, tried)
		}
		if !available(t, k) {
			t.Error("a late failure decided the trial")
		}
	})
}

// TestItsOwnFailuresOpenTheBreaker: a call that opened it does not wait for an attempt that
// will be refused, and returns the KMS's last error.
func TestItsOwnFailuresOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Fail(kms.Unavailable))
		var s seen
		k := decorate(t, fake, resilience.Config{BreakerFailures: 2, Hooks: s.hooks()})
		wantError(t, wrapOnce(t.Context(), k), kms.Unavailable, "wrap", "scripted fault")
		if fake.Counts().Wraps != 2 || len(s.waits) != 1 {
			t.Errorf("%d attempts and %d waits, want 2 and 1", fake.Counts().Wraps, len(s.waits))
		}
	})
}

// TestOpenedWhileSleeping: the breaker opens between two attempts of a call.
func TestOpenedWhileSleeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.ScriptWrap(kmstest.Fault{Err: &kms.Error{Class: kms.Throttled, Detail: "slow down", Advice: "wait", RetryAfter: time.Second}})
		fake.Always(kmstest.Fail(kms.Unavailable))
		k := decorate(t, fake, resilience.Config{BreakerFailures: 2, Attempts: 2})
		var wg sync.WaitGroup
		wg.Go(func() {
			wantError(t, wrapOnce(t.Context(), k), kms.Throttled, "wrap", "slow down")
		})
		synctest.Wait()
		wantClass(t, wrapOnce(t.Context(), k), kms.Unavailable)
		if available(t, k) {
			t.Fatal("not open")
		}
		wg.Wait()
		if n := fake.Counts().Wraps; n != 3 {
			t.Errorf("asked %d times, want 3", n)
		}
	})
}

// TestOpenedWhileQueued: calls in the queue of a KMS that goes away fail with that error,
// and do not each run into their timeout.
func TestOpenedWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Stall())
		k := decorate(t, fake, resilience.Config{Attempts: 1, Concurrency: 5, Queue: 50})
		start := time.Now()
		var wg sync.WaitGroup
		for range 55 {
			wg.Go(func() { wantClass(t, wrapOnce(t.Context(), k), kms.Unavailable) })
		}
		wg.Wait()
		// Four got in while the first five were failing, one by one.
		if took := time.Since(start); took > 4*time.Second || fake.Counts().Wraps > 5+4 {
			t.Errorf("took %s and %d attempts", took, fake.Counts().Wraps)
		}
	})
}

// TestCauseWithoutDetail: a backend that says nothing leaves nothing to quote.
func TestCauseWithoutDetail(t *testing.T) {
	k := decorate(t, wraps(func(context.Context) error { return &kms.Error{Class: kms.Unavailable, Op: "wrap"} }),
		resilience.Config{Attempts: 1, BreakerFailures: 1})
	wantClass(t, wrapOnce(t.Context(), k), kms.Unavailable)
	err := wrapOnce(t.Context(), k)
	wantError(t, err, kms.Unavailable, "wrap", "not asked: it has not been answering; it will be tried again in 5s")
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		resilience.Closed.String(): "closed", resilience.Open.String(): "open", resilience.HalfOpen.String(): "half-open",
		resilience.State(9).String(): "unknown", resilience.QueueFull.String(): "queue full",
		resilience.BreakerOpen.String(): "breaker open", resilience.BudgetSpent.String(): "budget spent",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := resilience.Reason(9).String(); got != "unknown" {
		t.Errorf("%q", got)
	}
}
