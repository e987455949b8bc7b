package sealed

import (
	"encoding/json"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/waxseal/waxseal/envelope/format"
)

const (
	// MetadataKeyIDs is the metadata key under which a sealed payload names its KEKs: URIs in
	// recipient order, separated by one space, each followed by "@version" where the KMS states
	// the version.
	MetadataKeyIDs = "encryption-key-id"
	// Encoding is the encoding of a sealed payload.
	Encoding = "binary/waxseal"
)

// The metadata with which the SDK marks a payload that has its data in external storage, since
// v1.50 and before.
const (
	encodingProtoJSON        = "json/protobuf"
	encodingStorageRefLegacy = "json/external-storage-reference"
	metadataMessageType      = "messageType"
	storageReferenceType     = "temporal.api.sdk.v1.ExternalStorageReference"
)

func encodingOf(p *commonpb.Payload) string {
	return string(p.GetMetadata()[converter.MetadataEncoding])
}

// Claims reports whether p says that it is sealed. That is no proof; opening it is.
func Claims(p *commonpb.Payload) bool { return encodingOf(p) == Encoding }

// Bare reports whether a payload that claims to be sealed holds nothing beside its envelope:
// anything else is plaintext that nothing authenticates.
func Bare(p *commonpb.Payload) bool {
	return len(p.GetMetadata()) == 2 && len(p.GetMetadata()[MetadataKeyIDs]) > 0 && len(p.ProtoReflect().GetUnknown()) == 0
}

// WellFormed reports whether p is sealed and holds nothing else, as far as can be checked
// without a key.
func WellFormed(p *commonpb.Payload) bool {
	if !Claims(p) || !Bare(p) {
		return false
	}
	env, err := format.Parse(p.GetData())
	ids := KeyIDs(p)
	if err != nil || ids == nil {
		return false
	}
	_, err = env.KeyIDs(ids)
	return err == nil
}

// KeyIDs returns the KEKs that a sealed payload names, with versions, in recipient order: 1 to
// 8 IDs, each of 1 to 1100 printable ASCII characters. It returns nil if the payload names
// none, or if its metadata are not such a list: they are not authenticated, and must not reach
// a log or a terminal.
func KeyIDs(p *commonpb.Payload) []string {
	ids, err := format.SplitKeyIDs(string(p.GetMetadata()[MetadataKeyIDs]))
	if err != nil {
		return nil
	}
	return ids
}

// New returns an envelope as a payload. keyIDs are the KEKs in recipient order.
func New(envelope []byte, keyIDs []string) *commonpb.Payload {
	return &commonpb.Payload{
		Metadata: map[string][]byte{
			converter.MetadataEncoding: []byte(Encoding),
			MetadataKeyIDs:             []byte(strings.Join(keyIDs, " ")),
		},
		Data: envelope,
	}
}

// IsStorageReference reports whether p is a reference into external storage. The referenced
// blob was sealed before it was stored. Metadata alone proves nothing: the SDK's converters
// read JSON of any message type under it.
func IsStorageReference(p *commonpb.Payload) bool {
	driver, ok := StorageDriver(p)
	return ok && (driver != "" || encodingOf(p) == encodingStorageRefLegacy) // no converter reads the latter
}

// StorageDriver reports whether the SDK, by the metadata of p, takes p for a storage reference,
// and returns the name of the driver that the SDK looks for; empty if p names none.
func StorageDriver(p *commonpb.Payload) (name string, ok bool) {
	switch encodingOf(p) {
	case encodingProtoJSON:
		var ref sdkpb.ExternalStorageReference
		if string(p.GetMetadata()[metadataMessageType]) != storageReferenceType {
			return "", false
		}
		if protojson.Unmarshal(p.GetData(), &ref) != nil {
			return "", true
		}
		return ref.GetDriverName(), true
	case encodingStorageRefLegacy:
		var ref struct {
			DriverName string `json:"driver_name"`
		}
		if json.Unmarshal(p.GetData(), &ref) != nil {
			return "", true
		}
		return ref.DriverName, true
	}
	return "", false
}
