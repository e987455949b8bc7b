package envelope

import (
	"errors"

	"github.com/klauspost/compress/zstd"
)

var errFrame = errors.New("envelope: not exactly one Zstandard frame")

// Parts of a Zstandard frame (RFC 8878, 3.1.1) that say where it ends.
const (
	frameDescriptor   = 4 // its place, behind the magic number
	dictionaryFlag    = 0b0000_0011
	frameChecksumSize = 4
	blockHeaderSize   = 3

	blockRaw        = 0
	blockRLE        = 1
	blockCompressed = 2
)

// checkFrame returns errFrame unless b is exactly one Zstandard frame without a
// dictionary ID. It reads headers only; the decoder checks the blocks.
//
// Decoders accept more: they concatenate frames and ignore the content of skippable
// ones. Then one plaintext would have many forms, with bytes that no reader sees.
func checkFrame(b []byte) error {
	var header zstd.Header
	if header.Decode(b) != nil || header.Skippable || b[frameDescriptor]&dictionaryFlag != 0 {
		return errFrame
	}
	at := header.HeaderSize
	for last := false; !last; {
		size := 0
		if size, last = blockSize(b, at); size == 0 {
			return errFrame
		}
		at += size
	}
	if header.HasCheckSum {
		at += frameChecksumSize
	}
	if at != len(b) {
		return errFrame
	}
	return nil
}

// blockSize returns the size of the block at b[at:] with its header, and whether
// it is the last one; 0 if the header is cut short or of a reserved type.
func blockSize(b []byte, at int) (size int, last bool) {
	if at > len(b)-blockHeaderSize {
		return 0, false
	}
	header := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
	size = blockHeaderSize
	switch header >> 1 & 3 {
	case blockRLE:
		size++ // one byte, repeated
	case blockRaw, blockCompressed:
		size += header >> 3
	default:
		return 0, false
	}
	return size, header&1 == 1
}
