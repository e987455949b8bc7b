package gcpkms

import (
	"context"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// Unwrap implements kms.Key: one request for each wrapped data key, up to 100 at a time.
// After a failure that is not about one item, such as an outage or a missing permission,
// the rest is not sent and gets the same error. A blob that cannot be Cloud KMS's is
// Corrupt without a request.
//
// A request or answer that its checksum shows to be damaged is Unavailable: the same call
// may succeed when it is repeated.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if err := driver.Ready(ctx, opUnwrap, k.id, nil, ec); err != nil {
		return nil, err
	}
	results := make([]kms.Unwrapped, len(wrapped))
	ad := ec.AssociatedData()
	foreign := driver.Refuse(kms.Corrupt, "the wrapped data key is not one that Cloud KMS wrote", driver.Damaged)
	errs, all := driver.OpenEach(ctx, maxParallel, opUnwrap, k.id, wrapped, foreign, func(i int) (*kms.Error, driver.Scope) {
		dataKey, item, err := k.unwrapOne(ctx, wrapped[i].Blob, ad)
		results[i].DataKey = dataKey
		if item {
			return err, driver.OneItem
		}
		return err, driver.AllItems
	})
	if all != nil {
		for _, r := range results {
			clear(r.DataKey)
		}
		return nil, all
	}
	for i, err := range errs {
		results[i].Err = err
	}
	return results, nil
}

// unwrapOne returns a data key, or an error and whether it is about this item alone.
func (k *Key) unwrapOne(ctx context.Context, blob, ad []byte) (dataKey []byte, item bool, failed *kms.Error) {
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
		return nil, true, k.fail(opUnwrap, driver.NotADataKey(), nil)
	}
	return append(make([]byte, 0, kms.DataKeySize), resp.Plaintext...), false, nil
}
