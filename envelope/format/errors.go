package format

import (
	"errors"
	"fmt"
	"strconv"
)

// The kinds of failure; every *Error wraps one of them. They all say something
// about bytes at hand, so package envelope reports what came from storage with
// kms.Corrupt, and trying again cannot help.
var (
	// ErrMalformed means the bytes are not the one encoding of a version 1
	// envelope, or a value to be written could not be part of one.
	ErrMalformed = errors.New("malformed envelope")

	// ErrUnsupported means the envelope asks for a suite or a compression that
	// this version does not know. It is malformed too as far as version 1 goes:
	// errors.Is(err, ErrMalformed) holds.
	ErrUnsupported = fmt.Errorf("unsupported: %w", ErrMalformed)

	// ErrLimit means a value exceeds one of the limits of version 1.
	ErrLimit = errors.New("limit exceeded")

	// ErrDataKey means the data key is not DataKeySize bytes long, or was wiped.
	ErrDataKey = errors.New("unusable data key")

	// ErrCommitment means the envelope was sealed under another data key, or its
	// salt or commitment was altered. Nothing was decrypted.
	ErrCommitment = errors.New("data key does not match the commitment")

	// ErrCiphertext means the data key is right, but the ciphertext or a
	// protected field is not as it was sealed.
	ErrCiphertext = errors.New("authentication failed")
)

// noOffset is the Offset of an error that is not about bytes that were read.
const noOffset = -1

// Error says which field of an envelope broke which rule. Its text holds names,
// numbers and rules, never content.
type Error struct {
	// Op is what was tried: "seal", "parse envelope", "open envelope", ….
	Op string
	// Kind is ErrMalformed, ErrUnsupported, ErrLimit, ErrDataKey, ErrCommitment
	// or ErrCiphertext.
	Kind error
	// Field is the path of the field, such as "namespace", "claims[2].name" or
	// "recipients[0].wrapped_key"; a message's own name ("envelope",
	// "protected", "claims[2]") where no single field is to blame.
	Field string
	// Offset is where in the envelope the field begins (its tag) or was expected,
	// in bytes; for what a recipient or a claim says, where that begins. -1 where
	// nothing was read.
	Offset int
	// Reason is the rule that was broken; empty where Kind says it all.
	Reason string
}

// Error implements error.
func (e *Error) Error() string {
	text := "format: " + e.Op + ": " + e.Field
	if e.Offset != noOffset {
		text += " at byte " + strconv.Itoa(e.Offset)
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text + ": " + e.Kind.Error()
}

// Unwrap returns Kind.
func (e *Error) Unwrap() error { return e.Kind }

// Hint says what to do next, in one sentence.
func (e *Error) Hint() string {
	switch {
	case errors.Is(e.Kind, ErrUnsupported):
		return "this envelope was made by a newer version: upgrade waxseal here"
	case errors.Is(e.Kind, ErrDataKey):
		return "a data key is exactly 32 random bytes: check what unwrapped it, and that it is not used after it was wiped"
	case errors.Is(e.Kind, ErrCommitment):
		return "the key that was unwrapped is not the one this envelope was sealed with: check that the recipients belong to it, or restore it from its source"
	case errors.Is(e.Kind, ErrCiphertext):
		return "the envelope was altered after it was sealed: restore it from its source"
	case e.Offset == noOffset && errors.Is(e.Kind, ErrLimit):
		return "make the value smaller, or store it elsewhere and seal a reference to it: docs/format.md lists the limits"
	case e.Offset == noOffset:
		return "correct the value: docs/format.md says what it may hold"
	default:
		return "the bytes were altered, cut short, or never were a waxseal envelope: fetch them again from their source"
	}
}

// during completes an error that a check made: what was tried, and where.
func (e *Error) during(op string, offset int) *Error {
	e.Op, e.Offset = op, offset
	return e
}

// fault is an error about one field, as yet without operation and offset.
func fault(kind error, field path, reason string) *Error {
	return &Error{Kind: kind, Field: field.String(), Offset: noOffset, Reason: reason}
}

// tooLong is the fault of a value of n bytes where limit are allowed.
func tooLong(field path, n uint64, limit int) *Error {
	return fault(ErrLimit, field, fmt.Sprintf("%d bytes where at most %d are allowed", n, limit))
}

// path names a field without building its text before it is needed: a list
// with an index, a name, or both.
type path struct {
	list  string
	index int
	name  string
}

// String returns the path as in "claims[2].name".
func (p path) String() string {
	if p.list == "" {
		return p.name
	}
	text := p.list + "[" + strconv.Itoa(p.index) + "]"
	if p.name == "" {
		return text
	}
	return text + "." + p.name
}
