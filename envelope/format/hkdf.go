package format

// HKDF-Expand is written here because crypto/hkdf leaves the data key and the payload key in HMAC states on the heap
// until their memory is used again, and only the runtime can erase them there. This one works on the stack, which
// erase.Do clears. FIPS 140 mode approves only of the module's own, so derive uses that one then. A test compares the
// two.

import (
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

const (
	// infoLabel separates what is derived here from any other use of a data key.
	infoLabel = "waxseal/v1"

	payloadKeySize = 32
	derivedSize    = payloadKeySize + CommitmentSize
)

// derived is payload key and commitment of one data key and one salt. Its maker wipes it.
type derived []byte

func (d derived) payloadKey() []byte { return d[:payloadKeySize] }
func (d derived) commitment() []byte { return d[payloadKeySize:] }
func (d derived) wipe()              { clear(d) }

// commitsTo compares in constant time, so that it reveals no part of a commitment.
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
	okm, err := hkdf.Expand(sha256.New, dataKey, info, derivedSize)
	if err != nil {
		return nil, fmt.Errorf("format: derive payload key: %w", err)
	}
	return okm, nil
}

// expand is HKDF-Expand-SHA256 (RFC 5869, 2.3) to derivedSize bytes.
func expand(prk []byte, info string) derived {
	okm := make(derived, 0, derivedSize)
	var buf [sha256.Size + len(infoLabel) + SaltSize + 1]byte // the block before, info, and a counter
	defer clear(buf[:])
	for counter := byte(1); len(okm) < derivedSize; counter++ {
		m := append(buf[:0], okm[max(len(okm)-sha256.Size, 0):]...)
		m = append(append(m, info...), counter)
		mac := hmacSHA256(prk, m)
		okm = append(okm, mac[:]...)
		clear(mac[:])
	}
	return okm
}

// hmacSHA256 is HMAC-SHA-256 (RFC 2104, FIPS 198-1) for a key of at most a block and a short message.
func hmacSHA256(key, msg []byte) [sha256.Size]byte {
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
	n := copy(inner[sha256.BlockSize:], msg)
	digest := sha256.Sum256(inner[:sha256.BlockSize+n])
	copy(outer[sha256.BlockSize:], digest[:])
	return sha256.Sum256(outer[:])
}
