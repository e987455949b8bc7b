package format

import (
	"slices"

	"github.com/waxseal/waxseal/internal/erase"
)

const opOpen = "open envelope"

// Envelope is what Parse read: everything an envelope says without a key.
//
// Changing its fields does not change what Open authenticates, except that Salt
// and Commitment are what the data key is checked against. Wrapped keys alias
// the bytes given to Parse; Namespace and claims are parts of one string.
type Envelope struct {
	// Suite is the set of algorithms; always Suite1 in version 1.
	Suite Suite
	// Salt sets this envelope's payload key apart from others of its data key.
	Salt [SaltSize]byte
	// Commitment is the value that only the right data key derives.
	Commitment [CommitmentSize]byte
	// Recipients are 1 to MaxRecipients wrapped copies of the data key. They are
	// not authenticated.
	Recipients []Recipient
	// Header is what the sealer chose. It is authenticated by Open, not by Parse:
	// decisions taken on it before stand only if Open succeeds.
	Header Header

	raw        []byte // the whole envelope
	body       int    // where in raw the recipients end
	protected  []byte // the exact bytes that are the associated data
	ciphertext []byte // nonce, ciphertext, tag
}

// CiphertextSize returns the length of nonce, ciphertext and tag in bytes.
func (e *Envelope) CiphertextSize() int { return len(e.ciphertext) }

// PlaintextSize returns the length in bytes of what Open returns: the
// compressed length where Header says that it is compressed.
func (e *Envelope) PlaintextSize() int { return len(e.ciphertext) - CiphertextOverhead }

// CommitsTo reports whether the envelope was sealed under this data key, by its
// commitment alone and in constant time. It decrypts nothing and says nothing
// about whether the ciphertext is intact. A key of the wrong length gives false.
func (e *Envelope) CommitsTo(dataKey []byte) bool {
	if checkDataKey(dataKey) != nil {
		return false
	}
	commits := false
	erase.Do(func() {
		keys, err := derive(dataKey, &e.Salt)
		if err != nil {
			return
		}
		defer keys.wipe()
		commits = keys.commitsTo(&e.Commitment)
	})
	return commits
}

// Open decrypts the envelope with its data key of DataKeySize bytes, which it
// neither keeps nor changes, and returns the plaintext in a slice of its own. It
// does not decompress.
//
// The order of checks: length of the data key (ErrDataKey) → commitment, in
// constant time (ErrCommitment) → AES-GCM over the protected fields and the
// ciphertext (ErrCiphertext). The first failure ends it with an *Error, and no
// plaintext. Package envelope reports all three as kms.Corrupt.
func (e *Envelope) Open(dataKey []byte) ([]byte, error) {
	return e.AppendOpen(nil, dataKey)
}

// AppendOpen is Open into the spare capacity of dst, which must not overlap the
// envelope: it returns dst with the plaintext appended. After an error the spare
// capacity holds no plaintext.
func (e *Envelope) AppendOpen(dst, dataKey []byte) ([]byte, error) {
	if bad := checkDataKey(dataKey); bad != nil {
		return nil, bad.during(opOpen, noOffset)
	}
	dst = slices.Grow(dst, max(e.PlaintextSize(), 0)) // as in AppendSeal; an Envelope that Parse did not make may have no ciphertext
	var err error
	erase.Do(func() { dst, err = e.appendPlaintext(dst, dataKey) })
	return dst, err
}

// appendPlaintext appends the plaintext, for which dst has the room.
func (e *Envelope) appendPlaintext(dst, dataKey []byte) ([]byte, error) {
	keys, err := derive(dataKey, &e.Salt)
	if err != nil {
		return nil, err
	}
	defer keys.wipe()
	if !keys.commitsTo(&e.Commitment) {
		return nil, fault(ErrCommitment, path{name: "commitment"}, "").during(opOpen, noOffset)
	}
	aead, err := newAEAD(keys.payloadKey())
	if err != nil {
		return nil, err
	}
	defer aead.wipe()
	plaintext, err := aead.Open(dst, nil, e.ciphertext, e.protected)
	if err != nil {
		return nil, fault(ErrCiphertext, path{name: "ciphertext"}, "").during(opOpen, noOffset)
	}
	return plaintext, nil
}
