package vaultkms

import (
	"context"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
)

// Unwrap implements kms.Key: one request for up to 200 wrapped data keys, and up
// to four requests at a time for more. Vault says for each item of a batch what
// became of it; from a server that refuses the batch without saying so, the items
// are asked for one by one.
//
// A blob that Vault cannot have written is Corrupt without asking.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if err := ctx.Err(); err != nil {
		return nil, k.notSent(ctx, opUnwrap, err)
	}
	results := make([]kms.Unwrapped, len(wrapped))
	var blobs [][]byte
	var places []int // where each blob's outcome goes
	for i, w := range wrapped {
		if _, ok := parseBlob(w.Blob); !ok {
			results[i].Err = k.fail(opUnwrap, refusal{class: kms.Corrupt, detail: "the wrapped data key is not one that Vault wrote", advice: damaged}, nil)
			continue
		}
		blobs, places = append(blobs, w.Blob), append(places, i)
	}

	ad := encodeContext(ec)
	var failed failures
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for from := 0; from < len(blobs); from += maxBatch {
		to := min(from+maxBatch, len(blobs))
		group.Go(func() error {
			opened, err := k.unwrapBatch(ctx, blobs[from:to], ad)
			if err != nil {
				failed.add(to-from, err)
			}
			for i, place := range places[from:to] {
				if err != nil {
					results[place].Err = err
				} else {
					results[place] = opened[i]
				}
			}
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors in results
	if failed.items == len(wrapped) && failed.items > 0 {
		return nil, failed.first
	}
	return results, nil
}

// failures counts the items whose whole request failed.
type failures struct {
	mu    sync.Mutex
	items int
	first error
}

func (f *failures) add(items int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items += items
	if f.first == nil {
		f.first = err
	}
}

// unwrapBatch returns the outcome for each of blobs, at most maxBatch, or the
// error that failed them all.
func (k *Key) unwrapBatch(ctx context.Context, blobs [][]byte, ad string) ([]kms.Unwrapped, error) {
	r, a, err := k.ask(ctx, opUnwrap, http.MethodPost, k.path(opUnwrap), appendDecrypt(blobs, ad), maxAnswer(len(blobs)))
	if err != nil {
		return nil, err
	}
	if len(a.Data.Results) > 0 {
		if len(a.Data.Results) != len(blobs) {
			a.wipe()
			return nil, k.notUnderstood(opUnwrap)
		}
		results := make([]kms.Unwrapped, len(blobs))
		for i, item := range a.Data.Results {
			results[i] = k.opened(r, item)
		}
		return results, nil
	}
	if r.status < http.StatusMultipleChoices {
		return nil, k.notUnderstood(opUnwrap)
	}
	refused, blame := k.refused(opUnwrap, r, a)
	switch {
	case !blame:
		return nil, refused
	case len(blobs) == 1:
		return []kms.Unwrapped{{Err: refused}}, nil
	}
	return k.unwrapSingly(ctx, blobs, ad), nil
}

// unwrapSingly asks for each blob by itself, because something in the batch that
// they came in was refused and Vault did not say which.
func (k *Key) unwrapSingly(ctx context.Context, blobs [][]byte, ad string) []kms.Unwrapped {
	results := make([]kms.Unwrapped, len(blobs))
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for i := range blobs {
		group.Go(func() error {
			opened, err := k.unwrapBatch(ctx, blobs[i:i+1], ad)
			if err != nil {
				results[i].Err = err
			} else {
				results[i] = opened[0]
			}
			return nil
		})
	}
	_ = group.Wait()
	return results
}

// opened is the outcome that one item of an answer tells.
func (k *Key) opened(r *reply, item result) kms.Unwrapped {
	if item.Error != "" {
		clear(item.Plaintext)
		return kms.Unwrapped{Err: k.refusedItem(opUnwrap, r, item.Error)}
	}
	if len(item.Plaintext) != kms.DataKeySize {
		clear(item.Plaintext)
		return kms.Unwrapped{Err: k.fail(opUnwrap, refusal{class: kms.Corrupt, detail: "what was wrapped is not a data key", advice: damaged}, nil)}
	}
	return kms.Unwrapped{DataKey: item.Plaintext}
}
