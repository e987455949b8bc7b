package kmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"

	"github.com/waxseal/waxseal/kms"
)

// fakeKey is the key material behind the handles of one Fake. A blob is the
// version as four big-endian bytes, then nonce, ciphertext and tag.
type fakeKey struct {
	id string

	mu       sync.RWMutex
	versions []cipher.AEAD // version n is at n-1
	disabled bool
}

const fakeBlobSize = 4 + 12 + kms.DataKeySize + 16

func newFakeKey(id string) (*fakeKey, error) {
	if err := kms.CheckID(id); err != nil {
		return nil, fmt.Errorf("kmstest: make fake key: %w", err)
	}
	k := &fakeKey{id: id}
	k.rotate()
	return k, nil
}

func (k *fakeKey) rotate() string {
	aead, err := newAEAD()
	if err != nil {
		panic(err) //nolint:forbidigo // only for a wrong key length
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.versions = append(k.versions, aead)
	return strconv.Itoa(len(k.versions))
}

// newAEAD returns AES-256-GCM under a new key.
func newAEAD() (cipher.AEAD, error) {
	material := make([]byte, 32)
	rand.Read(material)
	block, err := aes.NewCipher(material)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k *fakeKey) version() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return strconv.Itoa(len(k.versions))
}

func (k *fakeKey) setDisabled(disabled bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.disabled = disabled
}

// wrap and unwrap return a *kms.Error whose Op and KeyID the Fake fills in.

func (k *fakeKey) wrap(dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for i, d := range dataKeys {
		if len(d) != kms.DataKeySize {
			return nil, &kms.Error{Class: kms.Internal, Detail: fmt.Sprintf("data key %d of %d has %d bytes, want %d", i+1, len(dataKeys), len(d), kms.DataKeySize)}
		}
	}
	if k.disabled {
		return nil, &kms.Error{Class: kms.Disabled, Detail: "the key is switched off"}
	}
	n := len(k.versions)
	out := make([]kms.Wrapped, len(dataKeys))
	for i, d := range dataKeys {
		blob := binary.BigEndian.AppendUint32(make([]byte, 0, fakeBlobSize), uint32(n)) //nolint:gosec // a test does not rotate four billion times
		out[i] = kms.Wrapped{Version: strconv.Itoa(n), Blob: k.versions[n-1].Seal(blob, nil, d, k.bind(ec))}
	}
	return out, nil
}

func (k *fakeKey) unwrap(w kms.Wrapped, ec kms.Context) ([]byte, error) {
	if len(w.Blob) != fakeBlobSize {
		return nil, &kms.Error{Class: kms.Corrupt, Detail: fmt.Sprintf("blob of %d bytes, want %d", len(w.Blob), fakeBlobSize)}
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.disabled {
		return nil, &kms.Error{Class: kms.Disabled, Detail: "the key is switched off"}
	}
	n := uint64(binary.BigEndian.Uint32(w.Blob))
	if n == 0 || n > uint64(len(k.versions)) {
		return nil, &kms.Error{Class: kms.NotFound, Detail: fmt.Sprintf("no version %d", n)}
	}
	d, err := k.versions[n-1].Open(nil, nil, w.Blob[4:], k.bind(ec))
	if err != nil {
		return nil, &kms.Error{Class: kms.Corrupt, Detail: "altered, or wrapped under another key or context"}
	}
	return d, nil
}

// bind returns the associated data: no blob opens under another key's ID.
func (k *fakeKey) bind(ec kms.Context) []byte {
	ad := binary.BigEndian.AppendUint32(nil, uint32(len(k.id))) //nolint:gosec // at most kms.MaxKeyIDSize
	return append(append(ad, k.id...), ec.AssociatedData()...)
}
