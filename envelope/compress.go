package envelope

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/waxseal/waxseal/envelope/format"
)

// compressor squeezes plaintext before it is sealed. Safe for concurrent use:
// EncodeAll and DecodeAll are. They start no goroutines, so there is nothing to
// close, and one that is still in use can never have been closed.
type compressor struct {
	enc          *zstd.Encoder
	dec          *zstd.Decoder
	maxPlaintext int
}

// minDecoderMemory is the least to give the decoder, whose limit counts the
// window too, and that is larger than a small plaintext.
const minDecoderMemory = 64 << 10

// newCompressor returns a compressor whose output never exceeds maxPlaintext
// bytes when decompressing, whatever the input claims.
func newCompressor(maxPlaintext int) (*compressor, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithZeroFrames(true))
	if err != nil {
		return nil, fmt.Errorf("envelope: set up zstd: %w", err)
	}
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderMaxMemory(uint64(max(maxPlaintext, minDecoderMemory))),
		zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, fmt.Errorf("envelope: set up zstd: %w", err)
	}
	return &compressor{enc: enc, dec: dec, maxPlaintext: maxPlaintext}, nil
}

// squeeze returns the smaller of plaintext and its compressed form.
func (c *compressor) squeeze(plaintext []byte) ([]byte, format.Compression) {
	out := c.enc.EncodeAll(plaintext, make([]byte, 0, len(plaintext)/2))
	if len(out) >= len(plaintext) {
		return plaintext, format.CompressionNone
	}
	return out, format.CompressionZstd
}

func (c *compressor) expand(b []byte, how format.Compression) ([]byte, error) {
	switch how {
	case format.CompressionNone:
		return b, nil
	case format.CompressionZstd:
		out, err := c.dec.DecodeAll(b, nil)
		switch {
		case errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || err == nil && len(out) > c.maxPlaintext:
			return nil, corrupt("the plaintext is larger than allowed once decompressed", nil)
		case err != nil:
			return nil, corrupt("the plaintext does not decompress", nil)
		}
		return out, nil
	default:
		return nil, corrupt("unknown compression", nil)
	}
}
