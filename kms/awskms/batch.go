package awskms

import (
	"context"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// each is driver.OpenEach. An error that is about the key and not about one blob
// (denied, disabled, not found, throttled; unavailable after as many as run at once)
// keeps the requests that have not been sent from being sent.
func (k *Key) each(ctx context.Context, op string, wrapped []kms.Wrapped, open func(i int) *kms.Error) ([]error, error) {
	foreign := driver.Refuse(kms.Corrupt, "the wrapped data key is not one that AWS KMS wrote", driver.Damaged)
	return driver.OpenEach(ctx, maxParallel, op, k.id, wrapped, foreign, func(i int) (*kms.Error, driver.Scope) {
		err := open(i)
		return err, scopeOf(err)
	})
}

func scopeOf(err *kms.Error) driver.Scope {
	switch {
	case err == nil || err.Class == kms.Corrupt || err.Class == kms.Internal || err.Class == kms.Invalid:
		return driver.OneItem
	case err.Class == kms.Unavailable: // one request may have bad luck, a round of them has not
		return driver.Luck
	}
	return driver.AllItems
}
