package format

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"github.com/waxseal/waxseal/internal/erase"
)

// Suite is the set of algorithms of an envelope.
type Suite uint32

// Suite1 is the only suite of version 1: HKDF-Expand-SHA256 (RFC 5869) derives payload key and commitment from the data
// key, AES-256-GCM (SP 800-38D) with a random 96-bit nonce seals. It is key committing and FIPS 140 approved.
const Suite1 Suite = 1

// String returns "HKDF-Expand-SHA256 + AES-256-GCM", or such as "suite(7)" if unknown.
func (s Suite) String() string {
	if s == Suite1 {
		return "HKDF-Expand-SHA256 + AES-256-GCM"
	}
	return fmt.Sprintf("suite(%d)", uint32(s))
}

// payloadCipher is the AEAD of one payload key. Its maker wipes it.
type payloadCipher struct {
	cipher.AEAD
	block cipher.Block
}

func (c payloadCipher) wipe() { erase.Crypto(c.AEAD, c.block) }

// newAEAD returns AES-256-GCM that makes its own nonces, the only GCM that FIPS 140
// mode allows. Call it within erase.Do.
func newAEAD(payloadKey []byte) (payloadCipher, error) {
	block, err := aes.NewCipher(payloadKey)
	if err != nil {
		return payloadCipher{}, fmt.Errorf("format: use payload key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return payloadCipher{aead, block}, err
}

// checkDataKey checks the length: a caller's fault must not pass for an altered envelope.
func checkDataKey(dataKey []byte) *Error {
	if len(dataKey) != DataKeySize {
		return fault(ErrDataKey, path{name: "data key"}, fmt.Sprintf("%d bytes where %d are needed", len(dataKey), DataKeySize))
	}
	return nil
}

// checkNotWiped refuses a wiped key. A random key is all zero once in 2^256.
func checkNotWiped(dataKey []byte) *Error {
	var zero [DataKeySize]byte
	if subtle.ConstantTimeCompare(dataKey, zero[:]) == 1 {
		return fault(ErrDataKey, path{name: "data key"}, "all zero")
	}
	return nil
}
