package gcpkms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// destroyAfter is how long a version stays restorable by default.
	destroyAfter = 30 * 24 * time.Hour

	versionIDSize = 16
)

// cryptoKey and what is below it are guarded by Server.mu.
type cryptoKey struct {
	name         string
	purpose      kmspb.CryptoKey_CryptoKeyPurpose
	level        kmspb.ProtectionLevel
	algorithm    kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm
	labels       map[string]string
	destroyAfter time.Duration
	rotateEvery  *durationpb.Duration   // shown, not followed
	nextRotation *timestamppb.Timestamp // likewise
	importOnly   bool
	created      time.Time
	versions     []*version // number n is at n-1
	primary      *version
}

type version struct {
	key       *cryptoKey
	number    int
	state     kmspb.CryptoKeyVersion_CryptoKeyVersionState
	created   time.Time
	ready     time.Time // when PENDING_GENERATION ends
	destroyAt time.Time // when scheduled
	destroyed time.Time

	id   [versionIDSize]byte // what a ciphertext names it by
	aead cipher.AEAD         // nil once destroyed
}

// addVersion makes the next version of k, which is ready after generation. It does
// not become the primary one.
func (k *cryptoKey) addVersion(now time.Time, generation time.Duration) (*version, error) {
	v := &version{key: k, number: len(k.versions) + 1, state: kmspb.CryptoKeyVersion_ENABLED, created: now, ready: now.Add(generation)}
	if generation > 0 {
		v.state = kmspb.CryptoKeyVersion_PENDING_GENERATION
	}
	secret := make([]byte, 32)
	rand.Read(secret)  // never fails: crypto/rand ends the process instead
	rand.Read(v.id[:]) // likewise
	block, err := aes.NewCipher(secret)
	if err == nil {
		v.aead, err = cipher.NewGCMWithRandomNonce(block) // also allowed under GODEBUG=fips140=only
	}
	clear(secret)
	if err != nil {
		return nil, status.Error(codes.Internal, "The key version could not be generated.")
	}
	k.versions = append(k.versions, v)
	return v, nil
}

func (v *version) name() string { return fmt.Sprintf("%s/cryptoKeyVersions/%d", v.key.name, v.number) }

// settle brings the state of a version up to now.
func (v *version) settle(now time.Time) {
	if v.state == kmspb.CryptoKeyVersion_PENDING_GENERATION && !now.Before(v.ready) {
		v.state = kmspb.CryptoKeyVersion_ENABLED
	}
	if v.state == kmspb.CryptoKeyVersion_DESTROY_SCHEDULED && !now.Before(v.destroyAt) {
		v.destroy(now)
	}
}

func (v *version) destroy(now time.Time) {
	v.state, v.destroyed, v.aead = kmspb.CryptoKeyVersion_DESTROYED, now, nil
}

// usable says why a version in its state encrypts and decrypts nothing, or nil.
func (v *version) usable() error {
	if v.state == kmspb.CryptoKeyVersion_ENABLED {
		return nil
	}
	kind := "KEY_" + v.state.String()
	return precondition(kind, v.name(), fmt.Sprintf("%s is not enabled, current state is: %s.", v.name(), v.state))
}

func (v *version) proto() *kmspb.CryptoKeyVersion {
	p := &kmspb.CryptoKeyVersion{
		Name: v.name(), State: v.state, ProtectionLevel: v.key.level, Algorithm: v.key.algorithm,
		CreateTime: timestamppb.New(v.created),
	}
	if v.state != kmspb.CryptoKeyVersion_PENDING_GENERATION {
		p.GenerateTime = timestamppb.New(v.ready)
	}
	if v.key.importOnly {
		p.ImportJob = strings.Replace(v.key.name, "/cryptoKeys/", "/importJobs/", 1)
	}
	if v.state == kmspb.CryptoKeyVersion_DESTROY_SCHEDULED {
		p.DestroyTime = timestamppb.New(v.destroyAt)
	}
	if v.state == kmspb.CryptoKeyVersion_DESTROYED {
		p.DestroyEventTime = timestamppb.New(v.destroyed)
	}
	return p
}

func (k *cryptoKey) proto() *kmspb.CryptoKey {
	p := &kmspb.CryptoKey{
		Name: k.name, Purpose: k.purpose, CreateTime: timestamppb.New(k.created), Labels: k.labels,
		VersionTemplate:          &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: k.level, Algorithm: k.algorithm},
		DestroyScheduledDuration: durationpb.New(k.destroyAfter),
		NextRotationTime:         k.nextRotation, ImportOnly: k.importOnly,
	}
	if k.rotateEvery != nil {
		p.RotationSchedule = &kmspb.CryptoKey_RotationPeriod{RotationPeriod: k.rotateEvery}
	}
	if k.primary != nil {
		p.Primary = k.primary.proto()
	}
	return p
}

// findKey returns the key, with the states of its versions brought up to now.
func (s *Server) findKey(name string) (*cryptoKey, error) {
	k, ok := s.keys[name]
	if !ok {
		return nil, notFound("CryptoKey", name)
	}
	now := time.Now()
	for _, v := range k.versions {
		v.settle(now)
	}
	return k, nil
}

func (s *Server) findVersion(name string) (*version, error) {
	keyName, number, ok := splitVersion(name)
	if !ok {
		return nil, badName("name")
	}
	k, err := s.findKey(keyName)
	if err != nil {
		return nil, err
	}
	if number > len(k.versions) {
		return nil, notFound("CryptoKeyVersion", name)
	}
	return k.versions[number-1], nil
}
