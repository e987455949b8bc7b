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
		return nil, fault(ErrLimit, path{name: "key_ids"}, fmt.Sprintf("more than %d", MaxRecipients)).during(op, noOffset)
	}
	ids := strings.Split(list, " ")
	if bad := checkKeyIDs(ids); bad != nil {
		return nil, bad.during(op, noOffset)
	}
	return ids, nil
}

// KeyIDs returns the key ID of each recipient, in order: those in the envelope, or else
// those of its container. container is nil if the container names no keys; otherwise
// KeyIDs returns it, checked as by SplitKeyIDs.
//
// It returns an *Error that wraps ErrMalformed or ErrLimit if both or neither name the
// keys, or if the container names more or fewer than there are recipients.
func (e *Envelope) KeyIDs(container []string) ([]string, error) {
	const op = "pair key IDs"
	named := slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return r.KeyID != "" })
	refuse := func(reason string) error {
		return fault(ErrMalformed, path{name: "key_ids"}, reason).during(op, noOffset)
	}
	switch {
	case container == nil && !named:
		return nil, refuse("neither the envelope nor its container names the keys")
	case container == nil:
		ids := make([]string, len(e.Recipients))
		for i, r := range e.Recipients {
			ids[i] = r.KeyID
		}
		return ids, nil
	case named:
		return nil, refuse("both the envelope and its container name the keys")
	case len(container) != len(e.Recipients):
		return nil, refuse(fmt.Sprintf("%d for %d recipients", len(container), len(e.Recipients)))
	}
	if bad := checkKeyIDs(container); bad != nil {
		return nil, bad.during(op, noOffset)
	}
	return container, nil
}

func checkKeyIDs(ids []string) *Error {
	for i, id := range ids {
		if bad := checkKeyID(path{list: "key_ids", index: i}, id); bad != nil {
			return bad
		}
	}
	return nil
}

// checkKeyID is the one rule for a key ID, in an envelope and beside it.
func checkKeyID(field path, id string) *Error {
	switch {
	case id == "":
		return fault(ErrMalformed, field, "missing")
	case len(id) > MaxKeyID:
		return tooLong(field, uint64(len(id)), MaxKeyID)
	case !printable(id):
		return fault(ErrMalformed, field, "a character other than printable ASCII, or a space")
	}
	return nil
}

// printable reports whether s is printable ASCII without a space: a list of key
// IDs is written with spaces between them.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
