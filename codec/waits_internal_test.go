package codec

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// TestWaitsOfOneTaskAddUp has several slow conversions in one workflow task.
func TestWaitsOfOneTaskAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaits(3 * time.Second)
		convert := func(run string, takes time.Duration) time.Duration {
			start := time.Now()
			ctx, done := w.bound(t.Context(), runKey{id: run})
			defer done()
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				if late, ok := errors.AsType[*lateError](context.Cause(ctx)); !ok || late.after != time.Since(start) {
					t.Errorf("cause %v", context.Cause(ctx))
				}
			}
			return time.Since(start)
		}
		var all time.Duration
		for range 5 {
			all += convert("slow", 2*time.Second)
		}
		if limit := 3*time.Second + 5*usualWait; all > limit {
			t.Errorf("five conversions took %v, more than %v", all, limit)
		}
		if got := w.left(runKey{id: "slow"}); got != usualWait {
			t.Errorf("%v left, want %v", got, usualWait)
		}
		if got := convert("another run", time.Minute); got != 3*time.Second {
			t.Errorf("another run waited %v", got)
		}
		for range 100 {
			convert("far away", usualWait)
		}
		if got := w.left(runKey{id: "far away"}); got != 3*time.Second {
			t.Errorf("a KMS that is far away used the wait up, %v left", got)
		}
		for range 2 {
			if got := convert("", time.Minute); got != 3*time.Second {
				t.Errorf("an unknown run waited %v", got)
			}
		}
		w.begin(runKey{id: "another run"})
		if got := w.left(runKey{id: "another run"}); got != 3*time.Second {
			t.Errorf("a new task has %v left", got)
		}
		convert("no guard", time.Minute)
		time.Sleep(waitWindow) //nolint:forbidigo // the clock is the test's
		if got := w.left(runKey{id: "no guard"}); got != 3*time.Second {
			t.Errorf("after the window %v are left", got)
		}
		if got := convert("no guard", time.Minute); got != 3*time.Second || w.left(runKey{id: "no guard"}) != usualWait {
			t.Errorf("after the window it waited %v", got)
		}
	})
}

func TestLateIsUnavailable(t *testing.T) {
	ctx, done := newWaits(time.Nanosecond).bound(t.Context(), runKey{id: "run"})
	defer done()
	<-ctx.Done()
	err := new(Codec).timedOut(ctx, "open payload", ctx.Err())
	if kms.ClassOf(err) != kms.Unavailable {
		t.Errorf("got %v", err)
	}
}
