package kms

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// LateError is the cause of a context from WithLimit after its limit has passed.
type LateError struct{ Limit time.Duration }

// Error implements error.
func (e *LateError) Error() string { return fmt.Sprintf("no answer within %s", e.Limit) }

// WithLimit returns ctx with a time limit of ours. Its end has a LateError as its
// cause, so that it stays apart from the end of the caller's own context: the one
// means that the KMS is stuck, the other that the caller gave up.
func WithLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &LateError{limit})
}

// Late returns the LateError of a limit that ended ctx, or nil. A limit of the
// caller's ends ctx too: look at the caller's context first.
func Late(ctx context.Context) *LateError {
	late, _ := errors.AsType[*LateError](context.Cause(ctx))
	return late
}

// NoAnswer returns the error for an operation that a limit of ours ended: the KMS
// is Unavailable. cause is kept for errors.Is and errors.As.
func NoAnswer(op, keyID string, limit time.Duration, cause error) *Error {
	return &Error{
		Class: Unavailable, Op: op, KeyID: keyID, Detail: (&LateError{limit}).Error(),
		Advice: "check that the KMS is up and reachable from here", Err: cause,
	}
}
