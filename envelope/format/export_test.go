package format

// Reencode writes e again from what Parse understood of it, without using the
// bytes that were parsed, except for the ciphertext.
func Reencode(e *Envelope) []byte {
	b := appendRecipients(nil, e.Recipients)
	b = appendBytes(b, envelopeProtected, appendProtected(nil, e.Header, &e.Salt, e.Commitment[:]))
	return appendBytes(b, envelopeCiphertext, e.ciphertext)
}

// Body returns where in the envelope the recipients end.
func Body(e *Envelope) int { return e.body }

// Protected returns the associated data, Ciphertext nonce, ciphertext and tag.
func Protected(e *Envelope) []byte  { return e.protected }
func Ciphertext(e *Envelope) []byte { return e.ciphertext }

// Derive and NewAEAD are the suite's two steps, to be called with keys that no
// exported function lets through.
func Derive(dataKey []byte, salt *[SaltSize]byte) ([]byte, error) { return derive(dataKey, salt) }

func NewAEAD(payloadKey []byte) error {
	_, err := newAEAD(payloadKey)
	return err
}

// AppendPlaintext is Open into the capacity of dst.
func AppendPlaintext(e *Envelope, dst, dataKey []byte) ([]byte, error) {
	return e.appendPlaintext(dst, dataKey)
}

// Sizes, limits, and what these add up to.
const (
	NonceSize          = nonceSize
	TagSize            = tagSize
	CiphertextOverhead = ciphertextOverhead
	MaxWrappedKey      = maxWrappedKey
	MaxClaims          = maxClaims
	MaxClaimName       = maxClaimName
	MaxEnvelope        = maxEnvelope

	MaxRecipient = maxRecipient
	MaxClaim     = maxClaim
	MaxProtected = maxProtected
)
