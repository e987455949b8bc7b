package hold

import (
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/kms"
)

// Error fails a workflow task, so that the server retries it: while the KMS is unavailable or
// throttles; unless the rule says onDenied: fail, also while it denies a key, has it disabled or
// does not find it; and while workflow code reads more values than there are, if that is
// refused.
type Error struct {
	// Err is the failure; kms.ClassOf returns its Class.
	Err error
}

// Error implements error. It names the key and the class and nothing secret.
func (e *Error) Error() string {
	when := "when the KMS answers again"
	switch {
	case errors.Is(e.Err, ErrMissing):
		when = "when the program reads what was sent"
	case kms.ClassOf(e.Err) == kms.Invalid:
		when = "when the setting is corrected"
	case !kms.ClassOf(e.Err).Transient():
		when = "when the KMS permits it again"
	}
	return fmt.Sprintf("waxseal: workflow task held, the workflow goes on %s: %v", when, e.Err)
}

// Unwrap returns the failure.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *Error) Hint() string { return HintOf(e.Err) }

// ErrMissing is in the chain of the error that refuses to read more values than there are.
var ErrMissing = errors.New("codec: fewer payloads than values")

// HintOf returns the hint of an error; empty if it has none.
func HintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
