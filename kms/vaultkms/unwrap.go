package vaultkms

import (
	"context"

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
		key: k, op: opUnwrap, ec: ec, outcome: k.opened,
		failed: func(err error) kms.Unwrapped { return kms.Unwrapped{Err: err} },
	}.of(ctx, wrapped)
}

// opened returns the outcome of one item of an answer.
func (k *Key) opened(r *reply, item result) kms.Unwrapped {
	if item.Error != "" {
		clear(item.Plaintext)
		return kms.Unwrapped{Err: k.refusedItem(opUnwrap, r, item.Error)}
	}
	if len(item.Plaintext) != kms.DataKeySize {
		clear(item.Plaintext)
		return kms.Unwrapped{Err: k.fail(opUnwrap, driver.NotADataKey(), nil)}
	}
	return kms.Unwrapped{DataKey: item.Plaintext}
}
