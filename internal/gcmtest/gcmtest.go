// Package gcmtest measures plain AES-256-GCM, which benchmarks report their own figures as a ratio to: absolute times
// say little on a shared machine. Only tests import it.
package gcmtest

import (
	"crypto/aes"
	"crypto/cipher"
	"testing"
	"time"
)

// span is how long the raw cipher is measured, in the same run as the benchmark.
const span = 50 * time.Millisecond

// Report adds the metric "x-raw-gcm": how many times longer the benchmark took for one payload of size bytes than
// AES-256-GCM with a random nonce, its key schedule made beforehand, takes to seal that many. payloads is how many the
// benchmark handles in one iteration. Call it after the loop.
func Report(b *testing.B, size, payloads int) {
	b.Helper()
	took := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(payloads)
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	plaintext := make([]byte, size)
	dst := make([]byte, 0, size+aead.Overhead())
	start, rounds := time.Now(), 0
	for ; rounds == 0 || time.Since(start) < span; rounds++ {
		aead.Seal(dst, nil, plaintext, nil) //nolint:gosec // this AEAD makes its own random nonce
	}
	raw := float64(time.Since(start).Nanoseconds()) / float64(rounds)
	b.ReportMetric(took/raw, "x-raw-gcm")
}
