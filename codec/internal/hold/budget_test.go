package hold

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// TestWaitsOfOneTaskAddUp has several slow conversions in one workflow task.
func TestWaitsOfOneTaskAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWaits(3 * time.Second)
		convert := func(run string, takes time.Duration) time.Duration {
			start := time.Now()
			ctx, done := w.Bound(t.Context(), RunKey{ID: run})
			defer done()
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				if late := kms.Late(ctx); late == nil || late.Limit != time.Since(start) {
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
		if got := w.Left(RunKey{ID: "slow"}); got != usualWait {
			t.Errorf("%v left, want %v", got, usualWait)
		}
		if got := convert("another run", time.Minute); got != 3*time.Second {
			t.Errorf("another run waited %v", got)
		}
		for range 100 {
			convert("far away", usualWait)
		}
		if got := w.Left(RunKey{ID: "far away"}); got != 3*time.Second {
			t.Errorf("a KMS that is far away used the wait up, %v left", got)
		}
		for range 2 {
			if got := convert("", time.Minute); got != 3*time.Second {
				t.Errorf("an unknown run waited %v", got)
			}
		}
		w.Begin(RunKey{ID: "another run"})
		if got := w.Left(RunKey{ID: "another run"}); got != 3*time.Second {
			t.Errorf("a new task has %v left", got)
		}
		convert("no guard", time.Minute)
		time.Sleep(waitWindow) //nolint:forbidigo // the clock is the test's
		if got := w.Left(RunKey{ID: "no guard"}); got != 3*time.Second {
			t.Errorf("after the window %v are left", got)
		}
		if got := convert("no guard", time.Minute); got != 3*time.Second || w.Left(RunKey{ID: "no guard"}) != usualWait {
			t.Errorf("after the window it waited %v", got)
		}
	})
}
