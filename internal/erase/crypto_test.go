package erase

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"reflect"
	"testing"
	"unsafe"
)

var key = []byte("0123456789abcdef0123456789ABCDEF")

// views returns the arrays and slices of numbers in the struct that v leads to, by
// path, as views on their memory. Unlike Crypto it goes everywhere.
func views(path string, v reflect.Value, into map[string][]byte) map[string][]byte {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		views(path, v.Elem(), into)
	case reflect.Struct:
		for i := range v.NumField() {
			views(path+"."+v.Type().Field(i).Name, v.Field(i), into)
		}
	case reflect.Slice:
		into[path] = v.Bytes()
	case reflect.Array:
		into[path] = unsafe.Slice((*byte)(unsafe.Pointer(v.UnsafeAddr())), v.Type().Size()) //nolint:gosec // the array's own memory, in bytes
	default:
	}
	return into
}

func newBlock(t *testing.T) cipher.Block {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// words returns b as the words in which the code without assembly has round keys.
func words(b []byte) (out []byte) {
	for ; len(b) > 0; b = b[4:] {
		out = binary.NativeEndian.AppendUint32(out, binary.BigEndian.Uint32(b))
	}
	return out
}

func TestCrypto(t *testing.T) {
	for _, tc := range []struct {
		name string
		made func(t *testing.T) any
		key  []byte // what must be seen of the key before
	}{
		{"AES", func(t *testing.T) any { return newBlock(t) }, key[:16]},
		{"AES-GCM", func(t *testing.T) any {
			aead, err := cipher.NewGCM(newBlock(t))
			if fips140.Enforced() && err != nil {
				return newBlock(t) // there is no such GCM then
			}
			if err != nil {
				t.Fatal(err)
			}
			return aead
		}, key[:16]},
		{"AES-GCM that makes its nonces", func(t *testing.T) any {
			aead, err := cipher.NewGCMWithRandomNonce(newBlock(t))
			if err != nil {
				t.Fatal(err)
			}
			return aead
		}, key[:16]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			object := tc.made(t)
			all := views("", reflect.ValueOf(object), map[string][]byte{})
			seen := false
			for _, b := range all {
				seen = seen || bytes.Contains(b, tc.key) || bytes.Contains(b, words(tc.key))
			}
			if !seen {
				t.Errorf("%T keeps its key in another way than this test and Crypto know: look at what it is made of now", object)
			}
			Crypto(object)
			for path, b := range all {
				if len(bytes.Trim(b, "\x00")) > 0 {
					t.Errorf("%T%s is not zero: %x", object, path, b)
				}
			}
		})
	}
}

// TestCryptoTouchesNothingElse hands over what Crypto does not know, and looks at
// the ciphers that it was not handed.
func TestCryptoTouchesNothingElse(t *testing.T) {
	type mine struct {
		Key  [32]byte
		Hash hash.Hash
	}
	block := newBlock(t)
	mac := hmac.New(sha256.New, key)
	m := &mine{[32]byte(key), mac}
	want := mac.Sum(nil)
	list := bytes.Clone(key)
	Crypto(nil, m, cipher.Block(nil), errors.New("no cipher"), (*mine)(nil), mac, map[string][]byte{"key": list})
	if m.Key != [32]byte(key) || !bytes.Equal(mac.Sum(nil), want) || !bytes.Equal(list, key) {
		t.Error("something was cleared that is no cipher")
	}
	own := newBlock(t)
	aead, err := cipher.NewGCMWithRandomNonce(own)
	if err != nil {
		t.Fatal(err)
	}
	Crypto(aead) // which copied the cipher
	one, other, third := make([]byte, 16), make([]byte, 16), make([]byte, 16)
	block.Encrypt(one, key[:16])
	newBlock(t).Encrypt(other, key[:16])
	own.Encrypt(third, key[:16])
	if !bytes.Equal(one, other) || !bytes.Equal(one, third) {
		t.Error("a cipher was cleared that was not handed over")
	}
}

func TestCryptoOfNilPointers(t *testing.T) {
	if len(layouts) == 0 {
		t.Error("no cipher is known: look at what they are made of in this version of Go, and see known.go")
	}
	for kind := range layouts {
		Crypto(reflect.Zero(kind).Interface())
	}
}

func BenchmarkCrypto(b *testing.B) {
	block, err := aes.NewCipher(key)
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		Crypto(block, aead)
	}
}
