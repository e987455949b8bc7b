package format

import (
	"cmp"
	"crypto/rand"

	"github.com/waxseal/waxseal/internal/erase"
)

// Seal encrypts plaintext, 0 to MaxPlaintext bytes, under a payload key that it derives from dataKey and a random salt,
// and returns the envelope. dataKey is DataKeySize random bytes that the recipients hold wrapped, which Seal cannot
// check. It keeps and changes none of its arguments.
//
// The caller decides how many envelopes share a data key; each has its own payload key.
//
// It returns an *Error that wraps ErrDataKey, ErrLimit, ErrMalformed or ErrUnsupported when an argument breaks a rule
// of the format. That is a bug or a bad name in the caller: kms.Internal.
func Seal(dataKey []byte, recipients []Recipient, h Header, plaintext []byte) ([]byte, error) {
	const op = "seal"
	if err := refuse(op, cmp.Or(checkDataKey(dataKey), checkNotWiped(dataKey))); err != nil {
		return nil, err
	}
	if n := len(plaintext); n > MaxPlaintext {
		return nil, refuse(op, tooLong(path{name: "plaintext"}, uint64(n), MaxPlaintext))
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
	ciphertextSize := len(plaintext) + ciphertextOverhead
	// The exact size: a slice or stack that grows while keys are in use leaves copies behind.
	dst := make([]byte, 0, sizeRecipients(recipients)+sizeBytes(protectedSize)+sizeBytes(ciphertextSize))
	dst = appendRecipients(dst, recipients)
	dst = appendLength(dst, envelopeProtected, protectedSize)
	var err error
	erase.Do(func() { dst, err = appendBody(dst, dataKey, &salt, h, plaintext) })
	return dst, err
}

// appendBody appends protected fields and ciphertext, which fit in dst.
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
	dst = appendLength(dst, envelopeCiphertext, len(plaintext)+ciphertextOverhead)
	return aead.Seal(dst, nil, plaintext, protected), nil //nolint:gosec // this AEAD makes its own nonce
}
