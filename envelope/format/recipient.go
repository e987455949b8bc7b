package format

import "fmt"

// Recipient is one wrapped copy of the data key. The envelope does not authenticate
// recipients, so that a rotation can replace them; the commitment exposes a wrong one.
type Recipient struct {
	// KeyID names the key-encryption key, with "@version" where the KMS reports it: at most MaxKeyID bytes of printable
	// ASCII without a space. It is empty if the container of the envelope names the keys, as Temporal's payload
	// metadata does. Either all recipients of an envelope have one or none has.
	KeyID string
	// WrappedKey is the KMS's own ciphertext of the data key, 1 to maxWrappedKey bytes.
	WrappedKey []byte
}

// ValidateRecipients reports whether an envelope can carry these recipients, of which there are 1 to MaxRecipients. It
// returns an *Error that wraps ErrMalformed or ErrLimit. Parse applies the same rules.
func ValidateRecipients(recipients []Recipient) error {
	bad := checkRecipientCount(len(recipients))
	for i := 0; bad == nil && i < len(recipients); i++ {
		bad = checkRecipient(recipients, i)
	}
	return refuse("check recipients", bad)
}

func checkRecipientCount(n int) *Error {
	switch {
	case n == 0:
		return fault(ErrMalformed, path{name: "recipients"}, "missing")
	case n > MaxRecipients:
		return fault(ErrLimit, path{name: "recipients"}, fmt.Sprintf("more than %d", MaxRecipients))
	}
	return nil
}

// checkRecipient checks recipients[i], and that it names its key if and only if the first one does.
func checkRecipient(recipients []Recipient, i int) *Error {
	r := recipients[i]
	keyID := path{list: "recipients", index: i, name: "key_id"}
	wrapped := path{list: "recipients", index: i, name: "wrapped_key"}
	if (r.KeyID == "") != (recipients[0].KeyID == "") {
		return fault(ErrMalformed, keyID, "either all recipients name their key or none does")
	}
	if r.KeyID != "" {
		if bad := checkKeyID(keyID, r.KeyID); bad != nil {
			return bad
		}
	}
	switch {
	case len(r.WrappedKey) == 0:
		return fault(ErrMalformed, wrapped, "missing")
	case len(r.WrappedKey) > maxWrappedKey:
		return tooLong(wrapped, uint64(len(r.WrappedKey)), maxWrappedKey)
	}
	return nil
}
