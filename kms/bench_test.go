package kms_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// BenchmarkSealCalls reports how many requests the KMS gets for 1,000 payloads, by
// how many share a data key and by how they are sealed. Each round is a process
// that starts with no data key in hand; the busy one has sealed 2,000 before, and seals 5,000 more.
func BenchmarkSealCalls(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(services)) {
		for _, maxPayloads := range []int{1, 100, 10_000} {
			for _, tr := range []traffic{oneCall, pages, busy} {
				b.Run(fmt.Sprintf("%s/maxPayloads=%d/%s", name, maxPayloads, tr.name), func(b *testing.B) {
					svc := started(b, name)
					svc.setLatency(latency)
					n := 1000
					if tr == busy {
						n = 5_000
					}
					requests, rounds := 0, 0
					for b.Loop() {
						s := newSealer(b, svc.key, maxPayloads)
						if tr == busy {
							tr.run(b, s, 2000)
						}
						before := svc.requests()
						tr.run(b, s, n)
						requests, rounds = requests+svc.requests()-before, rounds+1
						s.Close()
					}
					b.ReportMetric(float64(requests)/float64(rounds)/float64(n/1000), "KMScalls/1000payloads")
				})
			}
		}
	}
}

// latency is what a KMS in the same Region takes for a request.
const latency = 5 * time.Millisecond

// BenchmarkColdOpen opens 100 payloads with 100 data keys in a process that has
// none of them, from a KMS that takes 5 ms, and reports how many times longer it
// takes than one request for one data key to the same KMS.
func BenchmarkColdOpen(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(services)) {
		b.Run(name, func(b *testing.B) {
			svc := started(b, name)
			sealed := seal(b, newSealer(b, svc.key, 1), 100)
			one, err := svc.key.Wrap(b.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil)
			if err != nil {
				b.Fatal(err)
			}
			svc.setLatency(latency)
			open(b, newOpener(b, svc.key), sealed) // connections are made once in a process's life
			var trips, opens []time.Duration
			for b.Loop() {
				start := time.Now()
				if _, err := svc.key.Unwrap(b.Context(), one, nil); err != nil {
					b.Fatal(err)
				}
				trips = append(trips, time.Since(start))
				opener := newOpener(b, svc.key)
				start = time.Now()
				open(b, opener, sealed)
				opens = append(opens, time.Since(start))
				opener.Close()
			}
			trip, cold := median(trips), median(opens)
			b.ReportMetric(float64(cold)/float64(trip), "roundtrips")
			b.ReportMetric(trip.Seconds()*1000, "ms/roundtrip")
			b.ReportMetric(cold.Seconds()*1000, "ms/open")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
