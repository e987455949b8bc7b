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

func TestBackoffDoublesWithFullJitter(t *testing.T) {
	for _, tt := range []struct {
		class kms.Class
		first time.Duration
	}{{kms.Unavailable, 100 * time.Millisecond}, {kms.Throttled, 500 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			const calls = 300
			fake := kmstest.NewFake("k")
			fake.Always(kmstest.Fail(tt.class))
			var s seen
			k := decorate(t, fake, resilience.Config{Attempts: 8, RetryBudget: 1, BreakerFailures: 10_000, Hooks: s.hooks()})
			var most, sum [7]time.Duration
			n := 0
			for range calls {
				s.waits = nil
				wantClass(t, wrapOnce(t.Context(), k), tt.class)
				if len(s.waits) < 7 { // the budget is one retry a call; time gives it back
					pass(20 * time.Second)
					continue
				}
				n++
				for i, w := range s.waits {
					most[i] = max(most[i], w)
					sum[i] += w
				}
				pass(20 * time.Second)
			}
			for i := range most {
				bound := min(tt.first<<i, 2*time.Second)
				if most[i] > bound || most[i] < bound*8/10 {
					t.Errorf("%v: the longest of %d waits before attempt %d is %s, want up to %s", tt.class, n, i+2, most[i], bound)
				}
				if mean := sum[i] / time.Duration(n); mean < bound*4/10 || mean > bound*6/10 {
					t.Errorf("%v: the mean wait before attempt %d is %s, want half of %s", tt.class, i+2, mean, bound)
				}
			}
		})
	}
}

// askedFor fails once, with a demand to wait for after, and answers then.
func askedFor(class kms.Class, after time.Duration) *script {
	asked := 0
	return wraps(func(context.Context) error {
		if asked++; asked > 1 {
			return nil
		}
		e := classErr(class)
		e.RetryAfter = after
		return e
	})
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		name     string
		class    kms.Class
		after    time.Duration
		deadline time.Duration // 0: none
		gaveUp   bool
	}{
		{"waits", kms.Throttled, 3 * time.Second, 10 * time.Second, false},
		{"waits when unavailable too", kms.Unavailable, 3 * time.Second, 10 * time.Second, false},
		{"waits without a deadline", kms.Throttled, 10 * time.Second, 0, false},
		{"no longer than that without a deadline", kms.Throttled, 11 * time.Second, 0, true},
		{"as long as the deadline allows", kms.Throttled, time.Minute, 2 * time.Minute, false},
		{"beyond the deadline", kms.Throttled, 10 * time.Second, 10 * time.Second, true},
		{"negative", kms.Throttled, -time.Hour, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := decorate(t, askedFor(tt.class, tt.after), resilience.Config{})
				ctx := t.Context()
				if tt.deadline > 0 {
					ctx = within(t, ctx, tt.deadline)
				}
				start := time.Now()
				err := wrapOnce(ctx, k)
				took := time.Since(start)
				if tt.gaveUp {
					wantError(t, err, tt.class, "wrap", "scripted")
					if took != 0 {
						t.Errorf("waited %s in vain", took)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if took < tt.after || took > max(tt.after, 0)+500*time.Millisecond {
					t.Errorf("came back after %s, was asked for %s", took, tt.after)
				}
			})
		})
	}
}

// TestRetryAfterOfItems: the longest wish among the items counts.
func TestRetryAfterOfItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		_, wrapped := wrapOn(t, fake, 3)
		throttled := func(after time.Duration) error {
			return &kms.Error{Class: kms.Throttled, Detail: "scripted", Advice: "none", RetryAfter: after}
		}
		fake.ScriptUnwrap(kmstest.Fault{ItemErrs: map[int]error{0: throttled(time.Second), 2: throttled(4 * time.Second)}})
		k := decorate(t, fake, resilience.Config{})
		start := time.Now()
		got, err := k.Unwrap(t.Context(), wrapped, nil)
		if err != nil || got[0].Err != nil || got[1].Err != nil || got[2].Err != nil {
			t.Fatal(got, err)
		}
		if took := time.Since(start); took < 4*time.Second {
			t.Errorf("came back after %s", took)
		}
		if n := fake.Counts().UnwrapItems; n != 5 {
			t.Errorf("asked for %d items, want three and then two", n)
		}
	})
}

func TestCallerGivesUpWhileSleeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := askedFor(kms.Throttled, 5*time.Second)
		k := decorate(t, key, resilience.Config{})
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the worker stops")
		time.AfterFunc(time.Second, func() { cancel(why) })
		start := time.Now()
		err := wrapOnce(ctx, k)
		wantError(t, err, kms.Canceled, "wrap", "the caller gave up")
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
			t.Errorf("%v does not tell who gave up, and why", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("returned after %s", took)
		}
	})
}

func TestCallerGivesUpBetweenAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		keys, wrapped := wrapOn(t, fake, 2)
		fake.Always(kmstest.FailItem(0, kms.Throttled))
		fake.ScriptUnwrap(kmstest.Fault{ItemErrs: map[int]error{0: &kms.Error{Class: kms.Throttled, RetryAfter: 5 * time.Second}}})
		k := decorate(t, fake, resilience.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		got, err := k.Unwrap(ctx, wrapped, nil)
		if err != nil || len(got) != 2 || got[1].Err != nil || string(got[1].DataKey) != string(keys[1]) {
			t.Fatalf("what was answered is lost: %v, %v", got, err)
		}
		wantError(t, got[0].Err, kms.Canceled, "unwrap", "the caller gave up")
	})
}

func TestNoTimeForAnotherAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Fault{Latency: time.Second, Err: kmstest.Err(kms.Unavailable)})
		k := decorate(t, fake, resilience.Config{})
		start := time.Now()
		err := wrapOnce(within(t, t.Context(), time.Second+time.Nanosecond), k)
		wantError(t, err, kms.Unavailable, "wrap", "scripted fault")
		if took := time.Since(start); took != time.Second {
			t.Errorf("returned after %s", took)
		}
	})
}

// TestFiveSeconds: how three attempts of two seconds meet a deadline of five. The
// third is cut short by the caller.
func TestFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Stall())
		k := decorate(t, fake, resilience.Config{})
		start := time.Now()
		wantClass(t, wrapOnce(within(t, t.Context(), 5*time.Second), k), kms.Canceled)
		if took := time.Since(start); took != 5*time.Second || fake.Counts().Wraps != 3 {
			t.Errorf("returned after %s and %d attempts", took, fake.Counts().Wraps)
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Fail(kms.Throttled))
		var s seen
		k := decorate(t, fake, resilience.Config{Attempts: 2, Hooks: s.hooks()})
		start := time.Now()
		for range 1000 {
			err := wrapOnce(t.Context(), k)
			wantError(t, err, kms.Throttled, "wrap", "scripted fault")
		}
		retries := fake.Counts().Wraps - 1000
		seconds := int(time.Since(start).Seconds())
		if most := 10 + 100 + seconds + 1; retries > most || retries < 100 {
			t.Errorf("%d retries for 1,000 calls in %d s, want about a tenth", retries, seconds)
		}
		if refused := len(s.rejected); refused != 1000-retries || s.rejected[0] != resilience.BudgetSpent {
			t.Errorf("%d calls were told to have no budget, want %d", refused, 1000-retries)
		}
		// A quiet minute gives back ten retries and no more.
		pass(time.Minute)
		s.waits = nil
		for range 12 {
			wantClass(t, wrapOnce(within(t, t.Context(), 600*time.Millisecond), k), kms.Throttled)
		}
		if got := len(s.waits); got < 10 || got > 18 {
			t.Errorf("%d retries after a quiet minute", got)
		}
	})
}

// TestHealthSavesUpNoStorm: thousands of calls that went well buy no more than a
// hundred retries on top of what the failing ones earn.
func TestHealthSavesUpNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		k := decorate(t, fake, resilience.Config{RetryBudget: 0.5, Attempts: 2, BreakerFailures: 10_000})
		for range 5000 {
			if err := wrapOnce(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		fake.Always(kmstest.Fail(kms.Unavailable))
		before := fake.Counts().Wraps
		for range 1000 {
			wantClass(t, wrapOnce(t.Context(), k), kms.Unavailable)
		}
		if retries := fake.Counts().Wraps - before - 1000; retries < 590 || retries > 690 {
			t.Errorf("%d retries, want 100 saved, 500 earned and one for each of the seconds that it took", retries)
		}
	})
}

func TestAttemptsOfOneNeverRetries(t *testing.T) {
	fake := kmstest.NewFake("k")
	fake.Always(kmstest.Fail(kms.Throttled))
	k := decorate(t, fake, resilience.Config{Attempts: 1})
	wantClass(t, wrapOnce(t.Context(), k), kms.Throttled)
	if n := fake.Counts().Wraps; n != 1 {
		t.Errorf("asked %d times", n)
	}
}
