package driver

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
)

// Scope says what a failed request for one data key means for those not sent yet.
type Scope uint8

const (
	// OneItem means nothing: the error is about one wrapped data key.
	OneItem Scope = iota
	// Luck means nothing once: as many requests as run at once have to meet it to
	// keep the others from being sent.
	Luck
	// AllItems keeps the others from being sent: they get the same error.
	AllItems
)

// WrapEach wraps each data key by a request of its own, up to parallel at a time. The first
// error ends the others and is returned, unless the caller gave up.
func WrapEach(ctx context.Context, parallel int, op, keyID string, dataKeys [][]byte, wrap func(ctx context.Context, dataKey []byte) (kms.Wrapped, *kms.Error)) ([]kms.Wrapped, error) {
	wrapped := make([]kms.Wrapped, len(dataKeys))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, d := range dataKeys {
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return groupCtx.Err() // another one failed, and its error counts
			}
			one, err := wrap(groupCtx, d)
			if err != nil {
				return err
			}
			wrapped[i] = one
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, Canceled(op, keyID, ctx.Err())
		}
		return nil, err
	}
	return wrapped, nil
}

// OpenEach calls open for each wrapped data key, up to parallel at a time, and returns one
// error for each, nil for success. all is an error that failed them all: the caller gave
// up, or no request got through. A blob that no KMS wrote, empty or above
// kms.MaxWrappedSize, gets the error of foreign without a request.
func OpenEach(ctx context.Context, parallel int, op, keyID string, wrapped []kms.Wrapped, foreign Refusal, open func(i int) (*kms.Error, Scope)) (errs []error, all error) {
	errs = make([]error, len(wrapped))
	failed := Failures{parallel: parallel}
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, w := range wrapped {
		if len(w.Blob) == 0 || len(w.Blob) > kms.MaxWrappedSize {
			errs[i] = foreign.Error(op, keyID, nil)
			continue
		}
		group.Go(func() error {
			if errs[i] = failed.final(); errs[i] != nil {
				failed.Add(1, errs[i], AllItems)
			} else if err, scope := open(i); err != nil {
				errs[i] = err
				failed.Add(1, err, scope)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors in errs
	if failed.items > 0 && ctx.Err() != nil {
		return nil, Canceled(op, keyID, ctx.Err())
	}
	if err := failed.All(len(wrapped)); err != nil {
		return nil, err
	}
	return errs, nil
}

// Failures collects the errors of requests that are about the key or the way to it.
// The zero value is for requests that are all sent. Safe for concurrent use.
type Failures struct {
	parallel int

	mu    sync.Mutex
	items int
	worst error // the first one; a refusal replaces an unlucky request's
	stop  bool
}

// Add counts the error of a request for so many items.
func (f *Failures) Add(items int, err error, scope Scope) {
	if scope == OneItem {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items += items
	if f.worst == nil || scope == AllItems && kms.ClassOf(f.worst) == kms.Unavailable {
		f.worst = err
	}
	f.stop = f.stop || scope == AllItems || f.items >= f.parallel
}

// final returns the error that requests not sent yet would meet as well.
func (f *Failures) final() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop {
		return f.worst
	}
	return nil
}

// All returns the error that failed all of n items, or nil.
func (f *Failures) All(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.items > 0 && f.items == n {
		return f.worst
	}
	return nil
}
