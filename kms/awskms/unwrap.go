package awskms

import (
	"context"
	"maps"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
)

// Unwrap implements kms.Key: one Decrypt for each wrapped data key, up to 16 at a
// time. Every request names the key, so that AWS refuses what another one wrapped.
//
// An error that is about the key and not about one blob (denied, disabled, not
// found, throttled; unavailable after as many as run at once) keeps the requests
// that have not been sent from being sent: their items get the same error. A blob that AWS cannot have written, empty
// or above kms.MaxWrappedSize, is Corrupt without asking.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if err := ctx.Err(); err != nil {
		return nil, k.canceled(opUnwrap, err)
	}
	results := make([]kms.Unwrapped, len(wrapped))
	var failed failures
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for i, w := range wrapped {
		if len(w.Blob) == 0 || len(w.Blob) > kms.MaxWrappedSize {
			results[i].Err = k.fail(opUnwrap, refusal{class: kms.Corrupt, detail: "the wrapped data key is not one that AWS KMS wrote", advice: damaged}, nil)
			continue
		}
		group.Go(func() error {
			err := failed.final()
			if err == nil {
				results[i].DataKey, err = k.unwrapOne(ctx, w.Blob, ec)
			}
			if err != nil {
				results[i].Err = err
				failed.add(err)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors in results
	switch {
	case failed.items > 0 && ctx.Err() != nil:
		for _, r := range results {
			clear(r.DataKey)
		}
		return nil, k.canceled(opUnwrap, ctx.Err())
	case failed.items > 0 && failed.items == len(wrapped):
		return nil, failed.first
	}
	return results, nil
}

// failures collects the errors that are about the key or the way to it.
type failures struct {
	mu    sync.Mutex
	items int
	first *kms.Error
	stop  bool
}

// add counts err, unless it is about one blob alone.
func (f *failures) add(err *kms.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err.Class {
	case kms.Corrupt, kms.Internal:
		return
	case kms.Unavailable: // one request may have bad luck, a round of them has not
		f.stop = f.stop || f.items+1 >= maxParallel
	default:
		f.stop = true
	}
	f.items++
	if f.first == nil {
		f.first = err
	}
}

// final returns the error that requests not sent yet would meet as well.
func (f *failures) final() *kms.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop {
		return f.first
	}
	return nil
}

// unwrapOne decrypts one wrapped data key.
func (k *Key) unwrapOne(ctx context.Context, blob []byte, ec kms.Context) ([]byte, *kms.Error) {
	askCtx, cancel := k.bounded(ctx)
	defer cancel()
	answer, err := k.api.Decrypt(askCtx, &awskms.DecryptInput{
		KeyId: aws.String(k.arn), CiphertextBlob: blob,
		EncryptionContext: maps.Clone(ec), EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	if err != nil {
		return nil, k.failed(ctx, askCtx, opUnwrap, err)
	}
	switch {
	case aws.ToString(answer.KeyId) != k.arn:
		clear(answer.Plaintext)
		return nil, k.fail(opUnwrap, otherKey(), errAnswer)
	case len(answer.Plaintext) != kms.DataKeySize:
		clear(answer.Plaintext)
		return nil, k.fail(opUnwrap, refusal{class: kms.Corrupt, detail: "what was wrapped is not a data key", advice: damaged}, errAnswer)
	}
	return answer.Plaintext, nil
}
