package format

// Sizes that the suite fixes, in bytes.
const (
	// DataKeySize is the length of a data key: the pseudorandom key of HKDF, an
	// AES-256 key's worth of entropy.
	DataKeySize = 32

	// SaltSize is the length of the random salt that sets the payload keys of
	// one data key apart. At the most that one data key ever seals (a million
	// envelopes) two salts collide with a probability below 2^-88.
	SaltSize = 16

	// CommitmentSize is the length of the key commitment. Its collision
	// resistance, 128 bits, is what keeps an envelope from opening under two keys.
	CommitmentSize = 32

	// NonceSize is the length of the AES-GCM nonce in front of the ciphertext
	// (SP 800-38D, 8.2.2: 96 random bits).
	NonceSize = 12

	// TagSize is the length of the AES-GCM tag behind the ciphertext.
	TagSize = 16

	// CiphertextOverhead is how much longer the ciphertext field is than what
	// was sealed.
	CiphertextOverhead = NonceSize + TagSize
)

// Limits, in bytes where not said otherwise. They are part of version 1: a
// reader refuses what exceeds them, so a writer must not write it.
const (
	// MaxRecipients is the number of wrapped copies of a data key. Two regions of
	// two clouds are four; the rest is room for a move from one set to another.
	MaxRecipients = 8

	// MaxWrappedKey is the largest wrapped data key. AWS KMS makes 184 bytes,
	// Google Cloud KMS about 113, Vault about 89; HSMs and external key managers
	// wrap under RSA and add envelopes of their own.
	MaxWrappedKey = 4096

	// MaxKeyID is the longest key ID with its version: 1024 for the ID, one for
	// the '@', 75 for the version.
	MaxKeyID = 1100

	// MaxNamespace is the longest namespace. Names people give are far shorter;
	// 255 is what file systems, metrics labels and encryption contexts all carry.
	MaxNamespace = 255

	// MaxClaims is the number of further claims. AWS KMS limits the size, not the
	// count, of an encryption context; four are in use today.
	MaxClaims = 16

	// MaxClaimName is the longest name of a claim.
	MaxClaimName = 64

	// MaxClaimValue is the longest value of a claim: a Temporal workflow ID has
	// at most 1000 bytes.
	MaxClaimValue = 1024

	// MaxPlaintext is the largest plaintext. Temporal refuses payloads above
	// 2 MiB by default; the rest is for blobs in external storage, which must
	// still fit in memory because nothing is released before it is authenticated.
	MaxPlaintext = 64 << 20
)

// What the limits above add up to: tag (1 byte), length (as many bytes as the
// longest value needs) and value of each field.
const (
	maxRecipient  = (1 + 2 + MaxKeyID) + (1 + 2 + MaxWrappedKey)
	maxClaim      = (1 + 1 + MaxClaimName) + (1 + 2 + MaxClaimValue)
	maxCiphertext = MaxPlaintext + CiphertextOverhead
	maxProtected  = (1 + 1) + // suite
		(1 + 1 + SaltSize) +
		(1 + 1 + CommitmentSize) +
		(1 + 2 + MaxNamespace) +
		MaxClaims*(1+2+maxClaim) +
		(1 + 1) // compression

	// MaxEnvelope is the size of the largest envelope that keeps every limit.
	MaxEnvelope = MaxRecipients*(1+2+maxRecipient) + (1 + 3 + maxProtected) + (1 + 4 + maxCiphertext)
)
