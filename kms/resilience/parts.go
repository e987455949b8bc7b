package resilience

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// inParts splits n items into parts of MaxBatch and calls part with the bounds of each,
// side by side but never more than Concurrency: a call of any size leaves the queue to
// others. If together is true, the first error cancels the other parts; it is returned in
// any case.
//
// Unless the breaker is closed, the first part goes alone: of several, one would
// be the trial and the others refused, so that a call of several parts could never
// be answered.
func (k *Key) inParts(ctx context.Context, n int, together bool, part func(ctx context.Context, from, to int) error) error {
	if n <= k.cfg.MaxBatch {
		return part(ctx, 0, n)
	}
	first := 0
	if !k.breaker.isClosed() {
		first = k.cfg.MaxBatch
		if err := part(ctx, 0, first); err != nil {
			return err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	if !together {
		groupCtx = ctx
	}
	group.SetLimit(k.cfg.Concurrency)
	for from := first; from < n; from += k.cfg.MaxBatch {
		group.Go(func() error { return part(groupCtx, from, min(from+k.cfg.MaxBatch, n)) })
	}
	return group.Wait()
}
