package kmstest

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// fakeKey is the key material behind the handles of one Fake. A blob is the
// version as four big-endian bytes, then nonce, ciphertext and tag.
type fakeKey struct {
	id string

	mu        sync.RWMutex
	lifecycle                // of the whole key
	versions  []*fakeVersion // version n is at n-1; the last one is the primary
}

type fakeVersion struct {
	lifecycle
	aead    cipher.AEAD
	created time.Time
}

// lifecycle is the state of a key, or of one version. The errors of its methods are
// those of wrap and unwrap.
type lifecycle struct {
	of        string // "key" or "version"
	state     kms.VersionState
	destroyAt time.Time // zero unless scheduled
}

const fakeBlobSize = 4 + 12 + kms.DataKeySize + 16

func newFakeKey(id string) (*fakeKey, error) {
	if err := kms.CheckID(id); err != nil {
		return nil, fmt.Errorf("kmstest: make fake key: %w", err)
	}
	k := &fakeKey{id: id, lifecycle: lifecycle{of: "key"}}
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
	k.versions = append(k.versions, &fakeVersion{aead: aead, created: time.Now().UTC(), lifecycle: lifecycle{of: "version"}})
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

// list returns all versions, oldest first.
func (k *fakeKey) list() []kms.Version {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make([]kms.Version, len(k.versions))
	for i, v := range k.versions {
		out[i] = kms.Version{ID: strconv.Itoa(i + 1), State: v.state, Primary: i == len(k.versions)-1, Created: v.created, DestroyAt: v.destroyAt}
	}
	return out
}

// change applies do to a version, or to the whole key if version is empty.
func (k *fakeKey) change(version string, do func(*lifecycle) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if version == "" {
		return do(&k.lifecycle)
	}
	n, err := strconv.Atoi(version)
	if err != nil || n < 1 || n > len(k.versions) {
		return fakeError(kms.NotFound, "there is no such version")
	}
	return do(&k.versions[n-1].lifecycle)
}

// set enters a state, unless a destroyed version would leave its own.
func (l *lifecycle) set(state kms.VersionState) {
	if l.state != kms.VersionDestroyed {
		l.state, l.destroyAt = state, time.Time{}
	}
}

// switchTo enables or disables what is not to be destroyed.
func (l *lifecycle) switchTo(state kms.VersionState) error {
	if l.state != kms.VersionEnabled && l.state != kms.VersionDisabled {
		return l.usable()
	}
	l.set(state)
	return nil
}

// destroy schedules the destruction of what is not enabled.
func (l *lifecycle) destroy(at time.Time) error {
	switch l.state {
	case kms.VersionEnabled:
		return fakeError(kms.Invalid, "it is enabled: only what is disabled is destroyed")
	case kms.VersionDestroyed:
		return l.usable()
	case kms.VersionDisabled, kms.VersionPendingDestruction, kms.VersionUnavailable:
	}
	l.state, l.destroyAt = kms.VersionPendingDestruction, at
	return nil
}

// restore takes a scheduled destruction back.
func (l *lifecycle) restore() error {
	switch l.state {
	case kms.VersionPendingDestruction:
		l.set(kms.VersionDisabled)
		return nil
	case kms.VersionDestroyed:
		return l.usable()
	case kms.VersionEnabled, kms.VersionDisabled, kms.VersionUnavailable:
	}
	return fakeError(kms.Invalid, "its destruction is not scheduled")
}

// fakeError returns a *kms.Error without Op and KeyID, which the Fake fills in.
func fakeError(class kms.Class, detail string) error {
	return &kms.Error{Class: class, Detail: detail, Advice: "look at what the test did to its Fake"}
}

// usable says why the key or version cannot be used.
func (l *lifecycle) usable() error {
	detail := "the " + l.of + " is " + l.state.String()
	switch l.state {
	case kms.VersionEnabled:
		return nil
	case kms.VersionDestroyed:
		return fakeError(kms.NotFound, detail)
	case kms.VersionDisabled:
		detail = "the " + l.of + " is switched off"
	case kms.VersionPendingDestruction:
		detail = "the " + l.of + " waits for its deletion"
	case kms.VersionUnavailable:
	}
	return fakeError(kms.Disabled, detail)
}

// ready says why the key could not wrap now.
func (k *fakeKey) ready() error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if err := k.usable(); err != nil {
		return err
	}
	return k.versions[len(k.versions)-1].usable()
}

func (k *fakeKey) wrap(dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for i, d := range dataKeys {
		if len(d) != kms.DataKeySize {
			return nil, fakeError(kms.Internal, fmt.Sprintf("data key %d of %d has %d bytes, want %d", i+1, len(dataKeys), len(d), kms.DataKeySize))
		}
	}
	n := len(k.versions)
	primary := k.versions[n-1]
	if err := cmp.Or(k.usable(), primary.usable()); err != nil {
		return nil, err
	}
	out := make([]kms.Wrapped, len(dataKeys))
	for i, d := range dataKeys {
		blob := binary.BigEndian.AppendUint32(make([]byte, 0, fakeBlobSize), uint32(n))                   //nolint:gosec // a test does not rotate four billion times
		out[i] = kms.Wrapped{Version: strconv.Itoa(n), Blob: primary.aead.Seal(blob, nil, d, k.bind(ec))} //nolint:gosec // the cipher draws its own random nonce
	}
	return out, nil
}

func (k *fakeKey) unwrap(w kms.Wrapped, ec kms.Context) ([]byte, error) {
	if len(w.Blob) != fakeBlobSize {
		return nil, fakeError(kms.Corrupt, fmt.Sprintf("blob of %d bytes, want %d", len(w.Blob), fakeBlobSize))
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if err := k.usable(); err != nil {
		return nil, err
	}
	n := uint64(binary.BigEndian.Uint32(w.Blob))
	if n == 0 || n > uint64(len(k.versions)) {
		return nil, fakeError(kms.NotFound, fmt.Sprintf("no version %d", n))
	}
	v := k.versions[n-1]
	if err := v.usable(); err != nil {
		return nil, err
	}
	d, err := v.aead.Open(nil, nil, w.Blob[4:], k.bind(ec))
	if err != nil {
		return nil, fakeError(kms.Corrupt, "altered, or wrapped under another key or context")
	}
	return d, nil
}

// bind returns the associated data: no blob opens under another key's ID.
func (k *fakeKey) bind(ec kms.Context) []byte {
	ad := binary.BigEndian.AppendUint32(nil, uint32(len(k.id))) //nolint:gosec // at most kms.MaxKeyIDSize
	return append(append(ad, k.id...), ec.AssociatedData()...)
}
