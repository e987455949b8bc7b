package gcpkms_test

import (
	"testing"
	"time"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
)

// maxRounds is how many round trips 100 data keys may take, either way.
const maxRounds = 5

// rounds returns how many round trips of latency do takes.
func rounds(latency time.Duration, do func()) float64 {
	began := time.Now()
	do()
	return float64(time.Since(began)) / float64(latency)
}

// A hundred data keys take a few round trips, not a hundred. The latency is larger
// than a real one, for the sake of machines that have much else to do, and the best
// of some attempts counts.
func TestRounds(t *testing.T) {
	const latency = 100 * time.Millisecond
	s := startServer(t)
	key := newKey(t, s)
	dataKeys := newDataKeys(100)
	wrapped := mustWrap(t, key, dataKeys)
	s.SetLatency(latency)
	for op, do := range map[string]func(){
		"wrap":   func() { mustWrap(t, key, dataKeys) },
		"unwrap": func() { mustUnwrap(t, key, wrapped, dataKeys) },
	} {
		least := rounds(latency, do)
		for range 4 {
			if least <= maxRounds {
				break
			}
			least = min(least, rounds(latency, do))
		}
		if least > maxRounds {
			t.Errorf("%s of 100 takes %.1f round trips, want at most %d", op, least, maxRounds)
		}
	}
}

// Benchmark100At5ms prints how many round trips of 5 ms 100 data keys take.
func Benchmark100At5ms(b *testing.B) {
	const latency = 5 * time.Millisecond
	s, err := gcpserver.Start(b.Context(), "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	if err := s.AddKey(keyName); err != nil {
		b.Fatal(err)
	}
	key := newKey(b, s)
	dataKeys := newDataKeys(100)
	wrapped, err := key.Wrap(b.Context(), dataKeys, ec)
	if err != nil {
		b.Fatal(err)
	}
	s.SetLatency(latency)
	for op, do := range map[string]func() error{
		"Wrap": func() error { _, err := key.Wrap(b.Context(), dataKeys, ec); return err },
		"Unwrap": func() error {
			got, err := key.Unwrap(b.Context(), wrapped, ec)
			for _, u := range got {
				if err == nil {
					err = u.Err
				}
			}
			return err
		},
	} {
		b.Run(op, func(b *testing.B) {
			total := 0.0
			for b.Loop() {
				total += rounds(latency, func() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				})
			}
			b.ReportMetric(total/float64(b.N), "round-trips")
		})
	}
}
