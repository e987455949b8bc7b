package localkms

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// materialSize is the length in bytes of a version's AES-256 key.
const materialSize = 32

// secret is a version's key material. It does not show when it is printed, logged or
// marshalled; only encode, which writes the file, and the making of ciphers call bytes. A
// function hides the bytes because fmt calls no methods on unexported fields, and prints
// what pointers point to when the verb is wrong.
type secret struct {
	bytes func() []byte // the material itself, materialSize bytes; not a copy
}

func newSecret() secret {
	b := make([]byte, materialSize)
	rand.Read(b) // never fails: crypto/rand ends the process instead
	return holdSecret(b)
}

// holdSecret returns b as a secret, which owns it from now on.
func holdSecret(b []byte) secret { return secret{bytes: func() []byte { return b }} }

// wipe zeroes the material; the secret is of no use afterwards.
func (s secret) wipe() { clear(s.bytes()) }

const redacted = "[redacted]"

var errSecret = errors.New("localkms: key material is not marshalled")

func (secret) String() string               { return redacted }
func (secret) GoString() string             { return redacted }
func (secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (secret) MarshalJSON() ([]byte, error) { return nil, errSecret }
func (secret) MarshalText() ([]byte, error) { return nil, errSecret }
