package codec

import (
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec/internal/sealed"
)

const (
	// MetadataEncoding is the metadata key under which every Temporal payload names its
	// encoding.
	MetadataEncoding = converter.MetadataEncoding
	// MetadataKeyIDs is the metadata key under which a sealed payload names its
	// KEKs: URIs in recipient order, separated by one space, each followed by
	// "@version" where the KMS states the version.
	MetadataKeyIDs = sealed.MetadataKeyIDs
	// Encoding is the encoding of a sealed payload.
	Encoding = sealed.Encoding
)

// ClaimsSealed reports whether the metadata of p say that it is sealed. That proves
// nothing; opening it does.
func ClaimsSealed(p *commonpb.Payload) bool { return sealed.Claims(p) }

// KeyIDs returns the KEKs that a sealed payload names, with versions, in recipient
// order: 1 to 8 IDs, each of 1 to 1100 printable ASCII characters. It is nil if the
// payload names none, or if its metadata are not such a list: they are not
// authenticated, and must not reach a log or a terminal.
func KeyIDs(p *commonpb.Payload) []string { return sealed.KeyIDs(p) }
