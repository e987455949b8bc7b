package format

import (
	"errors"
	"fmt"
	"strconv"
)

// The kinds of failure; every *Error wraps one of them. They are about the bytes, so a
// retry cannot help, and package envelope reports those from storage as kms.Corrupt.
var (
	// ErrMalformed means the bytes are not the one encoding of a version 1
	// envelope, or a value to be written could not be part of one.
	ErrMalformed = errors.New("malformed envelope")

	// ErrUnsupported means the envelope has a suite or a compression that this version
	// does not know. To version 1 that is malformed: errors.Is(err, ErrMalformed) holds.
	ErrUnsupported = fmt.Errorf("unsupported: %w", ErrMalformed)

	// ErrLimit means a value exceeds one of the limits of version 1.
	ErrLimit = errors.New("limit exceeded")

	// ErrDataKey means the data key is not DataKeySize bytes long, or was wiped.
	ErrDataKey = errors.New("unusable data key")

	// ErrCommitment means the envelope was sealed under another data key, or its
	// salt or commitment was altered. Nothing was decrypted.
	ErrCommitment = errors.New("data key does not match the commitment")

	// ErrCiphertext means the data key is right, but the ciphertext or a protected field was altered.
	ErrCiphertext = errors.New("authentication failed")
)

// noOffset is the Offset of an error that is not about bytes that were read.
const noOffset = -1

// Error says which field of an envelope broke which rule. Its text holds names, numbers and rules, never content.
type Error struct {
	// Op is the operation: "seal", "parse envelope", "open envelope", ….
	Op string
	// Kind is ErrMalformed, ErrUnsupported, ErrLimit, ErrDataKey, ErrCommitment or ErrCiphertext.
	Kind error
	// Field is the path of the field, such as "namespace", "claims[2].name" or "recipients[0].wrapped_key"; a message's
	// own name ("envelope", "protected", "claims[2]") if no single field is at fault.
	Field string
	// Offset is where the field's tag is or was expected, in bytes from the start of the envelope; for a value in a
	// recipient or a claim, where that begins. -1 if nothing was read.
	Offset int
	// Reason is the broken rule; empty if Kind says it all.
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

// during completes the error of a check with operation and place.
func (e *Error) during(op string, offset int) *Error {
	e.Op, e.Offset = op, offset
	return e
}

// refuse completes the error of a check that read no bytes; nil if the check passed.
func refuse(op string, bad *Error) error {
	if bad == nil {
		return nil
	}
	return bad.during(op, noOffset)
}

// fault is an error about one field, without operation and offset.
func fault(kind error, field path, reason string) *Error {
	return &Error{Kind: kind, Field: field.String(), Offset: noOffset, Reason: reason}
}

// tooLong is the fault of a value of n bytes.
func tooLong(field path, n uint64, limit int) *Error {
	return fault(ErrLimit, field, fmt.Sprintf("%d bytes where at most %d are allowed", n, limit))
}

// path names a field: a list with an index, a name, or both. Only errors build its text.
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
