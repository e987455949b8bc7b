package codec_test

import (
	"fmt"
	"testing"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/gcmtest"
)

// sharedPolicy shares data keys, so that a benchmark does not measure the fake KMS.
const sharedPolicy = `
keys: {a: {uri: "fake://a"}}
seal: [{match: {namespace: "*"}, keys: [a], dataKey: {maxPayloads: 100000}}]
`

func BenchmarkCodec(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10, 1 << 20} {
		for _, batch := range []int{1, 100} {
			if size*batch > 8<<20 {
				continue
			}
			c, _ := newCodec(b, sharedPolicy)
			in := make([]*commonpb.Payload, batch)
			for i := range in {
				in[i] = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: make([]byte, size)}
			}
			sealed := encode(b, c, "n", in...)
			run := func(name string, f func(b *testing.B)) {
				b.Run(fmt.Sprintf("%s/%dB/batch%d", name, size, batch), func(b *testing.B) {
					b.SetBytes(int64(size * batch))
					b.ReportAllocs()
					for b.Loop() {
						f(b)
					}
					gcmtest.Report(b, size, batch)
				})
			}
			run("Encode", func(b *testing.B) {
				if _, err := c.Encode(b.Context(), codec.EncodeOptions{Namespace: "n"}, in); err != nil {
					b.Fatal(err)
				}
			})
			run("Decode", func(b *testing.B) {
				for _, d := range c.Decode(b.Context(), codec.DecodeOptions{Namespace: "n"}, sealed) {
					if d.Err != nil {
						b.Fatal(d.Err)
					}
				}
			})
		}
	}
}
