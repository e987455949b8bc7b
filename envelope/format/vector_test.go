package format_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/envelope/format"
)

const vectorDir = "testdata/vectors"

// What a vector may expect, and the error that stands for it.
var outcomes = map[string]error{
	"success":     nil,
	"malformed":   format.ErrMalformed,
	"unsupported": format.ErrUnsupported,
	"limit":       format.ErrLimit,
	"data-key":    format.ErrDataKey,
	"commitment":  format.ErrCommitment,
	"ciphertext":  format.ErrCiphertext,
	// The envelope itself opens, as far as this package goes.
	"compression": nil,
	"container":   nil,
}

// maxInline is how long a plaintext is written out in a vector; of a longer one
// the vector has the hash.
const maxInline = 256

// vector is one file of testdata/vectors; README.md there describes the format.
type vector struct {
	name string // of the file, without .txt

	comment    string
	expect     string
	failsAt    string // "<offset> <field>"; only where Parse fails
	dataKey    []byte
	payloadKey []byte // only where Open succeeds
	suite      format.Suite
	salt       []byte
	commitment []byte
	recipients []format.Recipient
	header     format.Header

	plaintext       []byte // nil where it is too long to write out
	plaintextSize   int
	plaintextSHA256 [sha256.Size]byte

	// container is the list of key IDs beside the envelope; nil if there is no
	// container that names them.
	container *string

	rewrapOf string // name of the vector that Rewrap turns into this one
	envelope []byte
}

// parses reports whether Parse accepts the vector's envelope.
func (v *vector) parses() bool { return v.failsAt == "" }

// opens reports whether Open returns the plaintext.
func (v *vector) opens() bool { return outcomes[v.expect] == nil }

// setPlaintext notes what the envelope holds.
func (v *vector) setPlaintext(p []byte) {
	v.plaintextSize, v.plaintextSHA256 = len(p), sha256.Sum256(p)
	v.plaintext = nil
	if len(p) <= maxInline {
		v.plaintext = bytes.Clone(p)
	}
}

// isPlaintext reports whether p is what the envelope holds.
func (v *vector) isPlaintext(p []byte) bool {
	return len(p) == v.plaintextSize && sha256.Sum256(p) == v.plaintextSHA256
}

// marshal returns the vector as a file.
func (v *vector) marshal() []byte {
	var b bytes.Buffer
	line := func(key, value string) {
		b.WriteString(key + ":")
		if value != "" {
			b.WriteString(" " + value)
		}
		b.WriteByte('\n')
	}
	line("waxseal-vector", "1")
	line("comment", v.comment)
	line("expect", v.expect)
	if !v.parses() {
		line("fails-at", v.failsAt)
	}
	if v.rewrapOf != "" {
		line("rewrap-of", v.rewrapOf)
	}
	line("data-key", hex.EncodeToString(v.dataKey))
	if v.container != nil {
		line("container-key-ids", hex.EncodeToString([]byte(*v.container)))
	}
	if v.parses() {
		line("suite", strconv.Itoa(int(v.suite)))
		line("salt", hex.EncodeToString(v.salt))
		line("commitment", hex.EncodeToString(v.commitment))
		for _, r := range v.recipients {
			line("recipient-key-id", r.KeyID)
			line("recipient-wrapped-key", hex.EncodeToString(r.WrappedKey))
		}
		line("namespace", v.header.Namespace)
		for _, c := range v.header.Claims {
			line("claim-name", c.Name)
			line("claim-value", c.Value)
		}
		line("compression", strconv.Itoa(int(v.header.Compression)))
	}
	if v.opens() {
		line("payload-key", hex.EncodeToString(v.payloadKey))
		line("plaintext-size", strconv.Itoa(v.plaintextSize))
		line("plaintext-sha256", hex.EncodeToString(v.plaintextSHA256[:]))
		if v.plaintext != nil {
			line("plaintext", hex.EncodeToString(v.plaintext))
		}
	}
	b.WriteByte('\n')
	for rest := v.envelope; len(rest) > 0; {
		n := min(len(rest), 32)
		b.WriteString(hex.EncodeToString(rest[:n]) + "\n")
		rest = rest[n:]
	}
	return b.Bytes()
}

// unmarshalVector reads a file, as strictly as a test tool needs to be.
func unmarshalVector(name string, file []byte) (*vector, error) {
	head, body, ok := strings.Cut(string(file), "\n\n")
	if !ok {
		return nil, errors.New("no blank line behind the header")
	}
	v := &vector{name: name}
	for n, text := range strings.Split(head, "\n") {
		key, value, ok := strings.Cut(text, ":")
		if !ok {
			return nil, fmt.Errorf("line %d: no colon", n+1)
		}
		if err := v.set(key, strings.TrimPrefix(value, " ")); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", n+1, key, err)
		}
	}
	var err error
	v.envelope, err = hex.DecodeString(strings.ReplaceAll(body, "\n", ""))
	return v, err
}

func (v *vector) set(key, value string) (err error) {
	switch key {
	case "waxseal-vector":
		if value != "1" {
			err = errors.New("not version 1")
		}
	case "comment":
		v.comment = value
	case "expect":
		v.expect = value
		if _, ok := outcomes[value]; !ok {
			err = errors.New("unknown outcome")
		}
	case "fails-at":
		v.failsAt = value
	case "rewrap-of":
		v.rewrapOf = value
	case "data-key":
		v.dataKey, err = hex.DecodeString(value)
	case "container-key-ids":
		var list []byte
		list, err = hex.DecodeString(value)
		v.container = new(string(list))
	case "payload-key":
		v.payloadKey, err = hex.DecodeString(value)
	case "suite":
		v.suite, err = parseNumber[format.Suite](value)
	case "salt":
		v.salt, err = hex.DecodeString(value)
	case "commitment":
		v.commitment, err = hex.DecodeString(value)
	case "recipient-key-id":
		v.recipients = append(v.recipients, format.Recipient{KeyID: value})
	case "recipient-wrapped-key":
		v.recipients[len(v.recipients)-1].WrappedKey, err = hex.DecodeString(value)
	case "namespace":
		v.header.Namespace = value
	case "claim-name":
		v.header.Claims = append(v.header.Claims, format.Claim{Name: value})
	case "claim-value":
		v.header.Claims[len(v.header.Claims)-1].Value = value
	case "compression":
		v.header.Compression, err = parseNumber[format.Compression](value)
	case "plaintext":
		v.plaintext, err = hex.DecodeString(value)
	case "plaintext-size":
		v.plaintextSize, err = strconv.Atoi(value)
	case "plaintext-sha256":
		var sum []byte
		if sum, err = hex.DecodeString(value); err == nil {
			copy(v.plaintextSHA256[:], sum)
		}
	default:
		err = errors.New("unknown key")
	}
	return err
}

func parseNumber[T ~uint32](s string) (T, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return T(n), err
}

// loadVectors returns every vector, by file name.
func loadVectors(tb testing.TB) []*vector {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(files) == 0 {
		tb.Fatal("no vectors found")
	}
	vectors := make([]*vector, 0, len(files))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		v, err := unmarshalVector(strings.TrimSuffix(filepath.Base(file), ".txt"), b)
		if err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// loadVector returns the vector of that name.
func loadVector(tb testing.TB, name string) *vector {
	tb.Helper()
	for _, v := range loadVectors(tb) {
		if v.name == name {
			return v
		}
	}
	tb.Fatalf("no vector %q", name)
	return nil
}
