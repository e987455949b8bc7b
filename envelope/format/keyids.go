package format

import (
	"fmt"
	"slices"
	"strings"
)

// SplitKeyIDs returns the key IDs of a list as a container writes it (the
// encryption-key-id of a Temporal payload): 1 to MaxRecipients of them, each of 1
// to MaxKeyID printable ASCII characters, with exactly one space between two. The list
// is not authenticated, so nothing else may reach a log or a terminal. It returns an
// *Error that wraps ErrMalformed or ErrLimit.
func SplitKeyIDs(list string) ([]string, error) {
	const op = "read key IDs"
	if strings.Count(list, " ") >= MaxRecipients {
		return nil, refuse(op, fault(ErrLimit, path{name: "key_ids"}, fmt.Sprintf("more than %d", MaxRecipients)))
	}
	return checkKeyIDs(op, strings.Split(list, " "))
}

// KeyIDs returns the key ID of each recipient, in order: those in the envelope, or else those of its container.
// container is nil if the container names no keys; otherwise KeyIDs returns it, checked as by SplitKeyIDs.
//
// It returns an *Error that wraps ErrMalformed or ErrLimit if both or neither name the
// keys, or if the container names more or fewer than there are recipients.
func (e *Envelope) KeyIDs(container []string) ([]string, error) {
	const op = "pair key IDs"
	named := slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return r.KeyID != "" })
	mismatch := func(reason string) error { return refuse(op, fault(ErrMalformed, path{name: "key_ids"}, reason)) }
	switch {
	case container == nil && !named:
		return nil, mismatch("neither the envelope nor its container names the keys")
	case container == nil:
		ids := make([]string, len(e.Recipients))
		for i, r := range e.Recipients {
			ids[i] = r.KeyID
		}
		return ids, nil
	case named:
		return nil, mismatch("both the envelope and its container name the keys")
	case len(container) != len(e.Recipients):
		return nil, mismatch(fmt.Sprintf("%d for %d recipients", len(container), len(e.Recipients)))
	}
	return checkKeyIDs(op, container)
}

// checkKeyIDs returns ids, or why a container cannot name them.
func checkKeyIDs(op string, ids []string) ([]string, error) {
	for i, id := range ids {
		if bad := checkKeyID(path{list: "key_ids", index: i}, id); bad != nil {
			return nil, refuse(op, bad)
		}
	}
	return ids, nil
}

// checkKeyID is the one rule for a key ID, in an envelope and beside it. A list of key
// IDs is written with spaces between them.
func checkKeyID(field path, id string) *Error {
	switch {
	case id == "":
		return fault(ErrMalformed, field, "missing")
	case len(id) > MaxKeyID:
		return tooLong(field, uint64(len(id)), MaxKeyID)
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fault(ErrMalformed, field, "a character other than printable ASCII, or a space")
	}
	return nil
}
