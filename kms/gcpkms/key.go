package gcpkms

import (
	"hash/crc32"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/waxseal/waxseal/kms"
)

// opMakePrimary is the operation of MakePrimary that errors name.
const opMakePrimary = "make primary"

// The IAM permissions that calls need, on the key.
const (
	permEncrypt        = "cloudkms.cryptoKeyVersions.useToEncrypt"
	permDecrypt        = "cloudkms.cryptoKeyVersions.useToDecrypt"
	permGetKey         = "cloudkms.cryptoKeys.get"
	permUpdateKey      = "cloudkms.cryptoKeys.update"
	permGetVersion     = "cloudkms.cryptoKeyVersions.get"
	permListVersions   = "cloudkms.cryptoKeyVersions.list"
	permCreateVersion  = "cloudkms.cryptoKeyVersions.create"
	permUpdateVersion  = "cloudkms.cryptoKeyVersions.update"
	permDestroyVersion = "cloudkms.cryptoKeyVersions.destroy"
	permRestoreVersion = "cloudkms.cryptoKeyVersions.restore"
)

// maxParallel is how many requests one call has in flight at most: as many as
// Google's front ends take at a time on a connection, so that a batch of 100 data
// keys takes one round trip, and what more there is waits in the client.
const maxParallel = 100

// Key is a symmetric key of Cloud KMS: a kms.Key that is safe for concurrent use.
// It prints as its ID.
type Key struct {
	id, name, endpoint string
	timeout            time.Duration
	generation         time.Duration // that Rotate waits for a version at most
	conn               *connection
	release            func() error
}

var (
	_ kms.Key     = (*Key)(nil)
	_ kms.Rotator = (*Key)(nil)
	_ kms.Retirer = (*Key)(nil)
	_ kms.Prober  = (*Key)(nil)
	_ kms.Closer  = (*Key)(nil)
	_ kms.Locator = (*Key)(nil)
)

// ID implements kms.Key: "gcpkms://" and the key's resource name.
func (k *Key) ID() string { return k.id }

// Location implements kms.Locator with the endpoint. A resource name is unique, but
// emulators give theirs to keys of their own.
func (k *Key) Location() string { return k.endpoint }

// String returns the ID.
func (k *Key) String() string { return k.id }

// GoString returns the ID.
func (k *Key) GoString() string { return k.id }

// Close closes the connection to Cloud KMS, unless another key of a NewBackend
// uses it still. Calls under way fail. It may be called twice.
func (k *Key) Close() error { return k.release() }

// checksum is the CRC32C that Cloud KMS wants and gives.
func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

// intact reports whether sum came and is that of b, or says what is wrong.
func (k *Key) intact(b []byte, sum *wrapperspb.Int64Value) (refusal, bool) {
	switch {
	case sum == nil:
		return k.unconfirmed(), false
	case sum.Value != checksum(b).Value:
		return damagedAnswer(), false
	}
	return refusal{}, true
}
