package kms

import (
	"encoding/binary"
	"maps"
	"slices"
)

// Context is the encryption context: facts that a KMS binds to a wrapped data
// key and demands again, byte for byte, to unwrap it. AWS KMS calls it
// EncryptionContext, Google Cloud KMS additional authenticated data, Vault
// transit associated data. It is not secret: KMS audit logs show it.
type Context map[string]string

// AssociatedData is the one encoding of a Context as bytes, for backends that
// take bytes rather than a map: the pairs sorted by name, each name and each
// value preceded by its length as four big-endian bytes. Equal contexts give
// equal bytes and different ones different bytes; an empty one gives nil.
func (c Context) AssociatedData() []byte {
	if len(c) == 0 {
		return nil
	}
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(c)) {
		out = appendString(out, name)
		out = appendString(out, c[name])
	}
	return out
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s))) //nolint:gosec // names and values are bounded far below 4 GiB
	return append(b, s...)
}
