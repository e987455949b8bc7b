package blackout

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
)

// heartbeatTimeout is after how long without a heartbeat the server gives a long
// activity to another worker.
const heartbeatTimeout = 20 * time.Second

// work makes the next link of a chain, and takes some time for it when it is
// tried for the first time.
func work(ctx context.Context, before int64, n, i int, workFor time.Duration) (int64, error) {
	if workFor > 0 && activity.GetInfo(ctx).Attempt == 1 {
		if err := sleepUntil(ctx, time.Now().Add(workFor)); err != nil {
			return 0, err
		}
	}
	return link(before, n, i), nil
}

// refuse fails for good, with a detail.
func refuse(_ context.Context, n int) error {
	return temporal.NewNonRetryableApplicationError(refusal(n), refuseType, nil, n)
}

// progress is what a heartbeat says.
type progress struct {
	Done int
	Last int64
}

// beat makes a chain link by link and says after each how far it is. It goes on
// from there when it is tried again.
func beat(ctx context.Context, n, beats int, every time.Duration) (int64, error) {
	at := progress{Last: seedBeats}
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &at); err != nil {
			return 0, err
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for at.Done < beats {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		at = progress{Done: at.Done + 1, Last: link(at.Last, n, at.Done)}
		activity.RecordHeartbeat(ctx, at)
	}
	return at.Last, nil
}

// once works for a while; the server never gives it to a worker again.
func once(ctx context.Context, n int, workFor time.Duration) (int64, error) {
	return link(seedOnce, n, 0), sleepUntil(ctx, time.Now().Add(workFor))
}

func registerActivities(r worker.ActivityRegistry) {
	for name, f := range map[string]any{workType: work, refuseType: refuse, beatType: beat, onceType: once} {
		r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
}
