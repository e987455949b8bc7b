package gcpkms

import (
	"context"
	"sync"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
)

// Unwrap implements kms.Key: one request for each wrapped data key, up to 100 at a
// time. A failure that is not about one item, such as an outage or a missing
// permission, is not asked about again: items that were not sent yet get the same
// error. A blob that cannot be Cloud KMS's is Corrupt without asking.
//
// A request or answer that was damaged on the way, as checksums tell, is
// Unavailable: the same call may succeed when it is repeated.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if err := ctx.Err(); err != nil {
		return nil, k.canceled(opUnwrap, err)
	}
	if err := ec.Check(opUnwrap, k.id); err != nil {
		return nil, err
	}
	results := make([]kms.Unwrapped, len(wrapped))
	ad := ec.AssociatedData()
	var failed failure
	var group errgroup.Group
	group.SetLimit(maxParallel)
	for i, w := range wrapped {
		if n := len(w.Blob); n == 0 || n > kms.MaxWrappedSize {
			results[i].Err = k.fail(opUnwrap, refusal{class: kms.Corrupt, detail: "the wrapped data key is not one that Cloud KMS wrote", advice: damagedBlob}, nil)
			continue
		}
		group.Go(func() error {
			if err := failed.first(); err != nil {
				failed.add(err)
				results[i].Err = err
				return nil
			}
			dataKey, item, err := k.unwrapOne(ctx, w.Blob, ad)
			if err != nil {
				results[i].Err = err
				if !item {
					failed.add(err)
				}
				return nil
			}
			results[i].DataKey = dataKey
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors in results
	if failed.items == len(wrapped) && failed.items > 0 {
		return nil, failed.err
	}
	return results, nil
}

// failure is the first failure that concerns all items of a call, and how many it befell.
type failure struct {
	mu    sync.Mutex
	err   error
	items int
}

func (f *failure) first() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *failure) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items++
	if f.err == nil {
		f.err = err
	}
}

// unwrapOne returns a data key, or an error and whether it is about this item alone.
func (k *Key) unwrapOne(ctx context.Context, blob, ad []byte) (dataKey []byte, item bool, err error) {
	callCtx, cancel := kms.WithLimit(ctx, k.timeout)
	defer cancel()
	var with aside
	resp, err := k.conn.client.Decrypt(callCtx, &kmspb.DecryptRequest{
		Name: k.name, Ciphertext: blob, CiphertextCrc32C: checksum(blob),
		AdditionalAuthenticatedData: ad, AdditionalAuthenticatedDataCrc32C: checksum(ad),
	}, with.listen())
	if err != nil {
		refused, item := k.refused(ctx, callCtx, call{op: opUnwrap, permission: permDecrypt, aside: &with}, err)
		return nil, item, refused
	}
	defer clear(resp.Plaintext)
	if r, ok := k.intact(resp.Plaintext, resp.PlaintextCrc32C); !ok {
		return nil, true, k.fail(opUnwrap, r, nil)
	}
	if len(resp.Plaintext) != kms.DataKeySize {
		return nil, true, k.fail(opUnwrap, refusal{class: kms.Corrupt, detail: "what was wrapped is not a data key", advice: damagedBlob}, nil)
	}
	return append(make([]byte, 0, kms.DataKeySize), resp.Plaintext...), false, nil
}
