package kms

import (
	"context"
)

const (
	// DataKeySize is the length in bytes of every data key: an AES-256 key's worth.
	DataKeySize = 32

	// MaxWrappedSize is the largest wrapped data key in bytes that Waxseal
	// stores. AWS KMS wraps 32 bytes into 184, Google Cloud KMS into about 113,
	// Vault into about 89; the room above is for HSM and external key managers.
	MaxWrappedSize = 4096

	// MaxKeyIDSize is the longest recorded key ID in bytes, version excluded.
	MaxKeyIDSize = 1024
)

// Key is one key-encryption key (KEK). The key itself never leaves its KMS.
//
// Implementations are safe for concurrent use, never retain or mutate their
// arguments, and report every failure as an *Error (directly or wrapped).
type Key interface {
	// ID returns the URI that is recorded in envelopes. It is stable for the
	// life of the key, never holds a credential, a space or '@', and is at most
	// MaxKeyIDSize bytes.
	ID() string

	// Wrap encrypts each data key (DataKeySize bytes) under the key's current
	// version, bound to ec. It answers with one Wrapped for each data key, in
	// order, or with an error and nothing.
	Wrap(ctx context.Context, dataKeys [][]byte, ec Context) ([]Wrapped, error)

	// Unwrap decrypts each wrapped data key with the same ec it was wrapped
	// under. It answers with one Unwrapped for each, in order, each with an error
	// of its own; the error result is for what failed them all.
	Unwrap(ctx context.Context, wrapped []Wrapped, ec Context) ([]Unwrapped, error)
}

// Wrapped is a data key encrypted under a KEK.
type Wrapped struct {
	// Version of the KEK that wrapped it, as the KMS names it ("7"); empty where the KMS
	// does not say. It names, it does not choose: Unwrap reads the version from Blob.
	Version string
	// Blob is the KMS's own ciphertext, 1 to MaxWrappedSize bytes.
	Blob []byte
}

// Unwrapped is the outcome for one wrapped data key: a data key of DataKeySize
// bytes that the caller owns and wipes, or an error.
type Unwrapped struct {
	DataKey []byte
	Err     error
}

// Closer is implemented by keys that hold connections or background work.
// Close stops them; the key is not used afterwards.
type Closer interface {
	Close() error
}
