package format_test

import (
	"crypto/aes"
	"crypto/cipher"
	"testing"
	"time"

	"github.com/waxseal/waxseal/envelope/format"
)

// benchSizes are the plaintext sizes that benchmarks measure.
var benchSizes = []struct {
	name string
	size int
}{{"100B", 100}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

// rawGCM is what the benchmarks compare with: AES-256-GCM with a random nonce,
// its key schedule made beforehand, writing into a slice of its own.
func rawGCM(b *testing.B) cipher.AEAD {
	b.Helper()
	block, err := aes.NewCipher(pattern(32, 3))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	return aead
}

// reportRatio runs raw as often as the benchmark ran and reports how many times
// longer the benchmark took.
func reportRatio(b *testing.B, raw func()) {
	b.Helper()
	took := b.Elapsed()
	start := time.Now()
	for range b.N {
		raw()
	}
	b.ReportMetric(float64(took)/float64(time.Since(start)), "x-raw-gcm")
}

func awsRecipients() []format.Recipient { return []format.Recipient{{WrappedKey: pattern(184, 9)}} }

func BenchmarkSeal(b *testing.B) {
	for _, bm := range benchSizes {
		b.Run(bm.name, func(b *testing.B) {
			dataKey, plaintext := pattern(format.DataKeySize, 1), pattern(bm.size, 2)
			recipients, header := awsRecipients(), format.Header{Namespace: "default"}
			b.SetBytes(int64(bm.size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := format.Seal(dataKey, recipients, header, plaintext); err != nil {
					b.Fatal(err)
				}
			}
			aead := rawGCM(b)
			reportRatio(b, func() { aead.Seal(nil, nil, plaintext, nil) }) //nolint:gosec // this AEAD makes its own nonce
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, bm := range benchSizes {
		b.Run(bm.name, func(b *testing.B) {
			dataKey, plaintext := pattern(format.DataKeySize, 1), pattern(bm.size, 2)
			sealed, err := format.Seal(dataKey, awsRecipients(), format.Header{Namespace: "default"}, plaintext)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(bm.size))
			b.ReportAllocs()
			for b.Loop() {
				e, err := format.Parse(sealed)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Open(dataKey); err != nil {
					b.Fatal(err)
				}
			}
			aead := rawGCM(b)
			raw := aead.Seal(nil, nil, plaintext, nil) //nolint:gosec // this AEAD makes its own nonce
			reportRatio(b, func() {
				if _, err := aead.Open(nil, nil, raw, nil); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkParse(b *testing.B) {
	header := format.Header{Namespace: "default", Claims: []format.Claim{{Name: "workflowId", Value: "order-1"}, {Name: "workflowType", Value: "Order"}}}
	sealed, err := format.Seal(pattern(format.DataKeySize, 1), awsRecipients(), header, pattern(100, 2))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := format.Parse(sealed); err != nil {
			b.Fatal(err)
		}
	}
}
