package codec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

const (
	// soakers is how many goroutines seal and open.
	soakers = 64
	// soakTime is the length of a usual run. soakTimeLong is the length of a soak
	// (WAXSEAL_SOAK=1) without WAXSEAL_SOAK_TIME.
	soakTime     = 6 * time.Second
	soakTimeLong = time.Hour
	// soakSamples is how often memory is measured.
	soakSamples = 90
	// soakProgress is how often a soak reports its progress.
	soakProgress = 10 * time.Second
)

// soakMayGrow is how much memory may grow between the middle and the last third: samples of a
// working process differ by that much. At 10,000 seals a second, soakTime finds a leak of 150
// bytes with each seal, or of a goroutine with every thousandth; soakTimeLong finds a leak of
// one byte with every fourth.
var soakMayGrow = map[string]struct{ share, fixed float64 }{
	"heap":       {0.05, 2 << 20},
	"RSS":        {0.10, 24 << 20}, // when pages go back is the scavenger's own decision
	"goroutines": {0.05, 12},
}

// soakPolicy uses up data keys of all kinds fast.
const soakPolicy = `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}}
seal:
  - match: {namespace: "each-*"}
    keys: [a]
  - match: {namespace: "shared-*"}
    keys: [a]
    dataKey: {maxPayloads: 100, maxAge: 1s}
    compression: zstd
  - match: {namespace: "two-*"}
    keys: [a, b]
    recipients: primary
    dataKey: {maxPayloads: 10, maxAge: 1s}
`

// soakSample is a line of the report that WAXSEAL_SOAK_REPORT names.
type soakSample struct {
	T          float64 `json:"t"` // seconds since the start
	Heap       uint64  `json:"heap_bytes"`
	RSS        uint64  `json:"rss_bytes"` // 0 where there is no /proc
	Goroutines uint64  `json:"goroutines"`
	Seals      int64   `json:"seals"` // so far, as are the next two
	Opens      int64   `json:"opens"`
	Errors     int64   `json:"errors"`
}

// soak is a codec at work.
type soak struct {
	cache.NopObserver
	codec                *codec.Codec
	seals, opens, errors atomic.Int64
	evictions            atomic.Int64
	began                time.Time
}

// TestMemoryStaysFlat seals and opens in many goroutines, with data keys and cache entries
// coming and going, KMSs failing and callers giving up, and measures memory meanwhile.
func TestMemoryStaysFlat(t *testing.T) {
	length, long := soakTime, os.Getenv("WAXSEAL_SOAK") == "1"
	if long {
		length = soakTimeLong
	}
	if value := os.Getenv("WAXSEAL_SOAK_TIME"); value != "" {
		var err error
		if length, err = time.ParseDuration(value); err != nil {
			t.Fatalf("WAXSEAL_SOAK_TIME: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	if long {
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt)
		defer stop()
	}
	s := newSoak(t)
	var work sync.WaitGroup
	for n := range soakers {
		work.Go(func() { s.work(ctx, t, uint64(n)) })
	}
	samples := s.watch(ctx, t, length/soakSamples, long)
	work.Wait()
	last := samples[len(samples)-1]
	t.Logf("%d seals, %d opens, %d errors, %d evictions in %.0f s", last.Seals, last.Opens, last.Errors, s.evictions.Load(), last.T)
	if last.Seals == 0 || last.Opens == 0 || last.Errors == 0 || s.evictions.Load() == 0 {
		t.Error("nothing was sealed, opened, refused or evicted: the test proves nothing")
	}
	for _, problem := range grown(samples) {
		t.Error(problem)
	}
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	backend := kmstest.NewBackend(troubled("a"), troubled("b"))
	p, err := policy.Parse("soak.yaml", []byte(soakPolicy))
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{began: time.Now()}
	cfg := codec.Config{
		Policy: p, Registry: kms.NewRegistry(backend),
		CacheEntries: 500, Fresh: time.Second, Stale: time.Second,
	}
	cfg.Hooks.Cache = s
	if s.codec, err = codec.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.codec.Close)
	return s
}

func (s *soak) CacheEvicted(cache.Reason) { s.evictions.Add(1) }

// troubled is a KMS that sometimes is slow, throttles, refuses or is unavailable.
func troubled(name string) *kmstest.Fake {
	fake := kmstest.NewFake(name)
	fake.Each(func(call kmstest.Call) kmstest.Fault {
		switch {
		case call.N%997 == 0:
			return kmstest.Fail(kms.Denied)
		case call.N%499 == 0:
			return kmstest.Slow(50 * time.Millisecond)
		case call.N%101 == 0:
			return kmstest.Throttle(time.Millisecond)
		case call.N%47 == 0:
			return kmstest.Fail(kms.Unavailable)
		}
		return kmstest.Healthy()
	})
	return fake
}

// work seals payloads and opens them a while later, until ctx ends.
func (s *soak) work(ctx context.Context, t *testing.T, seed uint64) {
	type kept struct {
		namespace     string
		plain, sealed []*commonpb.Payload
	}
	random := rand.New(rand.NewPCG(seed, 0))
	namespaces := []string{"each-1", "each-2", "shared-1", "shared-2", "shared-3", "shared-4", "two-1", "two-2"}
	var ring [32]kept
	for i := 0; ctx.Err() == nil; i++ {
		one, cancel := ctx, context.CancelFunc(func() {})
		if random.IntN(50) == 0 { // a caller that gives up soon
			one, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(1000))*time.Microsecond)
		}
		slot := &ring[i%len(ring)]
		if slot.sealed != nil {
			for j, got := range s.codec.Decode(one, codec.DecodeOptions{Namespace: slot.namespace}, slot.sealed) {
				s.opens.Add(1)
				if s.failed(ctx, t, got.Err) {
					continue
				}
				if !bytes.Equal(got.Payload.GetData(), slot.plain[j].GetData()) {
					t.Error("opened to something else than was sealed")
				}
			}
		}
		*slot = kept{namespace: namespaces[random.IntN(len(namespaces))], plain: make([]*commonpb.Payload, 1+random.IntN(3))}
		for j := range slot.plain {
			data := make([]byte, 100+random.IntN(1000))
			data[0] = byte(random.IntN(256))
			slot.plain[j] = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("binary/plain")}, Data: data}
		}
		var err error
		slot.sealed, err = s.codec.Encode(one, codec.EncodeOptions{Namespace: slot.namespace}, slot.plain)
		s.seals.Add(int64(len(slot.plain)))
		s.failed(ctx, t, err)
		cancel()
	}
}

// failed counts an error of a kind that the KMSs and callers here cause.
func (s *soak) failed(ctx context.Context, t *testing.T, err error) bool {
	if err == nil || ctx.Err() != nil {
		return err != nil
	}
	s.errors.Add(1)
	switch class := kms.ClassOf(err); class {
	case kms.Unavailable, kms.Throttled, kms.Denied, kms.Canceled:
	default:
		t.Errorf("an error of class %v, that nothing here causes: %v", class, err)
	}
	return true
}

// watch takes a sample every so often until ctx ends, and writes the report if there is one.
func (s *soak) watch(ctx context.Context, t *testing.T, every time.Duration, progress bool) (samples []soakSample) {
	t.Helper()
	report := json.NewEncoder(bytes.NewBuffer(nil))
	if path := os.Getenv("WAXSEAL_SOAK_REPORT"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		report = json.NewEncoder(f)
	}
	printed := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if len(samples) == 0 {
				t.Fatal("stopped before the first sample")
			}
			return samples
		case <-tick.C:
		}
		sample := s.sample(t)
		samples = append(samples, sample)
		if err := report.Encode(sample); err != nil {
			t.Errorf("report: %v", err)
		}
		if progress && time.Since(printed) >= soakProgress {
			printed = time.Now()
			fmt.Fprintf(os.Stderr, "%5.0f s: heap %.1f MiB, resident %.1f MiB, %d goroutines; %d seals, %d opens, %d errors\n", sample.T,
				float64(sample.Heap)/(1<<20), float64(sample.RSS)/(1<<20), sample.Goroutines, sample.Seals, sample.Opens, sample.Errors)
		}
	}
}

func (s *soak) sample(t *testing.T) soakSample {
	t.Helper()
	runtime.GC() // so that only live memory counts
	got := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(got)
	sample := soakSample{
		T: time.Since(s.began).Seconds(), Heap: got[0].Value.Uint64(), Goroutines: got[1].Value.Uint64(),
		Seals: s.seals.Load(), Opens: s.opens.Load(), Errors: s.errors.Load(),
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident uint64
		if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
			t.Fatalf("/proc/self/statm: %v", err)
		}
		sample.RSS = resident * uint64(os.Getpagesize())
	}
	return sample
}

// grown compares the last third of samples with the middle one, by their lower quartiles:
// memory that varies with the load of the machine is above them, and a leak is in all samples.
// In the first third caches and pools fill.
func grown(samples []soakSample) (problems []string) {
	third := len(samples) / 3
	if third < 3 {
		return []string{fmt.Sprintf("%d samples prove nothing: it was stopped too soon, or the machine is too busy", len(samples))}
	}
	for name, of := range map[string]func(soakSample) uint64{
		"heap":       func(s soakSample) uint64 { return s.Heap },
		"RSS":        func(s soakSample) uint64 { return s.RSS },
		"goroutines": func(s soakSample) uint64 { return s.Goroutines },
	} {
		quartile := func(part []soakSample) float64 {
			values := make([]uint64, len(part))
			for i, s := range part {
				values[i] = of(s)
			}
			slices.Sort(values)
			return float64(values[len(values)/4])
		}
		before, after := quartile(samples[third:2*third]), quartile(samples[2*third:])
		if may := soakMayGrow[name]; after > before*(1+may.share)+may.fixed {
			problems = append(problems, fmt.Sprintf("%s grew from %.0f to %.0f (lower quartiles of the middle and the last third of %d samples)", name, before, after, len(samples)))
		}
	}
	slices.Sort(problems)
	return problems
}

func TestGrown(t *testing.T) {
	line := func(n int, at func(i int) soakSample) []soakSample {
		out := make([]soakSample, n)
		for i := range out {
			out[i] = at(i)
		}
		return out
	}
	const mib = 1 << 20
	for _, tc := range []struct {
		name    string
		samples []soakSample
		want    int
	}{
		{"flat", line(90, func(int) soakSample { return soakSample{Heap: 20 * mib, RSS: 90 * mib, Goroutines: 70} }), 0},
		{"settles", line(90, func(i int) soakSample { return soakSample{Heap: uint64(min(i, 25)) * mib} }), 0},
		{"wobbles", line(90, func(i int) soakSample { return soakSample{Heap: uint64(20+i%7) * mib, Goroutines: uint64(70 + i%40)} }), 0},
		{"a busy spell", line(90, func(i int) soakSample {
			if i > 65 && i < 85 {
				return soakSample{Goroutines: 120}
			}
			return soakSample{Goroutines: 80}
		}), 0},
		{"one tall sample", line(90, func(i int) soakSample { return soakSample{Heap: uint64(20+i/89*500) * mib} }), 0},
		{"heap grows", line(90, func(i int) soakSample { return soakSample{Heap: uint64(20*mib + i*200<<10)} }), 1},
		{"RSS grows", line(90, func(i int) soakSample { return soakSample{RSS: uint64(90+2*i) * mib} }), 1},
		{"goroutines grow", line(90, func(i int) soakSample { return soakSample{Goroutines: uint64(70 + i)} }), 1},
		{"all grow", line(9, func(i int) soakSample {
			return soakSample{Heap: uint64(i*i) * mib, RSS: uint64(i*i) * 10 * mib, Goroutines: uint64(i * i)}
		}), 3},
		{"too few", line(8, func(int) soakSample { return soakSample{} }), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := grown(tc.samples); len(got) != tc.want {
				t.Errorf("%d problems, want %d: %q", len(got), tc.want, got)
			}
		})
	}
}
