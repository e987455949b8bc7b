package vaultkms

import (
	"context"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// Unwrap implements kms.Key: one request for up to 160 wrapped data keys, and up to four
// requests at a time for more. Vault reports the outcome of each item of a batch. If a
// server refuses the batch without that, each item is sent by itself.
//
// A blob that Vault cannot have written is Corrupt without a request.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	return ciphertexts[kms.Unwrapped]{
		key: k, op: driver.OpUnwrap, ec: ec, outcome: k.opened,
		failed: func(err error) kms.Unwrapped { return kms.Unwrapped{Err: err} },
	}.of(ctx, wrapped)
}

// opened returns the outcome of one item of an answer.
func (k *Key) opened(r *reply, item result) kms.Unwrapped {
	if item.Error != "" {
		clear(item.Plaintext)
		return kms.Unwrapped{Err: k.refusedItem(driver.OpUnwrap, r, item.Error)}
	}
	if len(item.Plaintext) != kms.DataKeySize {
		clear(item.Plaintext)
		return kms.Unwrapped{Err: k.fail(driver.OpUnwrap, driver.NotADataKey(), nil)}
	}
	return kms.Unwrapped{DataKey: item.Plaintext}
}

// ciphertexts is a call about wrapped data keys, each of which has an outcome T:
// Unwrap or Rewrap.
type ciphertexts[T any] struct {
	key *Key
	op  string
	ec  kms.Context
	// outcome is the outcome of one item of an answer; failed, that of an error.
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
			results[i] = c.failed(c.key.fail(c.op, driver.Refuse(kms.Corrupt, "the wrapped data key is not one that Vault wrote", driver.Damaged), nil))
			continue
		}
		blobs, places = append(blobs, w.Blob), append(places, i)
	}

	var failed driver.Failures
	for i, outcome := range c.inParts(ctx, blobs, maxBatch, &failed) {
		results[places[i]] = outcome
	}
	if err := failed.All(len(wrapped)); err != nil {
		return nil, err
	}
	return results, nil
}

// inParts returns the outcome for each of blobs, by requests for up to size of them,
// and notes in failed what failed whole requests.
func (c ciphertexts[T]) inParts(ctx context.Context, blobs [][]byte, size int, failed *driver.Failures) []T {
	outcomes := make([]T, len(blobs))
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for from := 0; from < len(blobs); from += size {
		to := min(from+size, len(blobs))
		group.Go(func() error {
			got, err := c.batch(ctx, blobs[from:to])
			if err != nil {
				failed.Add(to-from, err, driver.AllItems)
				got = slices.Repeat([]T{c.failed(err)}, to-from)
			}
			copy(outcomes[from:to], got)
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors in outcomes
	return outcomes
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
		// Something in the batch was refused, and Vault did not say which.
		return c.inParts(ctx, blobs, 1, new(driver.Failures)), nil
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
