package format_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/waxseal/waxseal/envelope/format"
)

var update = flag.Bool("update", false, "write the vectors and the worked example of docs/format.md anew")

// canary is part of every secret and claim in the negative vectors; no error
// may repeat it.
const canary = "canary"

// scenario is one vector to be. Exactly one of seal and draft is set.
type scenario struct {
	name    string
	comment string
	expect  string
	// at is the field that Parse must blame; empty where Parse accepts the envelope.
	at string
	// seal returns the arguments of Seal; for envelopes as they should be.
	seal func() (recipients []format.Recipient, h format.Header, plaintext []byte)
	// draft spoils an envelope that is right in all else: it would open for a
	// reader that tolerates the defect.
	draft func(d *draft)
	// container is the list of key IDs beside the envelope, if there is one.
	container *string
	// rewrapOf names the scenario with the envelope that gets the recipients of seal.
	rewrapOf string
}

// draft is an envelope before it is put together, as encoded fields.
type draft struct {
	t          *testing.T
	dataKey    []byte // under which it is sealed
	salt       []byte
	keys       []byte   // payload key and commitment
	recipients [][]byte // fields of Envelope
	fields     [][]byte // fields of Protected
	plaintext  []byte

	// outer puts the parts together; the default is recipients, 2, 3.
	outer func(recipients, protected, ciphertext []byte) []byte
	// after spoils what was sealed already.
	after func(protected, ciphertext []byte)
	// giveKey is the data key of the vector, where it is not dataKey.
	giveKey []byte
	// aad replaces the associated data.
	aad func(protected []byte) []byte
}

// Indexes of draft.fields.
const (
	fieldSuite = iota
	fieldSalt
	fieldCommitment
	fieldNamespace
	fieldTail // claims and compression are appended
)

func newDraft(t *testing.T) *draft {
	d := &draft{t: t, dataKey: random(format.DataKeySize), salt: random(format.SaltSize)}
	d.keys = derived(t, d.dataKey, d.salt)
	d.recipients = [][]byte{ld(1, ld(2, []byte("canary wrapped key")))}
	d.fields = [][]byte{vi(1, 1), ld(2, d.salt), ld(3, d.keys[32:]), ld(4, []byte("canary-payments"))}
	d.plaintext = []byte("canary plaintext")
	return d
}

// claims appends further claims, each given as the fields of a Claim.
func (d *draft) claims(all ...[]byte) {
	for _, c := range all {
		d.fields = append(d.fields, ld(5, c))
	}
}

func (d *draft) envelope() []byte {
	protected := slices.Concat(d.fields...)
	aad := protected
	if d.aad != nil {
		aad = d.aad(protected)
	}
	block, err := aes.NewCipher(d.keys[:32])
	if err != nil {
		d.t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		d.t.Fatal(err)
	}
	ciphertext := aead.Seal(nil, nil, d.plaintext, aad) //nolint:gosec // this AEAD makes its own nonce
	if d.after != nil {
		d.after(protected, ciphertext)
	}
	if d.outer != nil {
		return d.outer(slices.Concat(d.recipients...), protected, ciphertext)
	}
	return slices.Concat(slices.Concat(d.recipients...), ld(2, protected), ld(3, ciphertext))
}

// derived is the derivation of the suite.
func derived(t *testing.T, dataKey, salt []byte) []byte {
	t.Helper()
	keys, err := hkdf.Expand(sha256.New, dataKey, "waxseal/v1"+string(salt), 64)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// ld, vi and claim encode fields, whatever they hold.
func ld(num protowire.Number, val []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), val)
}

func vi(num protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), n)
}

func claimOf(name, value string) []byte {
	return slices.Concat(ld(1, []byte(name)), ld(2, []byte(value)))
}

// padded returns n as a varint of one byte more than it needs.
func padded(n int) []byte {
	b := protowire.AppendVarint(nil, uint64(n))
	b[len(b)-1] |= 0x80
	return append(b, 0)
}

// longLD is ld with a length of one byte too many.
func longLD(num protowire.Number, val []byte) []byte {
	return slices.Concat(protowire.AppendTag(nil, num, protowire.BytesType), padded(len(val)), val)
}

// cutLD is ld with a length of n, whatever is there.
func cutLD(num protowire.Number, n uint64, val []byte) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), n)
	return append(b, val...)
}

// make builds the vector of s. Its randomness depends on its name alone, so that
// adding a scenario changes no other.
func (s scenario) make(t *testing.T) *vector {
	t.Helper()
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.name))
	cryptotest.SetGlobalRandom(t, h.Sum64())
	v := &vector{name: s.name, comment: s.comment, expect: s.expect, container: s.container, rewrapOf: s.rewrapOf}
	switch {
	case s.rewrapOf != "":
		recipients, _, _ := s.seal()
		base := findScenario(t, s.rewrapOf).make(t)
		var err error
		if v.envelope, err = format.Rewrap(base.envelope, recipients); err != nil {
			t.Fatal(err)
		}
		v.dataKey = base.dataKey
		v.setPlaintext(base.plaintext)
	case s.seal != nil:
		recipients, header, plaintext := s.seal()
		v.dataKey = random(format.DataKeySize)
		var err error
		if v.envelope, err = format.Seal(v.dataKey, recipients, header, plaintext); err != nil {
			t.Fatal(err)
		}
		v.setPlaintext(plaintext)
	default:
		d := newDraft(t)
		s.draft(d)
		v.envelope, v.dataKey = d.envelope(), d.dataKey
		v.setPlaintext(d.plaintext)
		if d.giveKey != nil {
			v.dataKey = d.giveKey
		}
	}
	s.describe(t, v)
	return v
}

// describe fills in what the envelope says, or where Parse stops.
func (s scenario) describe(t *testing.T, v *vector) {
	t.Helper()
	e, err := format.Parse(v.envelope)
	var bad *format.Error
	switch {
	case err == nil:
		if s.at != "" {
			t.Fatalf("Parse accepts it, should blame %s", s.at)
		}
		v.suite, v.salt, v.commitment = e.Suite, e.Salt[:], e.Commitment[:]
		v.recipients, v.header = e.Recipients, e.Header
		if v.opens() {
			v.payloadKey = derived(t, v.dataKey, v.salt)[:32]
		}
	case !errors.As(err, &bad):
		t.Fatalf("Parse: %v", err)
	case bad.Field != s.at:
		t.Fatalf("Parse blames %s, should blame %s: %v", bad.Field, s.at, err)
	default:
		v.failsAt = fmt.Sprintf("%d %s", bad.Offset, bad.Field)
	}
}

func findScenario(t *testing.T, name string) scenario {
	t.Helper()
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no scenario %q", name)
	}
	return scenarios[i]
}

// TestVectorsAreCurrent generates all vectors again and compares them with the
// files, byte for byte; with -update it writes the files.
//
// The bytes depend on how crypto/rand and AES-GCM draw randomness, which a later
// Go release may change. A difference in nothing but randomness then calls for
// freezing the files, not for -update: published vectors never change.
func TestVectorsAreCurrent(t *testing.T) {
	files := make(map[string]bool)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			file := filepath.Join(vectorDir, s.name+".txt")
			if files[file] {
				t.Fatal("two scenarios of this name")
			}
			files[file] = true
			want := s.make(t).marshal()
			if *update {
				if err := os.WriteFile(file, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from what is generated", file)
			}
		})
	}
	present, err := filepath.Glob(filepath.Join(vectorDir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range present {
		if !files[file] {
			t.Errorf("%s belongs to no scenario", file)
		}
	}
}

// TestVectorFilesRoundTrip checks that reading a file loses nothing.
func TestVectorFilesRoundTrip(t *testing.T) {
	for _, v := range loadVectors(t) {
		file, err := os.ReadFile(filepath.Join(vectorDir, v.name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(v.marshal(), file) {
			t.Errorf("%s: written again it differs", v.name)
		}
		if strings.TrimSpace(v.comment) == "" {
			t.Errorf("%s: no comment", v.name)
		}
	}
}
