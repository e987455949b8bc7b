package envelope

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/waxseal/waxseal/envelope/format"
)

// encoder returns the zstd encoder of the process: one for each Sealer would hold 1.3 MiB times GOMAXPROCS for each of
// thousands of namespaces. EncodeAll starts no goroutine, so there is nothing to close.
var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, fmt.Errorf("envelope: set up zstd: %w", err)
	}
	return enc, nil
})

// squeeze returns the smaller of plaintext and its compressed form, one Zstandard frame.
func squeeze(enc *zstd.Encoder, plaintext []byte) ([]byte, format.Compression) {
	out := enc.EncodeAll(plaintext, make([]byte, 0, len(plaintext)/2))
	if len(out) >= len(plaintext) {
		return plaintext, format.CompressionNone
	}
	return out, format.CompressionZstd
}

// expander decompresses opened plaintext. DecodeAll starts no goroutine to close.
type expander struct {
	dec          *zstd.Decoder
	maxPlaintext int
}

// minDecoderMemory is the least limit for the decoder, which counts the window too.
const minDecoderMemory = 64 << 10

// newExpander returns an expander with outputs of at most maxPlaintext bytes, whatever the input claims.
func newExpander(maxPlaintext int) (*expander, error) {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderMaxMemory(uint64(max(maxPlaintext, minDecoderMemory))),
		zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, fmt.Errorf("envelope: set up zstd: %w", err)
	}
	return &expander{dec: dec, maxPlaintext: maxPlaintext}, nil
}

// expand returns the plaintext of b. Its errors are Corrupt.
func (x *expander) expand(b []byte, how format.Compression) ([]byte, error) {
	switch how {
	case format.CompressionNone:
		return b, nil
	case format.CompressionZstd:
		if err := checkFrame(b); err != nil {
			return nil, corrupt("the compressed plaintext is not exactly one Zstandard frame", err)
		}
		out, err := x.dec.DecodeAll(b, nil)
		switch {
		case errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || err == nil && len(out) > x.maxPlaintext:
			return nil, corrupt("the plaintext is larger than allowed once decompressed", nil)
		case err != nil:
			return nil, corrupt("the plaintext does not decompress", nil)
		}
		return out, nil
	default:
		return nil, corrupt("unknown compression", nil)
	}
}
