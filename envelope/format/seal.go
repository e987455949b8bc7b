package format

import (
	"crypto/rand"
	"slices"

	"github.com/waxseal/waxseal/internal/erase"
)

// Seal encrypts plaintext, 0 to MaxPlaintext bytes, under a payload key that it
// derives from dataKey and a random salt, and returns the envelope. dataKey is
// DataKeySize random bytes that the recipients hold wrapped; Seal cannot check
// that they do. Nothing it is given is kept or changed.
//
// How many envelopes share a data key is the caller's rule; each has a payload
// key of its own.
//
// It returns an *Error that wraps ErrDataKey, ErrLimit, ErrMalformed or
// ErrUnsupported when an argument breaks a rule of the format: a bug or a bad
// name in the caller, kms.Internal to those who ask.
func Seal(dataKey []byte, recipients []Recipient, h Header, plaintext []byte) ([]byte, error) {
	return AppendSeal(nil, dataKey, recipients, h, plaintext)
}

// AppendSeal is Seal into the spare capacity of dst, which must not overlap
// plaintext: it returns dst with the envelope appended, and allocates once if
// the capacity does not do.
func AppendSeal(dst, dataKey []byte, recipients []Recipient, h Header, plaintext []byte) ([]byte, error) {
	const op = "seal"
	if bad := checkDataKey(dataKey); bad != nil {
		return nil, bad.during(op, noOffset)
	}
	if bad := checkNotWiped(dataKey); bad != nil {
		return nil, bad.during(op, noOffset)
	}
	if n := len(plaintext); n > MaxPlaintext {
		return nil, tooLong(path{name: "plaintext"}, uint64(n), MaxPlaintext).during(op, noOffset)
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if err := ValidateRecipients(recipients); err != nil {
		return nil, err
	}

	var salt [SaltSize]byte
	_, _ = rand.Read(salt[:]) // never fails: crypto/rand ends the program instead
	protectedSize := sizeProtected(h)
	ciphertextSize := len(plaintext) + CiphertextOverhead
	// All there is room for: what grows while keys are in use leaves them behind.
	dst = slices.Grow(dst, sizeRecipients(recipients)+sizeBytes(protectedSize)+sizeBytes(ciphertextSize))
	dst = appendRecipients(dst, recipients)
	dst = appendLength(dst, envelopeProtected, protectedSize)
	var err error
	erase.Do(func() { dst, err = appendBody(dst, dataKey, &salt, h, plaintext) })
	return dst, err
}

// appendBody appends all that depends on the keys: the protected fields and the
// ciphertext. Both fit in dst.
func appendBody(dst, dataKey []byte, salt *[SaltSize]byte, h Header, plaintext []byte) ([]byte, error) {
	keys, err := derive(dataKey, salt)
	if err != nil {
		return nil, err
	}
	defer keys.wipe()
	aead, err := newAEAD(keys.payloadKey())
	if err != nil {
		return nil, err
	}
	defer aead.wipe()
	start := len(dst)
	dst = appendProtected(dst, h, salt, keys.commitment())
	protected := dst[start:]
	dst = appendLength(dst, envelopeCiphertext, len(plaintext)+CiphertextOverhead)
	return aead.Seal(dst, nil, plaintext, protected), nil //nolint:gosec // this AEAD makes its own nonce
}
