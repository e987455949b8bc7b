package awskms

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
)

// each has open done for every wrapped data key, up to maxParallel at a time, and
// answers with one error for each, nil where all went well. A second result is
// what failed them all: the caller gave up, or nothing got through.
//
// An error that is about the key and not about one blob (denied, disabled, not
// found, throttled; unavailable after as many as run at once) keeps the requests
// that have not been sent from being sent: their items get the same error. A blob
// that AWS cannot have written, empty or above kms.MaxWrappedSize, is Corrupt
// without asking.
func (k *Key) each(ctx context.Context, op string, wrapped []kms.Wrapped, open func(i int) *kms.Error) ([]*kms.Error, *kms.Error) {
	errs := make([]*kms.Error, len(wrapped))
	var failed failures
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for i, w := range wrapped {
		if len(w.Blob) == 0 || len(w.Blob) > kms.MaxWrappedSize {
			errs[i] = k.fail(op, refusal{class: kms.Corrupt, detail: "the wrapped data key is not one that AWS KMS wrote", advice: damaged}, nil)
			continue
		}
		group.Go(func() error {
			err := failed.final()
			if err == nil {
				err = open(i)
			}
			if err != nil {
				errs[i] = err
				failed.add(err)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors in errs
	switch {
	case failed.items > 0 && ctx.Err() != nil:
		return nil, k.canceled(op, ctx.Err())
	case failed.items > 0 && failed.items == len(wrapped):
		return nil, failed.worst
	}
	return errs, nil
}

// failures collects the errors that are about the key or the way to it.
type failures struct {
	mu    sync.Mutex
	items int
	worst *kms.Error // the first one; that which ended it all, once there is one
	stop  bool
}

// add counts err, unless it is about one blob alone.
func (f *failures) add(err *kms.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err.Class {
	case kms.Corrupt, kms.Internal, kms.Invalid:
		return
	case kms.Unavailable: // one request may have bad luck, a round of them has not
		if f.worst == nil {
			f.worst = err
		}
		f.stop = f.stop || f.items+1 >= maxParallel
	default:
		if f.worst == nil || f.worst.Class == kms.Unavailable {
			f.worst = err // a refusal says more than that another request was unlucky
		}
		f.stop = true
	}
	f.items++
}

// final returns the error that requests not sent yet would meet as well.
func (f *failures) final() *kms.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop {
		return f.worst
	}
	return nil
}
