package resilience_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Slow(time.Second))
		var s seen
		k := decorate(t, fake, resilience.Config{Hooks: s.hooks()})
		var failed atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for range 32 + 64 {
			wg.Go(func() {
				if wrapOnce(t.Context(), k) != nil {
					failed.Add(1)
				}
			})
		}
		synctest.Wait()
		// The queue is full: the next call is refused at once.
		err := wrapOnce(t.Context(), k)
		wantError(t, err, kms.Throttled, "wrap", "not asked: 32 calls are under way and 64 wait")
		if !errors.Is(err, kms.ErrNotAsked) {
			t.Errorf("%v is not kms.ErrNotAsked", err)
		}
		if time.Since(start) != 0 || len(s.rejected) != 1 || s.rejected[0] != resilience.QueueFull {
			t.Errorf("after %s, rejections %v", time.Since(start), s.rejected)
		}
		if !available(t, k) {
			t.Error("a full queue opened the breaker")
		}
		wg.Wait()
		if failed.Load() != 0 || time.Since(start) != 3*time.Second {
			t.Errorf("%d failed, %s", failed.Load(), time.Since(start))
		}
		if most := fake.Counts().MaxInFlight; most != 32 {
			t.Errorf("%d at one time", most)
		}
	})
}

func TestCallerGivesUpWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Slow(time.Second))
		k := decorate(t, fake, resilience.Config{Concurrency: 1, Queue: 1})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := wrapOnce(t.Context(), k); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		err := wrapOnce(within(t, t.Context(), 500*time.Millisecond), k)
		wantError(t, err, kms.Canceled, "wrap", "the caller gave up")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		// The place in the queue is free again.
		if err := wrapOnce(t.Context(), k); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if n := fake.Counts().Wraps; n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
	})
}

// TestWaitingDoesNotCount: a long queue is no timeout, and a wait between attempts holds no
// place.
func TestWaitingDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Slow(1500 * time.Millisecond))
		k := decorate(t, fake, resilience.Config{Concurrency: 1, Queue: 9})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := wrapOnce(t.Context(), k); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()

		fake.Heal()
		fake.ScriptWrap(kmstest.Fault{Err: &kms.Error{Class: kms.Throttled, RetryAfter: time.Minute}})
		ctx := within(t, t.Context(), time.Hour)
		wg.Go(func() {
			if err := wrapOnce(ctx, k); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if err := wrapOnce(t.Context(), k); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %s behind a call that sleeps", err, time.Since(start))
		}
		wg.Wait()
	})
}

// TestRetryFindsTheQueueFull: the KMS's own word is what the caller gets.
func TestRetryFindsTheQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.ScriptWrap(kmstest.Fault{Err: &kms.Error{Class: kms.Unavailable, Detail: "went away", Advice: "wait", RetryAfter: time.Second}})
		var s seen
		k := decorate(t, fake, resilience.Config{Concurrency: 1, Queue: 1, Hooks: s.hooks(), Timeout: time.Minute})
		var wg sync.WaitGroup
		wg.Go(func() { wantError(t, wrapOnce(t.Context(), k), kms.Unavailable, "wrap", "went away") })
		synctest.Wait()
		fake.Always(kmstest.Slow(30 * time.Second))
		for range 2 {
			wg.Go(func() {
				if err := wrapOnce(t.Context(), k); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(s.rejected) != 1 || s.rejected[0] != resilience.QueueFull {
			t.Errorf("rejections %v", s.rejected)
		}
	})
}

func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Fault{Err: &kms.Error{Class: kms.Throttled, Detail: "slow down", Advice: "wait", RetryAfter: 10 * time.Second}})
		k := decorate(t, fake, resilience.Config{})
		start := time.Now()
		time.AfterFunc(time.Second, func() {
			if err := k.(kms.Closer).Close(); err != nil { // the Fake has nothing to close
				t.Error(err)
			}
		})
		wantError(t, wrapOnce(t.Context(), k), kms.Throttled, "wrap", "slow down")
		if took := time.Since(start); took != time.Second {
			t.Errorf("returned after %s", took)
		}
	})
}
