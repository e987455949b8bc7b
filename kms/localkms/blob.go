package localkms

import (
	"encoding/binary"

	"github.com/waxseal/waxseal/kms"
)

const (
	blobFormat = 1
	headerSize = 1 + 4 // format, version
	// blobSize is the length in bytes of every wrapped data key.
	blobSize = headerSize + 12 + kms.DataKeySize + 16
)

// blobHeader returns the first bytes of a blob of that version.
func blobHeader(number uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, headerSize), blobFormat), number)
}

// blobVersion returns the version that a blob names, if it has our shape.
func blobVersion(blob []byte) (number uint32, ok bool) {
	if len(blob) != blobSize || blob[0] != blobFormat {
		return 0, false
	}
	return binary.BigEndian.Uint32(blob[1:headerSize]), true
}

// associatedData binds a blob to the key, the version and the context; its parts
// carry their lengths, so that no two of them give the same bytes.
func associatedData(keyID string, header []byte, ec kms.Context) []byte {
	context := ec.AssociatedData()
	ad := make([]byte, 0, 3*4+len(keyID)+len(header)+len(context))
	for _, part := range [][]byte{[]byte(keyID), header, context} {
		ad = binary.BigEndian.AppendUint32(ad, uint32(len(part))) //nolint:gosec // bounded far below 4 GiB
		ad = append(ad, part...)
	}
	return ad
}
