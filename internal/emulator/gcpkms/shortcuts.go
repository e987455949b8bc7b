package gcpkms

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// AddKey makes a symmetric key in software, and its key ring if there is none
// yet. name is "projects/p/locations/l/keyRings/r/cryptoKeys/k". For keys of
// other kinds use AddKeyLike, or a client's CreateCryptoKey.
func (s *Server) AddKey(name string) error {
	return s.AddKeyLike(name, &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT})
}

// AddKeyLike makes a key with the purpose, version template, labels, destruction
// delay, rotation schedule and import restriction of spec, and its key ring if there
// is none yet. Keys of protection level HSM or EXTERNAL, and imported ones, are made
// in software like all others.
func (s *Server) AddKeyLike(name string, spec *kmspb.CryptoKey) error {
	ring, id, ok := splitKey(name)
	if !ok {
		return fmt.Errorf("gcpserver: add key: %w", badName("name"))
	}
	location, ringID, _ := strings.Cut(ring, "/keyRings/")
	ctx := asOperator(context.Background())
	srv := &service{Server: s}
	if _, err := srv.CreateKeyRing(ctx, &kmspb.CreateKeyRingRequest{Parent: location, KeyRingId: ringID}); err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("gcpserver: add key ring: %w", err)
	}
	if _, err := srv.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{Parent: ring, CryptoKeyId: id, CryptoKey: spec}); err != nil {
		return fmt.Errorf("gcpserver: add key: %w", err)
	}
	return nil
}

// Rotate gives a symmetric key a new version, which becomes the primary one, and
// returns its number.
func (s *Server) Rotate(key string) (number int, err error) {
	ctx := asOperator(context.Background())
	srv := &service{Server: s}
	v, err := srv.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: key})
	if err != nil {
		return 0, fmt.Errorf("gcpserver: rotate: %w", err)
	}
	_, number, _ = splitVersion(v.Name)
	if _, err := srv.UpdateCryptoKeyPrimaryVersion(ctx, &kmspb.UpdateCryptoKeyPrimaryVersionRequest{
		Name: key, CryptoKeyVersionId: strconv.Itoa(number),
	}); err != nil {
		return 0, fmt.Errorf("gcpserver: rotate: %w", err)
	}
	return number, nil
}

// SetGenerationTime makes new versions PENDING_GENERATION for d before they are ENABLED, as
// those in an HSM can be.
func (s *Server) SetGenerationTime(d time.Duration) {
	s.locked(func() { s.generation = d })
}

// SetState puts version number of key, or all of them for 0, into state at once,
// without the rules by which clients change it. DESTROYED cannot be undone.
func (s *Server) SetState(key string, number int, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.findKey(key)
	if err == nil && (number < 0 || number > len(k.versions)) {
		err = notFound("CryptoKeyVersion", fmt.Sprintf("%s/cryptoKeyVersions/%d", key, number))
	}
	if err != nil {
		return fmt.Errorf("gcpserver: set state: %w", err)
	}
	now := time.Now()
	for _, v := range k.versions {
		switch {
		case number != 0 && v.number != number:
		case v.state == kmspb.CryptoKeyVersion_DESTROYED && state != v.state:
			return fmt.Errorf("gcpserver: set state: %s is destroyed", v.name())
		case state == kmspb.CryptoKeyVersion_DESTROYED:
			v.destroy(now)
		default:
			v.state, v.destroyAt = state, now.Add(k.destroyAfter)
			if state == kmspb.CryptoKeyVersion_PENDING_GENERATION {
				v.ready = now.Add(100 * 365 * 24 * time.Hour) // until it is put into another state
			}
		}
	}
	return nil
}
