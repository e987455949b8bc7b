package envelope

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"sync/atomic"

	"github.com/waxseal/waxseal/internal/erase"
	"github.com/waxseal/waxseal/kms"
)

// dataKey is 32 secret bytes. It prints as "[redacted]". It is used by pointer: one copy.
type dataKey struct {
	b [kms.DataKeySize]byte
	// proven is set once an envelope committed to the key: it is the key that was wrapped.
	proven atomic.Bool
}

func newDataKey() (k *dataKey) {
	erase.Do(func() {
		k = new(dataKey)
		_, _ = rand.Read(k.b[:]) // crypto/rand.Read never fails: it aborts the program instead
	})
	return k
}

func dataKeyFrom(b []byte) (k *dataKey) {
	erase.Do(func() {
		k = new(dataKey)
		copy(k.b[:], b)
	})
	return k
}

func (k *dataKey) clone() *dataKey { return dataKeyFrom(k.b[:]) }

// wipe zeroes the key. Package erase clears the traces of its use, as far as docs/threat-model.md says.
func (k *dataKey) wipe() { clear(k.b[:]) }

func (*dataKey) String() string               { return "[redacted]" }
func (*dataKey) GoString() string             { return "[redacted]" }
func (*dataKey) LogValue() slog.Value         { return slog.StringValue("[redacted]") }
func (*dataKey) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// cacheKey names an unwrapped data key: SHA-256 over all that decides the KMS's
// answer, each part preceded by its length.
type cacheKey [sha256.Size]byte

func cacheKeyOf(of kek, blob, associatedData []byte) cacheKey {
	h := sha256.New()
	var n [8]byte
	for _, part := range [...][]byte{[]byte(of.id), []byte(of.location), blob, associatedData} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	var k cacheKey
	h.Sum(k[:0])
	return k
}
