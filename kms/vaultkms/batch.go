package vaultkms

import (
	"context"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// ciphertexts is a call about wrapped data keys, each of which has an outcome T:
// Unwrap or Rewrap.
type ciphertexts[T any] struct {
	key *Key
	op  string
	ec  kms.Context
	// outcome is what one item of an answer tells; failed, what an error does.
	outcome func(r *reply, item result) T
	failed  func(err error) T
}

// of returns the outcome for each of wrapped, in order: one request for up to
// maxBatch, and up to maxParallel requests at a time for more. The error is what
// failed them all.
func (c ciphertexts[T]) of(ctx context.Context, wrapped []kms.Wrapped) ([]T, error) {
	if err := driver.Ready(ctx, c.op, c.key.id, nil, c.ec); err != nil {
		return nil, err
	}
	results := make([]T, len(wrapped))
	var blobs [][]byte
	var places []int // where each blob's outcome goes
	for i, w := range wrapped {
		if _, ok := parseBlob(w.Blob); !ok {
			results[i] = c.failed(c.key.fail(c.op, refusal{Class: kms.Corrupt, Detail: "the wrapped data key is not one that Vault wrote", Advice: driver.Damaged}, nil))
			continue
		}
		blobs, places = append(blobs, w.Blob), append(places, i)
	}

	var failed driver.Failures
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for from := 0; from < len(blobs); from += maxBatch {
		to := min(from+maxBatch, len(blobs))
		group.Go(func() error {
			outcomes, err := c.batch(ctx, blobs[from:to])
			if err != nil {
				failed.Add(to-from, err, driver.AllItems)
			}
			for i, place := range places[from:to] {
				if err != nil {
					results[place] = c.failed(err)
				} else {
					results[place] = outcomes[i]
				}
			}
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors in results
	if err := failed.All(len(wrapped)); err != nil {
		return nil, err
	}
	return results, nil
}

// batch returns the outcome for each of blobs, at most maxBatch, or the error
// that failed them all.
func (c ciphertexts[T]) batch(ctx context.Context, blobs [][]byte) ([]T, error) {
	k := c.key
	derived := k.derived.Load()
	r, a, err := k.ask(ctx, c.op, request{
		method: http.MethodPost, path: k.path(c.op), body: appendCiphertexts(blobs, bind(c.ec, derived)), limit: maxAnswer(len(blobs)),
	})
	if err != nil {
		return nil, err
	}
	results := a.Data.Results
	switch {
	case len(results) > 0 && !derived && wantsContext(results[0].Error):
		a.wipe()
		k.derived.Store(true) // the way to find out for a token that may not read the key
		return c.batch(ctx, blobs)
	case len(results) == 0 && r.status >= http.StatusMultipleChoices:
		refused, blame := k.refused(c.op, r, a)
		switch {
		case !blame:
			return nil, refused
		case len(blobs) == 1:
			return []T{c.failed(refused)}, nil
		}
		return c.singly(ctx, blobs), nil
	case len(results) != len(blobs):
		a.wipe()
		return nil, k.notUnderstood(c.op)
	case !inOrder(results):
		a.wipe()
		return nil, k.mixedUp(c.op)
	}
	outcomes := make([]T, len(blobs))
	for i, item := range results {
		outcomes[i] = c.outcome(r, item)
	}
	return outcomes, nil
}

// singly asks for each blob by itself, because something in the batch that they
// came in was refused and Vault did not say which.
func (c ciphertexts[T]) singly(ctx context.Context, blobs [][]byte) []T {
	outcomes := make([]T, len(blobs))
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for i := range blobs {
		group.Go(func() error {
			if got, err := c.batch(ctx, blobs[i:i+1]); err != nil {
				outcomes[i] = c.failed(err)
			} else {
				outcomes[i] = got[0]
			}
			return nil
		})
	}
	_ = group.Wait()
	return outcomes
}
