package format

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

// TestExpand compares our HKDF-Expand with the standard library's, which
// crypto/hkdf's own vectors (RFC 5869, appendix A) test.
func TestExpand(t *testing.T) {
	key := make([]byte, DataKeySize)
	salt := make([]byte, SaltSize)
	for range 1000 {
		_, _ = rand.Read(key)
		_, _ = rand.Read(salt)
		info := infoLabel + string(salt)
		want, err := hkdf.Expand(sha256.New, key, info, derivedSize)
		if err != nil {
			t.Fatal(err)
		}
		if got := expand(key, info); !bytes.Equal(got, want) || cap(got) != derivedSize {
			t.Fatalf("key %x, info %q: %x of capacity %d, want %x", key, info, got, cap(got), want)
		}
	}
}
