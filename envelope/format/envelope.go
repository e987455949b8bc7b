package format

import "github.com/waxseal/waxseal/internal/erase"

const opOpen = "open envelope"

// Envelope is what Parse read: all that an envelope says without a key. Wrapped keys alias the bytes given to Parse.
//
// Open checks the data key against Salt and Commitment. Changing any other field does
// not change what Open authenticates.
type Envelope struct {
	// Suite is the set of algorithms; always Suite1 in version 1.
	Suite Suite
	// Salt makes this envelope's payload key differ from others of its data key.
	Salt [SaltSize]byte
	// Commitment is a value that only the right data key derives.
	Commitment [CommitmentSize]byte
	// Recipients are 1 to MaxRecipients wrapped copies of the data key. They are not authenticated.
	Recipients []Recipient
	// Header is what the sealer chose. Open authenticates it, not Parse: a decision on
	// it before stands only if Open succeeds.
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
func (e *Envelope) PlaintextSize() int { return len(e.ciphertext) - ciphertextOverhead }

// CommitsTo reports whether the envelope was sealed under this data key, by its commitment alone and in constant time.
// It does not check the ciphertext. A key of the wrong length gives false.
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

// Open decrypts the envelope with its data key of DataKeySize bytes, which it neither
// keeps nor changes, and returns the plaintext in a new slice. It does not decompress.
//
// The order of checks: length of the data key (ErrDataKey) → commitment, in constant time (ErrCommitment) → AES-GCM
// over the protected fields and the ciphertext (ErrCiphertext). The first failure ends it with an *Error, and no
// plaintext. Package envelope reports all three as kms.Corrupt.
func (e *Envelope) Open(dataKey []byte) ([]byte, error) {
	if err := refuse(opOpen, checkDataKey(dataKey)); err != nil {
		return nil, err
	}
	// The exact size, as in Seal. An Envelope that Parse did not make may have no ciphertext.
	plaintext := make([]byte, 0, max(e.PlaintextSize(), 0))
	var err error
	erase.Do(func() { plaintext, err = e.appendPlaintext(plaintext, dataKey) })
	return plaintext, err
}

// appendPlaintext appends the plaintext to dst, which has room for it. After an error
// dst's capacity holds no plaintext.
func (e *Envelope) appendPlaintext(dst, dataKey []byte) ([]byte, error) {
	keys, err := derive(dataKey, &e.Salt)
	if err != nil {
		return nil, err
	}
	defer keys.wipe()
	if !keys.commitsTo(&e.Commitment) {
		return nil, refuse(opOpen, fault(ErrCommitment, path{name: "commitment"}, ""))
	}
	aead, err := newAEAD(keys.payloadKey())
	if err != nil {
		return nil, err
	}
	defer aead.wipe()
	plaintext, err := aead.Open(dst, nil, e.ciphertext, e.protected)
	if err != nil {
		return nil, refuse(opOpen, fault(ErrCiphertext, path{name: "ciphertext"}, ""))
	}
	return plaintext, nil
}
