package awskms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
)

// A ciphertext of this server: magic, digest of the key, material, filler, nonce,
// ciphertext and tag. All before the nonce is authenticated. The filler makes it as long as
// one of AWS: 152 bytes more than the plaintext. Clients must not look into it: AWS does
// not document its format.
const (
	sizeMagic    = 4
	sizeDigest   = 32
	sizeMaterial = 32
	sizeFiller   = 56
	sizeNonce    = 12
	sizeTag      = 16
	sizeHeader   = sizeMagic + sizeDigest + sizeMaterial + sizeFiller
	overhead     = sizeHeader + sizeNonce + sizeTag
)

func magic() []byte { return []byte{0x01, 0x02, 0x02, 0x00} }

// digest is the same for all replicas of a multi-Region key.
func (k *Key) digest() []byte {
	d := sha256.Sum256([]byte(k.spec.Account + "/" + k.id))
	return d[:]
}

// aead returns the cipher of one material.
func (m *material) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(m.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k *Key) encrypt(plaintext []byte, ec map[string]string) ([]byte, error) {
	m := &k.shared.materials[len(k.shared.materials)-1]
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	filler := make([]byte, sizeFiller)
	rand.Read(filler) // never fails: crypto/rand ends the process instead
	header := slices.Concat(magic(), k.digest(), m.id[:], filler)
	return aead.Seal(header, nil, plaintext, slices.Concat(header, encodeContext(ec))), nil //nolint:gosec // the cipher makes its own nonce
}

// wrote reports whether blob has the header of a ciphertext of this server.
func wrote(blob []byte) bool {
	return len(blob) > overhead && slices.Equal(blob[:sizeMagic], magic())
}

// owns reports whether k is the key that blob names.
func (k *Key) owns(blob []byte) bool {
	return slices.Equal(blob[sizeMagic:sizeMagic+sizeDigest], k.digest())
}

// decrypt returns the plaintext and the material that encrypted it.
func (k *Key) decrypt(blob []byte, ec map[string]string) ([]byte, *material, error) {
	id := blob[sizeMagic+sizeDigest : sizeMagic+sizeDigest+sizeMaterial]
	i := slices.IndexFunc(k.shared.materials, func(m material) bool { return slices.Equal(m.id[:], id) })
	if i < 0 {
		return nil, nil, fail("InvalidCiphertextException", "")
	}
	m := &k.shared.materials[i]
	aead, err := m.aead()
	if err != nil {
		return nil, nil, err
	}
	header := blob[:sizeHeader]
	plaintext, err := aead.Open(nil, nil, blob[sizeHeader:], slices.Concat(header, encodeContext(ec)))
	if err != nil {
		return nil, nil, fail("InvalidCiphertextException", "")
	}
	return plaintext, m, nil
}

// encodeContext gives equal contexts equal bytes and different ones different bytes.
func encodeContext(ec map[string]string) []byte {
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(ec)) {
		for _, s := range []string{name, ec[name]} {
			out = binary.BigEndian.AppendUint32(out, uint32(len(s))) //nolint:gosec // requests are bounded far below 4 GiB
			out = append(out, s...)
		}
	}
	return out
}
