package codec_test

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
)

// rawGCM returns how many nanoseconds plain AES-256-GCM takes to seal n bytes,
// measured in the same run.
func rawGCM(b *testing.B, n int) float64 {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	plaintext := make([]byte, n)
	dst := make([]byte, 0, n+aead.Overhead())
	start, rounds := time.Now(), 0
	for ; time.Since(start) < 50*time.Millisecond; rounds++ {
		aead.Seal(dst, nil, plaintext, nil)
	}
	return float64(time.Since(start).Nanoseconds()) / float64(rounds)
}

// sharedPolicy shares data keys, so that what is measured is not the fake KMS.
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
					raw := rawGCM(b, size)
					b.SetBytes(int64(size * batch))
					b.ReportAllocs()
					for b.Loop() {
						f(b)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch)/raw, "x-raw-gcm")
				})
			}
			run("Encode", func(b *testing.B) {
				if _, err := c.Encode(b.Context(), "n", in); err != nil {
					b.Fatal(err)
				}
			})
			run("Decode", func(b *testing.B) {
				for _, d := range c.Decode(b.Context(), "n", sealed) {
					if d.Err != nil {
						b.Fatal(d.Err)
					}
				}
			})
		}
	}
}
