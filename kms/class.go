package kms

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Class says what kind of failure an error is. It alone decides about retries,
// serving a stale data key, HTTP status, and error or panic in workflow code.
type Class uint8

const (
	// Internal is a bug, or an answer that we do not understand; the class of every
	// error that does not say otherwise. Retrying is pointless.
	Internal Class = iota
	// Unavailable means the KMS could not be reached, timed out or is sealed.
	Unavailable
	// Throttled means the KMS refused for quota; a later call may succeed.
	Throttled
	// Denied means our identity may not use the key this way.
	Denied
	// NotFound means the key, or the version that is needed, does not exist.
	NotFound
	// Disabled means the key or version exists but is switched off or pending deletion.
	Disabled
	// Corrupt means the bytes at hand were altered, cut short, or wrapped under
	// another key or context.
	Corrupt
	// Canceled means the caller gave up: its context ended first.
	Canceled
	// Invalid means that a URI or a setting is wrong, that the file it names is
	// missing, or that the key does not have the operation. A person must correct
	// it; the same call fails until then. It is no outage and no verdict on data.
	Invalid
)

var classNames = [...]string{
	Internal: "internal", Unavailable: "unavailable", Throttled: "throttled", Denied: "denied",
	NotFound: "not found", Disabled: "disabled", Corrupt: "corrupt", Canceled: "canceled", Invalid: "invalid",
}

// Classes returns every Class in ascending order.
func Classes() []Class {
	all := make([]Class, len(classNames))
	for i := range all {
		all[i] = Class(i)
	}
	return all
}

// String returns the class in words, such as "not found".
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// Transient reports whether the same call may succeed a little later.
func (c Class) Transient() bool { return c == Unavailable || c == Throttled }

// ErrNotAsked is in the chain of the error of a call that never reached its KMS, because
// its queue is full or its breaker is open. It says nothing about the call's data, and need
// not be remembered: the next call may be made.
var ErrNotAsked = errors.New("kms: not asked")

// Error is a failed key operation. Its text names the operation, the key and
// the class; it never holds a data key, a payload, a token or what a KMS
// answered word for word.
type Error struct {
	Class Class
	// Op is what was tried: "wrap", "unwrap", "open", "rotate", …
	Op string
	// KeyID is the KEK's ID or URI; empty where no key is involved yet.
	KeyID string
	// Detail says what went wrong, in our words.
	Detail string
	// Advice says what to do next, in one sentence.
	Advice string
	// RetryAfter is how long the KMS wants no further request; zero if it did not say.
	RetryAfter time.Duration
	// Err is the cause for errors.Is and errors.As. Its text is not printed,
	// because it may quote an answer of the KMS.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("kms: ")
	b.WriteString(e.Op)
	if e.KeyID != "" {
		b.WriteString(" with ")
		b.WriteString(e.KeyID)
	}
	b.WriteString(": ")
	b.WriteString(e.Class.String())
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do next; empty if there is nothing to say.
func (e *Error) Hint() string { return e.Advice }

// ClassOf returns the Class of err: that of the first *Error in its chain, Canceled for a
// bare context error, and Internal for everything else, nil included (call it for errors
// only).
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Canceled
	}
	return Internal
}
