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
//
// A Context may be empty; no name and no value in it is (see Check).
type Context map[string]string

// Check returns an *Error of Class Internal about op and keyID if c holds an empty name or
// value. AWS KMS refuses those (ValidationException), so no backend may take them: keys of
// all backends must be able to wrap under the same contexts. Backends call it before they
// send anything.
func (c Context) Check(op, keyID string) error {
	for name, value := range c {
		if name == "" || value == "" {
			return &Error{
				Op: op, KeyID: keyID, Detail: "the encryption context holds an empty name or value",
				Advice: "leave a claim out where its value is not known; if no program of yours makes claims, this is a bug: please report it",
			}
		}
	}
	return nil
}

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
