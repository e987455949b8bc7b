package envelope_test

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"testing"
	"time"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms/kmstest"
)

var sizes = []int{100, 1 << 10, 64 << 10, 1 << 20}

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

func BenchmarkSeal(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			raw := rawGCM(b, size)
			s := newSealer(b, envelope.SealerConfig{Limits: envelope.DataKeyLimits{MaxPayloads: 10_000}}, kmstest.NewFake("a"))
			plaintext := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Seal(b.Context(), claims, plaintext); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/raw, "x-raw-gcm")
		})
	}
}

func BenchmarkOpenCached(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			raw := rawGCM(b, size)
			r := newRig(b, envelope.SealerConfig{}, "a")
			item := items(mustSeal(b, r.sealer, claims, string(make([]byte, size)))...)[0]
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if got := r.opener.Open(b.Context(), item)[0]; got.Err != nil {
					b.Fatal(got.Err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/raw, "x-raw-gcm")
		})
	}
}
