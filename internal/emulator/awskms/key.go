package awskms

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The key specs that a Server distinguishes. SpecSymmetric does real cryptography; the
// others exist to be refused, as AWS refuses them for this use.
const (
	SpecSymmetric = "SYMMETRIC_DEFAULT"
	SpecRSA2048   = "RSA_2048"
	SpecHMAC256   = "HMAC_256"
)

// The states of a key, as AWS names them.
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
	PendingImport   = "PendingImport"
	// PendingReplicaDeletion is the state of a primary that waits for its replicas
	// to be deleted before its own wait begins.
	PendingReplicaDeletion = "PendingReplicaDeletion"
	Unavailable            = "Unavailable"
	// Updating is the state of keys while their primary moves to another Region: they do
	// what enabled ones do, and cannot be managed.
	Updating = "Updating"
)

// KeySpec says what key to create. The zero value is a symmetric key for
// encryption in DefaultRegion.
type KeySpec struct {
	// Region of the key; default the first one that the server serves.
	Region string
	// Spec is SpecSymmetric (the default), SpecRSA2048 or SpecHMAC256.
	Spec string
	// Usage is "ENCRYPT_DECRYPT" (the default for all but HMAC), "SIGN_VERIFY" or
	// "GENERATE_VERIFY_MAC".
	Usage string
	// MultiRegion makes a multi-Region primary key, which Server.Replicate copies.
	MultiRegion bool
	// Account that owns the key; default DefaultAccount.
	Account string
	// Shared makes the key's policy permit other accounts to use it, as far as the policy
	// of the requesting identity permits it too. Without it they are refused.
	Shared bool
	// CustomKeyStore makes a key like those of a CloudHSM or external key store,
	// which has one key material for good. State Unavailable disconnects the store.
	CustomKeyStore bool
	// ImportedUntil makes a key with imported material that expires then, which this server
	// does not rotate. Zero makes a key with material of AWS's own.
	ImportedUntil time.Time
	// AWSManaged makes a key like those of alias/aws/…, which services own.
	AWSManaged bool
}

// Key is a key of a Server. Its methods are safe for concurrent use.
type Key struct {
	server *Server
	id     string
	region string
	spec   KeySpec

	description string

	// Guarded by server.mu.
	state    string
	created  time.Time
	deletion time.Time
	window   int // days to wait when the last replica is gone
	shared   *shared
}

// shared is what all replicas of a multi-Region key have in common.
type shared struct {
	materials []material // the last one wraps
	primary   *Key
	replicas  []*Key
	// started is when a rotation on demand began that is not complete; zero if none.
	started time.Time
	// period is how often the material rotates by itself, in days; 0 = never. The
	// server only remembers it.
	period int
}

// material is one version of a key's material.
type material struct {
	id      [32]byte
	key     [32]byte
	rotated time.Time // when it became current; zero for the first
	asked   bool      // rotated on demand, not automatically
}

func newMaterial(now time.Time, asked bool) material {
	m := material{rotated: now, asked: asked}
	rand.Read(m.id[:]) // never fails: crypto/rand ends the process instead
	rand.Read(m.key[:])
	return m
}

// CreateKey makes a key.
func (s *Server) CreateKey(spec KeySpec) (*Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.create(spec)
}

func (s *Server) create(spec KeySpec) (*Key, error) {
	if spec.Region == "" {
		spec.Region = s.regions[0]
	}
	if spec.Spec == "" {
		spec.Spec = SpecSymmetric
	}
	if spec.Usage == "" {
		spec.Usage = "ENCRYPT_DECRYPT"
		if spec.Spec == SpecHMAC256 {
			spec.Usage = "GENERATE_VERIFY_MAC"
		}
	}
	if spec.Account == "" {
		spec.Account = DefaultAccount
	}
	switch {
	case !slices.Contains(s.regions, spec.Region):
		return nil, fmt.Errorf("awsserver: create key: the server does not serve the Region %q", spec.Region)
	case !slices.Contains([]string{SpecSymmetric, SpecRSA2048, SpecHMAC256}, spec.Spec):
		return nil, fmt.Errorf("awsserver: create key: unknown spec %q", spec.Spec)
	}
	k := &Key{server: s, id: newKeyID(spec.MultiRegion), region: spec.Region, spec: spec, state: Enabled, created: time.Now()}
	k.shared = &shared{materials: []material{newMaterial(time.Time{}, false)}, primary: k}
	s.keys[keyName{k.region, k.id}] = k
	return k, nil
}

// newKeyID returns a random key ID: a UUID, or "mrk-" and 32 hexadecimal digits.
func newKeyID(multiRegion bool) string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	h := hex.EncodeToString(b[:])
	if multiRegion {
		return "mrk-" + h
	}
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// Replicate makes a replica of the multi-Region key k in another Region.
func (s *Server) Replicate(k *Key, region string) (*Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !k.spec.MultiRegion:
		return nil, errors.New("awsserver: replicate: not a multi-Region key")
	case !slices.Contains(s.regions, region):
		return nil, fmt.Errorf("awsserver: replicate: the server does not serve the Region %q", region)
	case s.keys[keyName{region, k.id}] != nil:
		return nil, fmt.Errorf("awsserver: replicate: the Region %q has the key already", region)
	}
	r := &Key{server: s, id: k.id, region: region, spec: k.spec, state: Enabled, created: time.Now(), shared: k.shared}
	r.spec.Region = region
	k.shared.replicas = append(k.shared.replicas, r)
	s.keys[keyName{region, k.id}] = r
	return r, nil
}

// SetAlias points an alias ("alias/payments") of k's Region to k, whether it
// pointed elsewhere before or not.
func (s *Server) SetAlias(alias string, k *Key) {
	s.locked(func() { s.aliases[keyName{k.region, alias}] = k })
}

// ID returns the key ID: a UUID, or mrk- and 32 hexadecimal digits.
func (k *Key) ID() string { return k.id }

// ARN returns the key ARN.
func (k *Key) ARN() string {
	return "arn:aws:kms:" + k.region + ":" + k.spec.Account + ":key/" + k.id
}

// SetState puts the key into a state, without the rules that AWS has for it.
func (k *Key) SetState(state string) {
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	k.state = state
}

// Rotate gives the key, and with it all replicas, new material, which encrypts
// from now on, as automatic rotation does. The old one still decrypts.
func (k *Key) Rotate() {
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	k.rotate(false)
}

func (k *Key) rotate(asked bool) {
	k.shared.materials = append(k.shared.materials, newMaterial(time.Now(), asked))
}

// settle completes a rotation once its time has come.
func (k *Key) settle() {
	if began := k.shared.started; !began.IsZero() && time.Since(began) >= k.server.rotationTime {
		k.shared.started = time.Time{}
		k.rotate(true)
	}
}

// currentMaterial names the material that encrypts.
func (k *Key) currentMaterial() string {
	return hex.EncodeToString(k.shared.materials[len(k.shared.materials)-1].id[:])
}

// rotatable reports whether the key is of a kind that has several key materials.
func (k *Key) rotatable() bool { return k.spec.Spec == SpecSymmetric && !k.spec.CustomKeyStore }

// Delete removes the key and its aliases, as when the wait after ScheduleKeyDeletion is
// over.
func (k *Key) Delete() {
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	delete(k.server.keys, keyName{k.region, k.id})
	maps.DeleteFunc(k.server.aliases, func(_ keyName, to *Key) bool { return to == k })
	k.shared.replicas = slices.DeleteFunc(k.shared.replicas, func(r *Key) bool { return r == k })
}

// otherARN returns the ARN of a key that does not exist.
func otherARN(arn string) string {
	return arn[:strings.LastIndexByte(arn, '/')+1] + "00000000-0000-4000-8000-000000000000"
}
