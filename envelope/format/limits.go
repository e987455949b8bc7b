package format

// Sizes that the suite fixes, in bytes.
const (
	// DataKeySize is the length of a data key: the pseudorandom key of HKDF, an AES-256 key's worth of entropy.
	DataKeySize = 32

	// SaltSize is the length of the random salt that makes the payload keys of one data key differ. Among the most that
	// one data key seals (a million envelopes) two salts collide with a probability below 2^-88.
	SaltSize = 16

	// CommitmentSize is the length of the key commitment. Its collision
	// resistance, 128 bits, is what keeps an envelope from opening under two keys.
	CommitmentSize = 32

	// nonceSize is the length of the AES-GCM nonce in front of the ciphertext (SP 800-38D, 8.2.2: 96 random bits).
	nonceSize = 12

	// tagSize is the length of the AES-GCM tag behind the ciphertext.
	tagSize = 16

	// ciphertextOverhead is how much longer the ciphertext field is than what was sealed.
	ciphertextOverhead = nonceSize + tagSize
)

// Limits, in bytes unless said otherwise. They are part of version 1: readers refuse what exceeds them.
const (
	// MaxRecipients is the number of wrapped copies of a data key. Two regions of two
	// clouds are four; the rest is for a move from one set to another.
	MaxRecipients = 8

	// maxWrappedKey is the largest wrapped data key. AWS KMS makes 184 bytes, Google Cloud KMS about 113, Vault about
	// 89; HSMs and external key managers wrap under RSA and add envelopes of their own.
	maxWrappedKey = 4096

	// MaxKeyID is the longest key ID with its version: 1024 for the ID, one for the '@', 75 for the version.
	MaxKeyID = 1100

	// MaxNamespace is the longest namespace: what file systems, metrics labels and encryption contexts all carry.
	MaxNamespace = 255

	// maxClaims is the number of further claims. AWS KMS limits the size, not the
	// count, of an encryption context; four are in use today.
	maxClaims = 16

	// maxClaimName is the longest name of a claim.
	maxClaimName = 64

	// MaxClaimValue is the longest value of a claim: a Temporal workflow ID has at most 1000 bytes.
	MaxClaimValue = 1024

	// MaxPlaintext is the largest plaintext. Temporal refuses payloads above 2 MiB by default; the rest is for blobs in
	// external storage. They must fit in memory, since Open returns nothing before it is authenticated.
	MaxPlaintext = 64 << 20
)

// The sums of these limits: tag (1 byte), length (for the longest value) and value of each field.
const (
	maxRecipient  = (1 + 2 + MaxKeyID) + (1 + 2 + maxWrappedKey)
	maxClaim      = (1 + 1 + maxClaimName) + (1 + 2 + MaxClaimValue)
	maxCiphertext = MaxPlaintext + ciphertextOverhead
	maxProtected  = (1 + 1) + // suite
		(1 + 1 + SaltSize) +
		(1 + 1 + CommitmentSize) +
		(1 + 2 + MaxNamespace) +
		maxClaims*(1+2+maxClaim) +
		(1 + 1) // compression

	// maxEnvelope is the size of the largest envelope that keeps every limit.
	maxEnvelope = MaxRecipients*(1+2+maxRecipient) + (1 + 3 + maxProtected) + (1 + 4 + maxCiphertext)
)
