package envelope

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/waxseal/waxseal/kms"
)

// ErrAllowance is in the chain of the error, of Class Internal, for an envelope
// whose plaintext the caller had no room for; see WithAllowance.
var ErrAllowance = errors.New("envelope: no room for the plaintext")

type allowanceKey struct{}

// allowance is what one caller has room for.
type allowance struct {
	take  func(size int) bool
	spent atomic.Bool
}

// WithAllowance returns a context with which Opener.Open asks take for each
// plaintext whether there is room for so many bytes. After the first refusal
// nothing more is decompressed: what is left fails with ErrAllowance. Envelopes
// of a kilobyte can hold format.MaxPlaintext bytes each, so whoever opens what
// strangers send bounds them together. One Open never calls take concurrently.
func WithAllowance(ctx context.Context, take func(size int) bool) context.Context {
	return context.WithValue(ctx, allowanceKey{}, &allowance{take: take})
}

// allowanceOf returns the allowance of a context; nil, which allows everything,
// if it has none.
func allowanceOf(ctx context.Context) *allowance {
	a, _ := ctx.Value(allowanceKey{}).(*allowance)
	return a
}

func (a *allowance) isSpent() bool { return a != nil && a.spent.Load() }

// allows takes size bytes, and reports whether that could be done.
func (a *allowance) allows(size int) bool {
	switch {
	case a == nil:
		return true
	case a.spent.Load():
		return false
	case !a.take(size):
		a.spent.Store(true)
		return false
	}
	return true
}

func errNoRoom() error {
	return openError(kms.Internal, "", "the plaintexts together are larger than the caller has room for", "open fewer at a time", ErrAllowance)
}
