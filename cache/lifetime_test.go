package cache_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/cache"
)

func TestFreshLifetime(t *testing.T) {
	tests := []struct {
		name  string
		age   time.Duration
		loads int64 // in all, the first included
		wiped int32 // of the first value, once the second Get returned
	}{
		{"at once", 0, 1, 0},
		{"last fresh moment", 10*time.Minute - 1, 1, 0},
		{"first stale moment", 10 * time.Minute, 2, 1},
		{"last stale moment", 70*time.Minute - 1, 2, 1},
		{"first expired moment", 70 * time.Minute, 2, 1},
		{"long expired", 700 * time.Hour, 2, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				first := k.must(t, "a")
				advance(tt.age)
				second := k.must(t, "a")
				if k.loads.Load() != tt.loads {
					t.Errorf("%d loads, want %d", k.loads.Load(), tt.loads)
				}
				if (first == second) != (tt.loads == 1) {
					t.Errorf("the same value served: %v", first == second)
				}
				wantWiped(t, first, tt.wiped)
			})
		})
	}
}

func TestPutIsFreshFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		old := k.must(t, "a")
		advance(9 * time.Minute)
		s := k.put("a")
		wantWiped(t, old, 1)
		advance(10*time.Minute - 1)
		if got := k.must(t, "a"); got != s {
			t.Error("the value put does not serve for a whole fresh lifetime")
		}
		advance(1)
		if got := k.must(t, "a"); got == s {
			t.Error("the value put serves past its fresh lifetime")
		}
	})
}

func TestJitterBounds(t *testing.T) {
	const n, fresh = 4000, 1000 * time.Second
	tests := []struct {
		jitter   float64
		age      time.Duration
		min, max int // how many are still fresh
	}{
		{0, fresh - 1, n, n},
		{0, fresh, 0, 0},
		{0.1, 900*time.Second - 1, n, n},
		{0.1, 950 * time.Second, n * 70 / 100, n * 80 / 100},
		{0.1, 1000 * time.Second, n * 45 / 100, n * 55 / 100},
		{0.1, 1050 * time.Second, n * 20 / 100, n * 30 / 100},
		{0.1, 1100*time.Second + 1, 0, 0},
		{0.5, 500*time.Second - 1, n, n},
		{0.5, 1000 * time.Second, n * 45 / 100, n * 55 / 100},
		{0.5, 1500*time.Second + 1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%v at %v", tt.jitter, tt.age), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, func(c *cache.Config[*secret]) {
					c.MaxEntries, c.Fresh, c.Jitter = n, fresh, tt.jitter
				})
				for i := range n {
					k.put(fmt.Sprint(i))
				}
				advance(tt.age)
				served := 0
				for i := range n {
					if _, err := k.get(t, fmt.Sprint(i), errOther); err == nil {
						served++
					}
				}
				if served < tt.min || served > tt.max {
					t.Errorf("%d of %d still fresh, want %d to %d", served, n, tt.min, tt.max)
				}
			})
		})
	}
}

// The stale lifetime starts when the entry's own fresh lifetime ends, so an
// entry with a short one is gone before the sweep that is certain for all.
func TestExpiredEntryIsEvictedOnSight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		k := newKit(t, func(c *cache.Config[*secret]) { c.MaxEntries, c.Jitter = n, 0.5 })
		for i := range n {
			k.put(fmt.Sprint(i))
		}
		advance(70 * time.Minute)
		served := 0
		for i := range n {
			s, err := k.get(t, fmt.Sprint(i), errDown)
			switch {
			case err == nil:
				served++
				wantWiped(t, s, 0)
			case errors.Is(err, errDown):
				wantWiped(t, k.secrets[i], 1)
			default:
				t.Fatal(err)
			}
		}
		if served < n*40/100 || served > n*60/100 || k.Len() != served {
			t.Errorf("%d of %d served stale and %d kept, want about half and the same", served, n, k.Len())
		}
		advance(5 * time.Minute) // Fresh·(1+Jitter)+Stale
		if k.Len() != 0 {
			t.Errorf("%d entries outlived the longest lifetime", k.Len())
		}
		if got := k.seen()["expired"]; got != n {
			t.Errorf("%d entries expired, want %d", got, n)
		}
	})
}

func TestSweepWipesWhatNobodyAsksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		var all []*secret
		for i := range 10 { // one a minute
			all = append(all, k.put(fmt.Sprint(i)))
			advance(time.Minute)
		}
		k.Remove("0") // the one the timer is set for
		advance(60*time.Minute - 1)
		if k.Len() != 9 {
			t.Fatalf("Len = %d before the first expires, want 9", k.Len())
		}
		for i := range 10 {
			if want := min(9, 10-i); k.Len() != want {
				t.Errorf("after %d min: Len = %d, want %d", 70+i, k.Len(), want)
			}
			for j, s := range all {
				want := int32(0)
				if j == 0 || j < i {
					want = 1
				}
				wantWiped(t, s, want)
			}
			advance(time.Minute)
		}
		if diff := cmp.Diff(map[string]int{"removed": 1, "expired": 9}, k.seen()); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}

		// The timer starts again for the first value after a pause.
		advance(24 * time.Hour)
		s := k.put("late")
		advance(70 * time.Minute)
		wantWiped(t, s, 1)
	})
}

func TestSweepSparesWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		s := k.make("a")
		ref := k.Put("a", s)
		advance(24 * time.Hour)
		if k.Len() != 0 {
			t.Error("the entry is still there")
		}
		wantWiped(t, ref.Value(), 0)
		ref.Release()
		wantWiped(t, s, 1)
	})
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) { c.MaxEntries = 3 })
		a, b, c := k.must(t, "a"), k.must(t, "b"), k.must(t, "c")
		k.must(t, "a")
		k.put("d") // pushes out b
		wantWiped(t, b, 1)
		held, err := k.Get(t.Context(), "c", k.load("c", errOther))
		if err != nil {
			t.Fatal(err)
		}
		k.put("e") // pushes out a
		k.put("f") // pushes out d
		k.put("g") // pushes out c, which is held
		wantWiped(t, a, 1)
		wantWiped(t, c, 0)
		held.Release()
		wantWiped(t, c, 1)
		if k.Len() != 3 {
			t.Errorf("Len = %d, want 3", k.Len())
		}
		if got := k.seen()["capacity"]; got != 4 {
			t.Errorf("%d evictions for capacity, want 4", got)
		}
	})
}

func TestOneBatchLargerThanTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) { c.MaxEntries = 2 })
		outcomes := k.GetMany(t.Context(), []string{"a", "b", "c", "d"}, k.loadMany(nil))
		for i, o := range outcomes {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			wantWiped(t, o.Ref.Value(), 0)
			o.Ref.Release()
			want := int32(1)
			if i >= 2 {
				want = 0
			}
			wantWiped(t, k.secrets[i], want)
		}
		if k.Len() != 2 {
			t.Errorf("Len = %d, want 2", k.Len())
		}
	})
}
