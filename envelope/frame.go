package envelope

import (
	"encoding/binary"
	"errors"
)

var errFrame = errors.New("envelope: not exactly one Zstandard frame")

// The parts of a Zstandard frame (RFC 8878, 3.1.1) that say where it ends.
const (
	frameMagic        = 0xfd2fb528
	frameHeaderLeast  = 4 + 1 // magic number and descriptor
	frameChecksumSize = 4
	blockHeaderSize   = 3

	descriptorDictionary = 0b0000_0011
	descriptorChecksum   = 0b0000_0100
	descriptorReserved   = 0b0000_1000
	descriptorSingle     = 0b0010_0000 // a single segment has no window descriptor
	descriptorSizeShift  = 6

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
	if len(b) < frameHeaderLeast || binary.LittleEndian.Uint32(b) != frameMagic {
		return errFrame
	}
	descriptor := b[4]
	if descriptor&(descriptorDictionary|descriptorReserved) != 0 {
		return errFrame
	}
	at := frameHeaderLeast + headerRest(descriptor)
	for last := false; !last; {
		size := 0
		if size, last = blockSize(b, at); size == 0 {
			return errFrame
		}
		at += size
	}
	if descriptor&descriptorChecksum != 0 {
		at += frameChecksumSize
	}
	if at != len(b) {
		return errFrame
	}
	return nil
}

// headerRest is the size of window descriptor and content size, which follow the
// descriptor.
func headerRest(descriptor byte) int {
	single := descriptor&descriptorSingle != 0
	size := 1 << (descriptor >> descriptorSizeShift) // of the content size field: 1, 2, 4 or 8
	switch {
	case !single && size == 1:
		return 1 // a window descriptor, and no content size
	case !single:
		return 1 + size
	}
	return size
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
