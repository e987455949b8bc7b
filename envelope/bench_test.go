package envelope_test

import (
	"fmt"
	"testing"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/internal/gcmtest"
	"github.com/waxseal/waxseal/kms/kmstest"
)

var benchSizes = []int{100, 1 << 10, 64 << 10, 1 << 20}

func BenchmarkSeal(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s := newSealer(b, envelope.SealerConfig{Limits: envelope.DataKeyLimits{MaxPayloads: 10_000}}, kmstest.NewFake("a"))
			plaintext := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Seal(b.Context(), claims, plaintext); err != nil {
					b.Fatal(err)
				}
			}
			gcmtest.Report(b, size, 1)
		})
	}
}

func BenchmarkOpenCached(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			r := newRig(b, envelope.SealerConfig{}, "a")
			item := items(mustSeal(b, r.sealer, claims, string(make([]byte, size)))...)[0]
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if got := r.opener.Open(b.Context(), item)[0]; got.Err != nil {
					b.Fatal(got.Err)
				}
			}
			gcmtest.Report(b, size, 1)
		})
	}
}
