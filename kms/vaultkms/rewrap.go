package vaultkms

import (
	"context"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// rewrapper is a Key that was made with derived=true, and is declared to be: a
// kms.Rewrapper. Vault's rewrap (Vault 1.21, OpenBao 2.4) takes a derivation context and no
// associated data. Other keys bind by associated data, so theirs have to be unwrapped and
// wrapped again.
type rewrapper struct{ *Key }

var _ kms.Rewrapper = (*rewrapper)(nil)

// NewDerived returns the key that cfg names, as New does, which is also a
// kms.Rewrapper. Its Wrap and Rewrap refuse, with class Invalid, a key that is not derived.
func NewDerived(cfg Config) (kms.Key, error) {
	key, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return key.declareDerived(), nil
}

// declareDerived is for a Key that was not used yet.
func (k *Key) declareDerived() *rewrapper {
	k.declared = true
	k.derived.Store(true)
	return &rewrapper{k}
}

// RewrapsFrom implements kms.Rewrapper: a key rewraps from itself.
func (k *rewrapper) RewrapsFrom(source kms.Key) bool {
	return source != nil && source.ID() == k.id
}

// Rewrap implements kms.Rewrapper: one request for up to 160 wrapped data keys,
// and up to four requests at a time for more. The data keys stay in Vault.
func (k *rewrapper) Rewrap(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
	if !k.RewrapsFrom(source) {
		return nil, k.fail(driver.OpRewrap, driver.Refuse(kms.Internal, "Vault rewraps only what the key itself wrapped",
			"unwrap with the other key and wrap with this one"), nil)
	}
	if len(wrapped) > 0 && ctx.Err() == nil {
		// A key that is not derived would take the data key out of its context.
		if err := k.verify(ctx, driver.OpRewrap); err != nil {
			return nil, err
		}
	}
	return ciphertexts[kms.Rewrapped]{
		key: k.Key, op: driver.OpRewrap, ec: ec, outcome: k.rewrapped,
		failed: func(err error) kms.Rewrapped { return kms.Rewrapped{Err: err} },
	}.of(ctx, wrapped)
}

// rewrapped returns the outcome of one item of an answer.
func (k *rewrapper) rewrapped(r *reply, item result) kms.Rewrapped {
	if item.Error != "" {
		return kms.Rewrapped{Err: k.refusedItem(driver.OpRewrap, r, item.Error)}
	}
	blob := []byte(item.Ciphertext)
	version, ok := parseBlob(blob)
	if !ok {
		return kms.Rewrapped{Err: k.notUnderstood(driver.OpRewrap)}
	}
	return kms.Rewrapped{Wrapped: kms.Wrapped{Version: version, Blob: blob}}
}
