package canary

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// maxDecompressed bounds what one compressed run may become.
const maxDecompressed = 64 << 20

// compression is a format that is known by how it begins.
type compression struct {
	name   string
	magics [][]byte
	reader func(io.Reader) (io.Reader, error)
}

func compressions() []compression {
	return []compression{
		{"gzip", [][]byte{{0x1f, 0x8b, 8}}, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"zlib", [][]byte{{0x78, 0x01}, {0x78, 0x5e}, {0x78, 0x9c}, {0x78, 0xda}}, func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }},
		{"zstd", [][]byte{{0x28, 0xb5, 0x2f, 0xfd}}, func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDecompressed))
		}},
		{"snappy", [][]byte{[]byte("\xff\x06\x00\x00sNaPpY")}, func(r io.Reader) (io.Reader, error) { return snappy.NewReader(r), nil }},
	}
}

// decompress hands over what decompresses, from every place in b where a
// compressed stream seems to begin. Nearly all are none, and give nothing.
func decompress(b []byte, nested func(name string) func([]byte)) {
	for _, c := range compressions() {
		for _, magic := range c.magics {
			for from := 0; ; {
				i := bytes.Index(b[from:], magic)
				if i < 0 {
					break
				}
				if out := c.open(b[from+i:]); len(out) > 0 {
					nested(c.name)(out)
				}
				from += i + len(magic)
			}
		}
	}
	// A block has no magic, but says how long it becomes. It cannot be longer
	// than 64 bytes for each tag of three.
	if n, err := snappy.DecodedLen(b); err == nil && n >= len(b)/2 && n <= 22*len(b) {
		if out, err := snappy.Decode(nil, b); err == nil {
			nested("snappy block")(out)
		}
	}
}

// open returns what came out before the stream ended or broke off.
func (c compression) open(b []byte) []byte {
	r, err := c.reader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	if z, ok := r.(*zstd.Decoder); ok {
		defer z.Close()
	}
	out, _ := io.ReadAll(io.LimitReader(r, maxDecompressed)) // what was read before an error counts
	return out
}
