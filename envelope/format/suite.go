package format

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/waxseal/waxseal/internal/erase"
)

// Suite is the set of algorithms of an envelope.
type Suite uint32

// Suite1 is the only suite of version 1: HKDF-Expand-SHA256 (RFC 5869) derives
// payload key and commitment from the data key, AES-256-GCM (SP 800-38D) with a
// random 96-bit nonce seals. It is key committing and FIPS 140 approved.
const Suite1 Suite = 1

// String returns "HKDF-Expand-SHA256 + AES-256-GCM", or "suite(7)" for what is not known.
func (s Suite) String() string {
	if s == Suite1 {
		return "HKDF-Expand-SHA256 + AES-256-GCM"
	}
	return fmt.Sprintf("suite(%d)", uint32(s))
}

const (
	// infoLabel sets what we derive apart from any other use of a data key.
	infoLabel = "waxseal/v1"

	payloadKeySize = 32
	derivedSize    = payloadKeySize + CommitmentSize
)

// derived is what one data key and one salt give: payload key, then commitment.
// Its maker wipes it.
type derived []byte

func (d derived) payloadKey() []byte { return d[:payloadKeySize] }
func (d derived) commitment() []byte { return d[payloadKeySize:] }
func (d derived) wipe()              { clear(d) }

// commitsTo compares in constant time: how much of a commitment a guess got
// right is nobody's business.
func (d derived) commitsTo(commitment *[CommitmentSize]byte) bool {
	return subtle.ConstantTimeCompare(d.commitment(), commitment[:]) == 1
}

// derive expands the data key. Extract is skipped because the data key is
// uniformly random already (RFC 5869, 3.3). Call it within erase.Do.
func derive(dataKey []byte, salt *[SaltSize]byte) (derived, error) {
	info := infoLabel + string(salt[:])
	if !fips140.Enabled() {
		return expand(dataKey, info), nil
	}
	// FIPS 140 approves of the module's own HKDF. Its HMACs keep data key and payload
	// key until their memory is used again: only the runtime can erase them.
	okm, err := hkdf.Expand(sha256.New, dataKey, info, derivedSize)
	if err != nil {
		return nil, fmt.Errorf("format: derive payload key: %w", err)
	}
	return okm, nil
}

// expand is HKDF-Expand-SHA256 (RFC 5869, 2.3) to derivedSize bytes. Unlike that of
// crypto/hkdf it has all it works with on the stack, which erase.Do clears.
func expand(prk []byte, info string) derived {
	okm := make(derived, 0, derivedSize)
	var message [sha256.Size + len(infoLabel) + SaltSize + 1]byte // the block before, info, and a counter
	defer clear(message[:])
	for counter := byte(1); len(okm) < derivedSize; counter++ {
		m := append(message[:0], okm[max(len(okm)-sha256.Size, 0):]...)
		m = append(append(m, info...), counter)
		mac := hmacSHA256(prk, m)
		okm = append(okm, mac[:]...)
		clear(mac[:])
	}
	return okm
}

// hmacSHA256 is HMAC-SHA-256 (RFC 2104, FIPS 198-1) for a key of at most a block and
// a short message.
func hmacSHA256(key, message []byte) [sha256.Size]byte {
	var inner [sha256.BlockSize + sha256.Size + len(infoLabel) + SaltSize + 1]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	defer clear(inner[:])
	defer clear(outer[:])
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	n := copy(inner[sha256.BlockSize:], message)
	digest := sha256.Sum256(inner[:sha256.BlockSize+n])
	copy(outer[sha256.BlockSize:], digest[:])
	return sha256.Sum256(outer[:])
}

// payloadCipher is the AEAD of one payload key. Its maker wipes it.
type payloadCipher struct {
	cipher.AEAD
	block cipher.Block
}

func (c payloadCipher) wipe() { erase.Crypto(c.AEAD, c.block) }

// newAEAD returns AES-256-GCM that makes its own nonces, the only GCM that FIPS
// 140 mode allows. Call it within erase.Do.
func newAEAD(payloadKey []byte) (payloadCipher, error) {
	block, err := aes.NewCipher(payloadKey)
	if err != nil {
		return payloadCipher{}, fmt.Errorf("format: use payload key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return payloadCipher{aead, block}, err
}

// checkDataKey checks the length. A wrong one is the fault of whoever unwrapped
// it and must not be mistaken for an altered envelope.
func checkDataKey(dataKey []byte) *Error {
	if len(dataKey) != DataKeySize {
		return fault(ErrDataKey, path{name: "data key"}, fmt.Sprintf("%d bytes where %d are needed", len(dataKey), DataKeySize))
	}
	return nil
}

// checkNotWiped refuses the key that a use after wiping would give. A random
// key is all zero once in 2^256.
func checkNotWiped(dataKey []byte) *Error {
	var zero [DataKeySize]byte
	if subtle.ConstantTimeCompare(dataKey, zero[:]) == 1 {
		return fault(ErrDataKey, path{name: "data key"}, "all zero")
	}
	return nil
}
