package envelope_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// newLimited returns a Sealer with distinguishable data keys.
func newLimited(t testing.TB, limits envelope.DataKeyLimits) (*envelope.Sealer, *countedKey) {
	t.Helper()
	key := newCountedKey()
	s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{key}, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, key
}

// use is what one data key sealed.
type use struct {
	payloads int
	bytes    int64
}

// model says, from the documentation of DataKeyLimits alone, what the data keys
// seal when payloads of these sizes come one after the other.
func model(limits envelope.DataKeyLimits, sizes []int) []use {
	var uses []use
	for _, size := range sizes {
		last := len(uses) - 1
		full := last < 0 || uses[last].payloads == limits.MaxPayloads || uses[last].bytes+int64(size) > limits.MaxBytes || uses[last].bytes >= limits.MaxBytes
		if full {
			uses, last = append(uses, use{}), last+1
		}
		uses[last].payloads++
		uses[last].bytes += int64(size)
	}
	return uses
}

// randomLimits are small enough to be met all the time, by both counts.
func randomLimits(r *rand.Rand) envelope.DataKeyLimits {
	return envelope.DataKeyLimits{MaxPayloads: 1 + r.IntN(20), MaxBytes: 1 + r.Int64N(2000), MaxAge: envelope.MaxDataKeyAge}
}

func TestLimitsAreExact(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for n := range 200 {
		limits := randomLimits(r)
		sizes := make([]int, 1+r.IntN(100))
		for i := range sizes {
			sizes[i] = r.IntN(400)
		}
		s, _ := newLimited(t, limits)
		var order []uint32 // data keys by first use
		got := make(map[uint32]use)
		for rest := sizes; len(rest) > 0; {
			batch := rest[:1+r.IntN(len(rest))]
			rest = rest[len(batch):]
			plaintexts := make([][]byte, len(batch))
			for i, size := range batch {
				plaintexts[i] = make([]byte, size)
			}
			sealed, err := s.Seal(t.Context(), claims, plaintexts...)
			if err != nil {
				t.Fatal(err)
			}
			for i := range sealed {
				number, _ := readMark(t, sealed[i].Envelope)
				if _, ok := got[number]; !ok {
					order = append(order, number)
				}
				got[number] = use{got[number].payloads + 1, got[number].bytes + int64(batch[i])}
			}
		}
		want := model(limits, sizes)
		have := make([]use, len(order))
		for i, number := range order {
			have[i] = got[number]
		}
		if !slices.Equal(have, want) {
			t.Fatalf("seed %d, round %d, limits %+v: the data keys sealed %v, want %v", seed, n, limits, have, want)
		}
		s.Close()
	}
}

// With 64 callers at once no data key seals more than it may, and none is given
// up before the next payload in line would not have fitted: all but the last
// hold as much as the limits let them.
func TestLimitsUnderConcurrency(t *testing.T) {
	const callers, largest = 64, 400
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for n := range 20 {
		limits := randomLimits(r)
		s, _ := newLimited(t, limits)
		var mu sync.Mutex
		got := make(map[uint32]use)
		var total use
		var wg sync.WaitGroup
		for caller := range callers {
			r := rand.New(rand.NewPCG(seed, uint64(n*callers+caller+1)))
			wg.Go(func() {
				for range 10 {
					plaintexts := make([][]byte, 1+r.IntN(8))
					for i := range plaintexts {
						plaintexts[i] = make([]byte, r.IntN(largest+1))
					}
					sealed, err := s.Seal(t.Context(), claims, plaintexts...)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for i := range sealed {
						number, _ := readMark(t, sealed[i].Envelope)
						size := int64(len(plaintexts[i]))
						got[number] = use{got[number].payloads + 1, got[number].bytes + size}
						total = use{total.payloads + 1, total.bytes + size}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		unfilled := 0
		for number, u := range got {
			if u.payloads > limits.MaxPayloads || u.bytes > limits.MaxBytes && u.payloads > 1 {
				t.Errorf("seed %d, round %d, limits %+v: data key %d sealed %+v", seed, n, limits, number, u)
			}
			if u.payloads < limits.MaxPayloads && u.bytes+largest <= limits.MaxBytes {
				unfilled++
			}
		}
		if unfilled > 1 {
			t.Errorf("seed %d, round %d, limits %+v: %d of %d data keys were given up with room left (%+v in all)", seed, n, limits, unfilled, len(got), total)
		}
		s.Close()
	}
}

// A data key seals until it is as old as the limit, to the nanosecond, and not
// after, whatever the callers wait for in between: 64 of them, with batches that
// need more than one data key, and a KMS that takes its time.
func TestAgeUnderConcurrency(t *testing.T) {
	for _, tc := range []struct {
		name    string
		latency time.Duration
	}{
		{"KMS faster than the limit", 700 * time.Millisecond},
		{"KMS slower than the limit", 3 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seed := rand.Uint64()
			synctest.Test(t, func(t *testing.T) {
				const maxAge = time.Second
				s, key := newLimited(t, envelope.DataKeyLimits{MaxPayloads: 5, MaxAge: maxAge})
				key.Each(func(c kmstest.Call) kmstest.Fault { return kmstest.Slow(tc.latency) })
				var mu sync.Mutex
				var oldest time.Duration
				var wg sync.WaitGroup
				for caller := range 64 {
					r := rand.New(rand.NewPCG(seed, uint64(caller)))
					wg.Go(func() {
						for range 30 {
							pass(time.Duration(r.Int64N(int64(2 * maxAge))))
							ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
							sealed, err := s.Seal(ctx, claims, make([][]byte, 1+r.IntN(8))...)
							cancel()
							if err != nil {
								t.Errorf("seed %d: %v", seed, err)
								return
							}
							now := time.Now() // as when it was sealed: in here, work takes no time
							for _, e := range sealed {
								number, _ := readMark(t, e.Envelope)
								since := now.Sub(key.madeAt(number))
								mu.Lock()
								oldest = max(oldest, since)
								mu.Unlock()
							}
						}
					})
				}
				wg.Wait()
				if oldest >= maxAge {
					t.Errorf("seed %d: a data key sealed at the age of %s, limit %s", seed, oldest, maxAge)
				}
			})
		})
	}
}

// Data keys that age while a slow KMS makes the rest are made again together with it, so
// that a call gets all of them at once and does not wait for ever.
func TestKeysAgeWhileTheRestIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, key := newLimited(t, envelope.DataKeyLimits{MaxPayloads: 1, MaxAge: time.Second})
		const seals = 1000
		for range seals {
			mustSeal(t, s, claims, "x")
		}
		synctest.Wait()
		inHand := key.Counts().WrapItems - seals
		key.Always(kmstest.Slow(3 * time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if _, err := s.Seal(ctx, claims, make([][]byte, inHand+1)...); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("it took %s, want two wraps", took)
		}
	})
}

// What the model says is what the documentation says.
func TestModel(t *testing.T) {
	for _, tc := range []struct {
		limits envelope.DataKeyLimits
		sizes  []int
		want   []use
	}{
		{envelope.DataKeyLimits{MaxPayloads: 2, MaxBytes: 100}, []int{1, 1, 1}, []use{{2, 2}, {1, 1}}},
		{envelope.DataKeyLimits{MaxPayloads: 9, MaxBytes: 10}, []int{5, 5, 1}, []use{{2, 10}, {1, 1}}},
		{envelope.DataKeyLimits{MaxPayloads: 9, MaxBytes: 10}, []int{5, 6, 4, 0}, []use{{1, 5}, {2, 10}, {1, 0}}},
		{envelope.DataKeyLimits{MaxPayloads: 9, MaxBytes: 10}, []int{11, 11, 0}, []use{{1, 11}, {1, 11}, {1, 0}}},
	} {
		if got := model(tc.limits, tc.sizes); !slices.EqualFunc(got, tc.want, func(a, b use) bool { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) == 0 }) {
			t.Errorf("%+v %v: %v, want %v", tc.limits, tc.sizes, got, tc.want)
		}
	}
}
