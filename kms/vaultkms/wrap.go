package vaultkms

import (
	"context"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// Wrap implements kms.Key: one request for up to 160 data keys, and up to four requests at
// a time for more. The first Wrap of a Key also reads the key's type, and refuses one that
// cannot bind data keys to their context.
func (k *Key) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if err := driver.Ready(ctx, driver.OpWrap, k.id, dataKeys, ec); err != nil {
		return nil, err
	}
	if len(dataKeys) == 0 {
		return []kms.Wrapped{}, nil
	}
	if err := k.verify(ctx, driver.OpWrap); err != nil {
		return nil, err
	}
	by := bind(ec, k.derived.Load())
	wrapped := make([]kms.Wrapped, len(dataKeys))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for from := 0; from < len(dataKeys); from += maxBatch {
		to := min(from+maxBatch, len(dataKeys))
		group.Go(func() error {
			got, err := k.wrapBatch(groupCtx, driver.OpWrap, dataKeys[from:to], by)
			copy(wrapped[from:to], got)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, k.explain(ctx, err)
	}
	return wrapped, nil
}

// wrapBatch wraps dataKeys, at most maxBatch, in one request.
func (k *Key) wrapBatch(ctx context.Context, op string, dataKeys [][]byte, by binding) ([]kms.Wrapped, error) {
	r, a, err := k.ask(ctx, op, request{
		method: http.MethodPost, path: k.path(driver.OpWrap), body: appendEncrypt(dataKeys, by), limit: maxAnswer(len(dataKeys)),
	})
	if err != nil {
		return nil, err
	}
	defer a.wipe()
	if len(a.Data.Results) == 0 {
		if r.status >= http.StatusMultipleChoices {
			refused, _ := k.refused(op, r, a)
			return nil, refused
		}
		return nil, k.notUnderstood(op)
	}
	if len(a.Data.Results) != len(dataKeys) {
		return nil, k.notUnderstood(op)
	}
	if !inOrder(a.Data.Results) {
		return nil, k.mixedUp(op)
	}
	wrapped := make([]kms.Wrapped, 0, len(dataKeys))
	for _, item := range a.Data.Results {
		if item.Error != "" {
			return nil, k.refusedItem(op, r, item.Error)
		}
		blob := []byte(item.Ciphertext)
		version, ok := parseBlob(blob)
		if !ok {
			return nil, k.notUnderstood(op)
		}
		wrapped = append(wrapped, kms.Wrapped{Version: version, Blob: blob})
	}
	return wrapped, nil
}

// explain improves the error of a Wrap. Vault says "permission denied" for a key that is
// gone, because creating it would take another permission. Reading the key, if the token
// may, distinguishes the two.
func (k *Key) explain(ctx context.Context, err error) error {
	if kms.ClassOf(err) == kms.Denied {
		if _, _, readErr := k.readType(ctx, driver.OpWrap); readErr != nil && kms.ClassOf(readErr) == kms.NotFound {
			err = readErr
		}
	}
	if c := kms.ClassOf(err); c == kms.NotFound || c == kms.Internal || c == kms.Invalid {
		k.verified.Store(false) // what was found out is of a key that is gone
	}
	return err
}
