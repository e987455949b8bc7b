package format_test

import (
	"crypto/aes"
	"crypto/cipher"
	"slices"
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

// reportRatio reports how many times longer op takes than raw. The two take
// turns, a millisecond or so each, and the median turn counts: what else the
// machine does then meets both.
func reportRatio(b *testing.B, op, raw func()) {
	b.Helper()
	const turns = 31
	took := b.Elapsed() / time.Duration(b.N)
	n := max(1, int(time.Millisecond/max(took, 1)))
	measure := func(f func()) time.Duration {
		start := time.Now()
		for range n {
			f()
		}
		return time.Since(start)
	}
	ratios := make([]float64, turns)
	for i := range ratios {
		ratios[i] = float64(measure(op)) / float64(measure(raw))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[turns/2], "x-raw-gcm")
}

func awsRecipients() []format.Recipient { return []format.Recipient{{WrappedKey: pattern(184, 9)}} }

func BenchmarkSeal(b *testing.B) {
	for _, bm := range benchSizes {
		b.Run(bm.name, func(b *testing.B) {
			dataKey, plaintext := pattern(format.DataKeySize, 1), pattern(bm.size, 2)
			recipients, header := awsRecipients(), format.Header{Namespace: "default"}
			b.SetBytes(int64(bm.size))
			b.ReportAllocs()
			op := func() {
				if _, err := format.Seal(dataKey, recipients, header, plaintext); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				op()
			}
			aead := rawGCM(b)
			reportRatio(b, op, func() { aead.Seal(nil, nil, plaintext, nil) }) //nolint:gosec // this AEAD makes its own nonce
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
			op := func() {
				e, err := format.Parse(sealed)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Open(dataKey); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				op()
			}
			aead := rawGCM(b)
			raw := aead.Seal(nil, nil, plaintext, nil) //nolint:gosec // this AEAD makes its own nonce
			reportRatio(b, op, func() {
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
