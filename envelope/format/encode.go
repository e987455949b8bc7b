package format

import "google.golang.org/protobuf/encoding/protowire"

// sizeBytes is the size of a field of n bytes with its tag, of one byte, and its length.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

// sizeOptional is sizeBytes of a field that is left out where it is empty.
func sizeOptional(s string) int {
	if s == "" {
		return 0
	}
	return sizeBytes(len(s))
}

func sizeRecipients(recipients []Recipient) (size int) {
	for _, r := range recipients {
		size += sizeBytes(sizeRecipient(r))
	}
	return size
}

func sizeRecipient(r Recipient) int { return sizeOptional(r.KeyID) + sizeBytes(len(r.WrappedKey)) }

func sizeClaim(c Claim) int { return sizeBytes(len(c.Name)) + sizeBytes(len(c.Value)) }

func sizeProtected(h Header) int {
	size := 1 + protowire.SizeVarint(uint64(Suite1)) +
		sizeBytes(SaltSize) + sizeBytes(CommitmentSize) + sizeBytes(len(h.Namespace))
	for _, c := range h.Claims {
		size += sizeBytes(sizeClaim(c))
	}
	if h.Compression != CompressionNone {
		size += 1 + protowire.SizeVarint(uint64(h.Compression))
	}
	return size
}

// appendLength appends the tag and the length of a field of n bytes.
func appendLength(dst []byte, num protowire.Number, n int) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(n)) //nolint:gosec // lengths are not negative
}

func appendBytes[T string | []byte](dst []byte, num protowire.Number, b T) []byte {
	return append(appendLength(dst, num, len(b)), b...)
}

func appendNumber(dst []byte, num protowire.Number, n uint32) []byte {
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, uint64(n))
}

func appendRecipients(dst []byte, recipients []Recipient) []byte {
	for _, r := range recipients {
		dst = appendLength(dst, envelopeRecipients, sizeRecipient(r))
		if r.KeyID != "" {
			dst = appendBytes(dst, recipientKeyID, r.KeyID)
		}
		dst = appendBytes(dst, recipientWrappedKey, r.WrappedKey)
	}
	return dst
}

func appendProtected(dst []byte, h Header, salt *[SaltSize]byte, commitment []byte) []byte {
	dst = appendNumber(dst, protectedSuite, uint32(Suite1))
	dst = appendBytes(dst, protectedSalt, salt[:])
	dst = appendBytes(dst, protectedCommitment, commitment)
	dst = appendBytes(dst, protectedNamespace, h.Namespace)
	for _, c := range h.Claims {
		dst = appendLength(dst, protectedClaims, sizeClaim(c))
		dst = appendBytes(dst, claimName, c.Name)
		dst = appendBytes(dst, claimValue, c.Value)
	}
	if h.Compression != CompressionNone {
		dst = appendNumber(dst, protectedCompression, uint32(h.Compression))
	}
	return dst
}
