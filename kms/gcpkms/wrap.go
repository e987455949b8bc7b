package gcpkms

import (
	"context"
	"fmt"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// Wrap implements kms.Key: one request for each data key, up to 100 at a time.
// The first that fails ends the others.
//
// A request or answer that its checksum shows to be damaged is Unavailable: the same call
// may succeed when it is repeated.
func (k *Key) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if err := driver.Ready(ctx, driver.OpWrap, k.id, dataKeys, ec); err != nil {
		return nil, err
	}
	ad := ec.AssociatedData()
	return driver.WrapEach(ctx, maxParallel, driver.OpWrap, k.id, dataKeys, func(ctx context.Context, dataKey []byte) (kms.Wrapped, *kms.Error) {
		return k.wrapOne(ctx, dataKey, ad)
	})
}

// wrapOne wraps one data key. Fail modes of an answer that came, in this order:
//
//   - checksums of the request were not verified: Unavailable
//   - the ciphertext is not that of its checksum: Unavailable
//   - it was encrypted with another key than ours: Internal
//   - it is empty or too large to store: Internal
func (k *Key) wrapOne(ctx context.Context, dataKey, ad []byte) (kms.Wrapped, *kms.Error) {
	callCtx, cancel := kms.WithLimit(ctx, k.timeout)
	defer cancel()
	var with aside
	resp, err := k.conn.client.Encrypt(callCtx, &kmspb.EncryptRequest{
		Name: k.name, Plaintext: dataKey, PlaintextCrc32C: checksum(dataKey),
		AdditionalAuthenticatedData: ad, AdditionalAuthenticatedDataCrc32C: checksum(ad),
	}, with.listen())
	if err != nil {
		failed, _ := k.refused(ctx, callCtx, call{op: driver.OpWrap, permission: permEncrypt, aside: &with}, err)
		return kms.Wrapped{}, failed
	}
	// Of data that is not there the flag need not say anything.
	if !resp.VerifiedPlaintextCrc32C || len(ad) > 0 && !resp.VerifiedAdditionalAuthenticatedDataCrc32C {
		return kms.Wrapped{}, k.fail(driver.OpWrap, k.unconfirmed(), nil)
	}
	if r, ok := k.intact(resp.Ciphertext, resp.CiphertextCrc32C); !ok {
		return kms.Wrapped{}, k.fail(driver.OpWrap, r, nil)
	}
	version, ok := versionOf(k.name, resp.Name)
	if !ok {
		return kms.Wrapped{}, k.fail(driver.OpWrap, k.otherKey(), nil)
	}
	if n := len(resp.Ciphertext); n == 0 || n > kms.MaxWrappedSize {
		return kms.Wrapped{}, k.fail(driver.OpWrap, driver.Refuse(kms.Internal, fmt.Sprintf("a wrapped data key of %d bytes came back, which cannot be stored", n),
			"check that "+k.endpoint+" is Cloud KMS; for an external key, how its manager wraps"), nil)
	}
	return kms.Wrapped{Version: version, Blob: resp.Ciphertext}, nil
}

// Unwrap implements kms.Key: one request for each wrapped data key, up to 100 at a time.
// After a failure that is not about one item, such as an outage or a missing permission,
// the rest is not sent and gets the same error. A blob that cannot be Cloud KMS's is
// Corrupt without a request.
//
// A request or answer that its checksum shows to be damaged is Unavailable: the same call
// may succeed when it is repeated.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if err := driver.Ready(ctx, driver.OpUnwrap, k.id, nil, ec); err != nil {
		return nil, err
	}
	results := make([]kms.Unwrapped, len(wrapped))
	ad := ec.AssociatedData()
	foreign := driver.Refuse(kms.Corrupt, "the wrapped data key is not one that Cloud KMS wrote", driver.Damaged)
	errs, all := driver.OpenEach(ctx, maxParallel, driver.OpUnwrap, k.id, wrapped, foreign, func(i int) (*kms.Error, driver.Scope) {
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
		refused, item := k.refused(ctx, callCtx, call{op: driver.OpUnwrap, permission: permDecrypt, aside: &with}, err)
		return nil, item, refused
	}
	defer clear(resp.Plaintext)
	if r, ok := k.intact(resp.Plaintext, resp.PlaintextCrc32C); !ok {
		return nil, true, k.fail(driver.OpUnwrap, r, nil)
	}
	if len(resp.Plaintext) != kms.DataKeySize {
		return nil, true, k.fail(driver.OpUnwrap, driver.NotADataKey(), nil)
	}
	return append(make([]byte, 0, kms.DataKeySize), resp.Plaintext...), false, nil
}
