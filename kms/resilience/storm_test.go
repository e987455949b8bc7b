package resilience_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

// weather is how a KMS behaves in one storm: of a hundred calls, how many fail
// with each class, stall, are slow, or panic.
type weather struct {
	percent [8]int // by class
	stall   int
	panics  int
	slow    time.Duration
	after   time.Duration // Retry-After of what is throttled
}

func weathers() *rapid.Generator[weather] {
	return rapid.Custom(func(t *rapid.T) weather {
		var w weather
		for i := range w.percent {
			w.percent[i] = rapid.SampledFrom([]int{0, 0, 3, 15, 60}).Draw(t, kms.Class(i).String())
		}
		w.stall = rapid.SampledFrom([]int{0, 0, 5, 40}).Draw(t, "stall")
		w.panics = rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "panics")
		w.slow = time.Duration(rapid.IntRange(0, 2500).Draw(t, "slow ms")) * time.Millisecond
		w.after = time.Duration(rapid.IntRange(0, 4000).Draw(t, "after ms")) * time.Millisecond
		return w
	})
}

// fault returns what one call suffers.
func (w weather) fault(random *rand.Rand, items int) kmstest.Fault {
	f := kmstest.Fault{Latency: time.Duration(random.Int64N(int64(w.slow) + 1))}
	n := random.IntN(100)
	for class, percent := range w.percent {
		if n -= percent; n >= 0 {
			continue
		}
		err := &kms.Error{Class: kms.Class(class), Detail: "storm", Advice: "wait"}
		if err.Class == kms.Throttled {
			err.RetryAfter = w.after
		}
		if random.IntN(2) == 0 {
			f.ItemErrs = map[int]error{random.IntN(items): err}
			return f
		}
		f.Err = err
		return f
	}
	if n -= w.stall; n < 0 {
		f.Stall = true
	} else if n -= w.panics; n < 0 {
		f.Hook = func(context.Context) error { panic("storm") }
	}
	return f
}

// TestStorm: with any faults and any callers giving up, the KMS gets no more calls than
// attempts and budget allow, no caller waits past its deadline, every answer is right, and
// afterwards every place is free again.
func TestStorm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := weathers().Draw(rt, "weather")
		cfg := resilience.Config{
			Attempts:    rapid.IntRange(1, 5).Draw(rt, "attempts"),
			RetryBudget: rapid.SampledFrom([]float64{0.01, 0.1, 1}).Draw(rt, "budget"),
			Concurrency: rapid.IntRange(1, 8).Draw(rt, "concurrency"),
			Queue:       rapid.IntRange(1, 20).Draw(rt, "queue"),
			MaxBatch:    rapid.IntRange(1, 4).Draw(rt, "batch"),
		}
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) { storm(t, rt, w, cfg, seed) })
	})
}

func storm(t *testing.T, rt *rapid.T, w weather, cfg resilience.Config, seed uint64) {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	fake := kmstest.NewFake("k")
	keys, wrapped := wrapOn(t, fake, 9)
	fake.Each(func(c kmstest.Call) kmstest.Fault {
		mu.Lock()
		defer mu.Unlock()
		return w.fault(random, c.Items)
	})
	var retries atomic.Int64
	cfg.Hooks.Retry = func(string, time.Duration) { retries.Add(1) }
	k := decorate(t, fake, cfg)
	start := time.Now()
	var parts atomic.Int64
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			pass(time.Duration(draw(20_000)) * time.Millisecond)
			n := 1 + draw(9)
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			deadline := time.Duration(1+draw(6000)) * time.Millisecond
			switch draw(3) {
			case 0:
				ctx, cancel = context.WithTimeout(ctx, deadline)
			case 1:
				ctx, cancel = context.WithCancel(ctx)
				time.AfterFunc(deadline, cancel)
			default:
				deadline = time.Hour
			}
			defer cancel()
			parts.Add(int64((n + cfg.MaxBatch - 1) / cfg.MaxBatch))
			began := time.Now()
			if draw(2) == 0 {
				got, err := k.Wrap(ctx, keys[:n], nil)
				if (err == nil) != (len(got) == n) || err != nil && got != nil {
					rt.Errorf("Wrap of %d: %d answers, %v", n, len(got), err)
				}
			} else {
				got, err := k.Unwrap(ctx, wrapped[:n], nil)
				if (err == nil) != (len(got) == n) || err != nil && got != nil {
					rt.Errorf("Unwrap of %d: %d answers, %v", n, len(got), err)
				}
				for i, u := range got {
					if (u.Err == nil) == (u.DataKey == nil) || u.Err == nil && !bytes.Equal(u.DataKey, keys[i]) {
						rt.Errorf("item %d: %x, %v", i, u.DataKey, u.Err)
					}
				}
			}
			if took := time.Since(began); took > deadline {
				rt.Errorf("returned after %s, the caller gave up after %s", took, deadline)
			}
		})
	}
	wg.Wait()
	c := fake.Counts()
	calls := int(parts.Load())
	if c.Wraps+c.Unwraps > calls*cfg.Attempts {
		rt.Errorf("the KMS was asked %d times for %d parts of calls", c.Wraps+c.Unwraps, calls)
	}
	allowed := 10 + cfg.RetryBudget*float64(calls) + time.Since(start).Seconds()
	if n := retries.Load(); float64(n) > allowed {
		rt.Errorf("%d retries for %d parts of calls, allowed are %.1f", n, calls, allowed)
	}
	if w.panics == 0 && c.MaxInFlight > cfg.Concurrency { // the Fake does not count out a call that panics
		rt.Errorf("%d at one time", c.MaxInFlight)
	}
	allFree(t, rt, fake, k, cfg.Concurrency)
}

// allFree checks that as many calls as may be go through side by side again.
func allFree(t *testing.T, rt *rapid.T, fake *kmstest.Fake, k kms.Key, concurrency int) {
	fake.Heal()
	pass(resilience.Config{}.WithDefaults().BreakerOpenFor)
	if err := wrapOnce(t.Context(), k); err != nil {
		rt.Errorf("after the storm: %v", err)
	}
	fake.Always(kmstest.Slow(time.Second))
	start := time.Now()
	var wg sync.WaitGroup
	for range concurrency {
		wg.Go(func() {
			if err := wrapOnce(t.Context(), k); err != nil {
				rt.Errorf("after the storm: %v", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took != time.Second {
		rt.Errorf("after the storm, %d calls side by side took %s", concurrency, took)
	}
}

// TestBudgetOverTenThousandCalls: while half of the calls fail, the KMS gets a tenth more
// calls and not twice as many.
func TestBudgetOverTenThousandCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 10_000
		fake := kmstest.NewFake("k")
		fake.Each(func(c kmstest.Call) kmstest.Fault {
			f := kmstest.Slow(time.Millisecond)
			if c.N%2 == 0 {
				f.Err = kmstest.Err(kms.Unavailable)
			}
			return f
		})
		k := decorate(t, fake, resilience.Config{Queue: calls, BreakerFailures: calls})
		start := time.Now()
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				if err := wrapOnce(t.Context(), k); err != nil {
					wantClass(t, err, kms.Unavailable)
				}
			})
		}
		wg.Wait()
		retries := fake.Counts().Wraps - calls
		if most := 10 + calls/10 + int(time.Since(start).Seconds()) + 1; retries > most {
			t.Errorf("%d retries, allowed are %d", retries, most)
		}
		if retries < calls/20 {
			t.Errorf("%d retries: the budget is not used", retries)
		}
	})
}
