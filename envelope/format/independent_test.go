package format_test

import (
	"bytes"
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"unicode/utf8"
)

// This file is a second decoder, written from docs/format.md alone: no protobuf
// library, no code of package format, HKDF out of HMAC, GCM out of the AES block
// function. That it agrees with the package shows that the document suffices.

var (
	errSpecParse  = errors.New("spec decoder: not an envelope")
	errSpecKey    = errors.New("spec decoder: data key")
	errSpecCommit = errors.New("spec decoder: commitment")
	errSpecAuth   = errors.New("spec decoder: authentication")
)

// specField is what one field of a message may be.
type specField struct {
	number            byte
	varint            bool
	required, repeats bool
	least, most       int // of the length, or of the number
	check             func(val []byte) bool
	into              *[][]byte
}

// specRead reads one message of these fields, which are in ascending order.
func specRead(b []byte, fields ...specField) bool {
	for _, f := range fields {
		tag := f.number<<3 | 2
		if f.varint {
			tag = f.number << 3
		}
		seen := 0
		for len(b) > 0 && b[0] == tag && (seen == 0 || f.repeats) {
			n, rest, ok := specVarint(b[1:])
			if !ok || n < uint64(f.least) || n > uint64(f.most) {
				return false
			}
			val := []byte{byte(n)}
			if !f.varint {
				if n > uint64(len(rest)) {
					return false
				}
				val, rest = rest[:n], rest[n:]
			}
			if f.check != nil && !f.check(val) {
				return false
			}
			if f.into != nil {
				*f.into = append(*f.into, val)
			}
			b = rest
			seen++
		}
		if f.required && seen == 0 {
			return false
		}
	}
	return len(b) == 0
}

// specVarint reads a varint of at most ten bytes in its shortest form.
func specVarint(b []byte) (n uint64, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 10; i++ {
		if i == 9 && b[i] > 1 {
			return 0, nil, false
		}
		n |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, b[i+1:], i == 0 || b[i] != 0
		}
	}
	return 0, nil, false
}

func specText(val []byte) bool {
	for _, r := range string(val) {
		if r < 0x20 || r >= 0x7f && r <= 0x9f {
			return false
		}
	}
	return utf8.Valid(val)
}

func specKeyID(val []byte) bool {
	return !bytes.ContainsFunc(val, func(r rune) bool { return r < 0x21 || r > 0x7e })
}

// specOpen parses and decrypts.
func specOpen(envelope, dataKey []byte) ([]byte, error) {
	var recipients, protecteds, ciphertexts, salts, commitments, claims [][]byte
	if len(envelope) > 67168391 {
		return nil, errSpecParse
	}
	ok := specRead(envelope,
		specField{number: 1, required: true, repeats: true, least: 1, most: 5202, into: &recipients},
		specField{number: 2, required: true, least: 1, most: 17850, into: &protecteds},
		specField{number: 3, required: true, least: 28, most: 67108892, into: &ciphertexts})
	if !ok || len(recipients) > 8 || !specRecipients(recipients) {
		return nil, errSpecParse
	}
	ok = specRead(protecteds[0],
		specField{number: 1, varint: true, required: true, least: 1, most: 1},
		specField{number: 2, required: true, least: 16, most: 16, into: &salts},
		specField{number: 3, required: true, least: 32, most: 32, into: &commitments},
		specField{number: 4, required: true, least: 1, most: 255, check: specText},
		specField{number: 5, repeats: true, least: 1, most: 1093, into: &claims},
		specField{number: 6, varint: true, least: 1, most: 1})
	if !ok || len(claims) > 16 || !specClaims(claims) {
		return nil, errSpecParse
	}
	if len(dataKey) != 32 {
		return nil, errSpecKey
	}
	keys := specHKDFExpand(dataKey, append([]byte("waxseal/v1"), salts[0]...), 64)
	if !hmac.Equal(keys[32:], commitments[0]) {
		return nil, errSpecCommit
	}
	return specGCMOpen(keys[:32], ciphertexts[0], protecteds[0])
}

func specRecipients(recipients [][]byte) bool {
	named := 0
	for _, r := range recipients {
		var ids [][]byte
		ok := specRead(r,
			specField{number: 1, least: 1, most: 1100, check: specKeyID, into: &ids},
			specField{number: 2, required: true, least: 1, most: 4096})
		if !ok {
			return false
		}
		named += len(ids)
	}
	return named == 0 || named == len(recipients)
}

func specClaims(claims [][]byte) bool {
	var names [][]byte
	for _, c := range claims {
		ok := specRead(c,
			specField{number: 1, required: true, least: 1, most: 64, check: specText, into: &names},
			specField{number: 2, required: true, least: 1, most: 1024, check: specText})
		if !ok || string(names[len(names)-1]) == "namespace" {
			return false
		}
	}
	for i := 1; i < len(names); i++ {
		if bytes.Compare(names[i-1], names[i]) >= 0 {
			return false
		}
	}
	return true
}

// specHKDFExpand is RFC 5869, 2.3.
func specHKDFExpand(prk, info []byte, size int) (okm []byte) {
	var block []byte
	for i := byte(1); len(okm) < size; i++ {
		mac := hmac.New(sha256.New, prk)
		mac.Write(block)
		mac.Write(info)
		mac.Write([]byte{i})
		block = mac.Sum(nil)
		okm = append(okm, block...)
	}
	return okm[:size]
}

// specGCMOpen is SP 800-38D, 7.2, with a nonce of 96 bits in front.
func specGCMOpen(key, sealed, aad []byte) ([]byte, error) {
	nonce, text, tag := sealed[:12], sealed[12:len(sealed)-16], sealed[len(sealed)-16:]
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	encrypt := func(counter uint32) (out [16]byte) {
		var in [16]byte
		copy(in[:], nonce)
		binary.BigEndian.PutUint32(in[12:], counter)
		block.Encrypt(out[:], in[:])
		return out
	}
	var zero, h, y [16]byte
	block.Encrypt(h[:], zero[:])
	hash := func(data []byte) {
		for len(data) > 0 {
			var x [16]byte
			n := copy(x[:], data)
			data = data[n:]
			for i := range y {
				y[i] ^= x[i]
			}
			y = specGFMultiply(y, h)
		}
	}
	hash(aad)
	hash(text)
	var lengths [16]byte
	binary.BigEndian.PutUint64(lengths[:8], 8*uint64(len(aad)))
	binary.BigEndian.PutUint64(lengths[8:], 8*uint64(len(text)))
	hash(lengths[:])
	mask := encrypt(1)
	for i := range y {
		y[i] ^= mask[i]
	}
	if !hmac.Equal(y[:], tag) {
		return nil, errSpecAuth
	}
	plaintext := bytes.Clone(text)
	for i := range plaintext {
		if i%16 == 0 {
			mask = encrypt(uint32(i/16) + 2)
		}
		plaintext[i] ^= mask[i%16]
	}
	return plaintext, nil
}

// specGFMultiply is SP 800-38D, 6.3.
func specGFMultiply(x, y [16]byte) (z [16]byte) {
	v := y
	for i := range 128 {
		if x[i/8]>>(7-i%8)&1 == 1 {
			for j := range z {
				z[j] ^= v[j]
			}
		}
		carry := v[15] & 1
		for j := 15; j > 0; j-- {
			v[j] = v[j]>>1 | v[j-1]<<7
		}
		v[0] >>= 1
		if carry == 1 {
			v[0] ^= 0xe1
		}
	}
	return z
}

// specFrame reports whether b is one Zstandard frame as section 4 demands
// (RFC 8878, 3.1.1), as far as headers say.
func specFrame(b []byte) bool {
	take := func(n int) (taken []byte, ok bool) {
		if n > len(b) {
			return nil, false
		}
		taken, b = b[:n], b[n:]
		return taken, true
	}
	magic, ok := take(4)
	if !ok || !bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return false
	}
	descriptor, ok := take(1)
	if !ok {
		return false
	}
	contentSize, single, reserved, checksum, dictionary := descriptor[0]>>6, descriptor[0]>>5&1, descriptor[0]>>3&1, descriptor[0]>>2&1, descriptor[0]&3
	if reserved != 0 || dictionary != 0 {
		return false
	}
	window, size := 1-int(single), []int{int(single), 2, 4, 8}[contentSize]
	if _, ok := take(window + size); !ok {
		return false
	}
	for {
		header, ok := take(3)
		if !ok {
			return false
		}
		n := binary.LittleEndian.Uint32(append(bytes.Clone(header), 0))
		size := int(n >> 3)
		switch n >> 1 & 3 {
		case 1:
			size = 1
		case 3:
			return false
		}
		if _, ok := take(size); !ok {
			return false
		}
		if n&1 == 1 {
			break
		}
	}
	if _, ok := take(4 * int(checksum)); !ok {
		return false
	}
	return len(b) == 0
}

// specContainer reports whether a container may name the keys of an envelope by
// list, by section 7.
func specContainer(envelope, list []byte) bool {
	var recipients, named [][]byte
	specRead(envelope, specField{number: 1, repeats: true, least: 1, most: 5202, into: &recipients},
		specField{number: 2, least: 1, most: 17850}, specField{number: 3, least: 28, most: 67108892})
	for _, r := range recipients {
		specRead(r, specField{number: 1, least: 1, most: 1100, into: &named}, specField{number: 2, least: 1, most: 4096})
	}
	ids := bytes.Split(list, []byte{' '})
	for _, id := range ids {
		if len(id) < 1 || len(id) > 1100 || !specKeyID(id) {
			return false
		}
	}
	return len(named) == 0 && len(ids) == len(recipients)
}

// TestSpecificationDecoder runs the vectors through the decoder made from the
// document.
func TestSpecificationDecoder(t *testing.T) {
	for _, v := range loadVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			plaintext, err := specOpen(v.envelope, v.dataKey)
			switch v.expect {
			case "success", "compression", "container":
				if err != nil || !v.isPlaintext(plaintext) {
					t.Fatalf("plaintext of %d bytes, error %v", len(plaintext), err)
				}
				if compressed := v.header.Compression == 1; (compressed && !specFrame(plaintext)) != (v.expect == "compression") {
					t.Errorf("one Zstandard frame: %v", specFrame(plaintext))
				}
				if v.container != nil && specContainer(v.envelope, []byte(*v.container)) != (v.expect == "success") {
					t.Errorf("key IDs of the container: %v", v.expect != "success")
				}
			case "data-key":
				checkError(t, "specOpen", err, errSpecKey)
			case "commitment":
				checkError(t, "specOpen", err, errSpecCommit)
			case "ciphertext":
				checkError(t, "specOpen", err, errSpecAuth)
			default:
				checkError(t, "specOpen", err, errSpecParse)
			}
		})
	}
}
