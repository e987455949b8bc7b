package cache_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/cache"
)

// TestFailedLoads is the whole table of what a load's outcome means for entries
// of every age: at the load, within NegativeFor of it, and after that.
func TestFailedLoads(t *testing.T) {
	const (
		absent  = time.Duration(-1)
		fresh   = time.Minute
		stale   = 30 * time.Minute
		expired = 2 * time.Hour
	)
	type asks struct {
		value string // "old" or "new", or
		err   error
		loads int64 // made by this Get
		hooks map[string]int
	}
	hit := asks{"old", nil, 0, map[string]int{"hit": 1}}
	loaded := asks{"new", nil, 1, map[string]int{"miss": 1, "load 1 <nil>": 1}}
	with := func(a asks, more ...string) asks {
		hooks := maps.Clone(a.hooks)
		for _, h := range more {
			hooks[h]++
		}
		a.hooks = hooks
		return a
	}
	missed := func(value string, err, loadErr error, more ...string) asks {
		return with(asks{value, err, 1, map[string]int{"miss": 1, fmt.Sprintf("load 1 %v", loadErr): 1}}, more...)
	}
	negative := func(err error) asks { return asks{"", err, 0, map[string]int{"negative": 1}} }
	staleHit := asks{"old", nil, 0, map[string]int{"stale": 1}}
	newHit := asks{"new", nil, 0, map[string]int{"hit": 1}}

	tests := []struct {
		name    string
		age     time.Duration
		load    error
		first   asks  // a Get with a load that gives .load
		wiped   int32 // the old value, afterwards
		again   asks  // the same just before NegativeFor is over
		succeed asks  // when it is over, and the load succeeds
	}{
		{"absent, success", absent, nil, loaded, 0, newHit, newHit},
		{"absent, fail", absent, errOther, missed("", errOther, errOther), 0, missed("", errOther, errOther), loaded},
		{"absent, serve stale", absent, errDown, missed("", errDown, errDown), 0, negative(errDown), loaded},
		{"absent, evict", absent, errDenied, missed("", errDenied, errDenied), 0, negative(errDenied), loaded},

		{"fresh, success", fresh, nil, hit, 0, hit, hit},
		{"fresh, fail", fresh, errOther, hit, 0, hit, hit},
		{"fresh, serve stale", fresh, errDown, hit, 0, hit, hit},
		{"fresh, evict", fresh, errDenied, hit, 0, hit, hit},

		{"stale, success", stale, nil, with(loaded, "replaced"), 1, newHit, newHit},
		{"stale, fail", stale, errOther, missed("", errOther, errOther), 0, missed("", errOther, errOther), with(loaded, "replaced")},
		{"stale, serve stale", stale, errDown, missed("old", nil, errDown, "stale"), 0, staleHit, with(loaded, "replaced")},
		{"stale, evict", stale, errDenied, missed("", errDenied, errDenied, "refused"), 1, negative(errDenied), loaded},

		{"expired, success", expired, nil, loaded, 1, newHit, newHit},
		{"expired, fail", expired, errOther, missed("", errOther, errOther), 1, missed("", errOther, errOther), loaded},
		{"expired, serve stale", expired, errDown, missed("", errDown, errDown), 1, negative(errDown), loaded},
		{"expired, evict", expired, errDenied, missed("", errDenied, errDenied), 1, negative(errDenied), loaded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				var old *secret
				if tt.age != absent {
					old = k.put("a")
					advance(tt.age)
				}
				k.seen()
				check := func(step string, load error, want asks) {
					t.Helper()
					before := k.loads.Load()
					s, err := k.get(t, "a", load)
					got := asks{err: err, loads: k.loads.Load() - before, hooks: k.seen()}
					switch {
					case s != nil && s == old:
						got.value = "old"
					case s != nil:
						got.value = "new"
					}
					if got.value != want.value || !errors.Is(got.err, want.err) || got.loads != want.loads {
						t.Errorf("%s: %q, %v after %d loads; want %q, %v after %d",
							step, got.value, got.err, got.loads, want.value, want.err, want.loads)
					}
					if diff := cmp.Diff(want.hooks, got.hooks); diff != "" {
						t.Errorf("%s: hooks (-want +got):\n%s", step, diff)
					}
				}
				check("first", tt.load, tt.first)
				if old != nil {
					wantWiped(t, old, tt.wiped)
				}
				advance(5*time.Second - 1)
				check("again", tt.load, tt.again)
				advance(1)
				check("succeed", nil, tt.succeed)
			})
		})
	}
}

func TestStaleEndsWithinNegativeFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		old := k.put("a")
		advance(70*time.Minute - time.Second)
		if s, err := k.get(t, "a", errDown); s != old {
			t.Fatalf("a second before the end: %v, %v; want the old value", s, err)
		}
		advance(time.Second)
		wantWiped(t, old, 1)
		if s, err := k.get(t, "a", nil); !errors.Is(err, errDown) {
			t.Errorf("at the end: %v, %v; want the remembered failure", s, err)
		}
	})
}

func TestStaleOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) { c.Stale = 0 })
		old := k.put("a")
		advance(10*time.Minute - 1)
		if s, err := k.get(t, "a", errDown); s != old {
			t.Fatalf("fresh: %v, %v; want the old value", s, err)
		}
		advance(1)
		if s, err := k.get(t, "a", errDown); !errors.Is(err, errDown) {
			t.Errorf("past fresh: %v, %v; want the failure", s, err)
		}
		wantWiped(t, old, 1)
	})
}

func TestNegativeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) { c.NegativeFor = 0 })
		old := k.put("a")
		advance(10 * time.Minute)
		for range 3 {
			if s, err := k.get(t, "a", errDown); s != old {
				t.Fatalf("Get = %v, %v; want the stale value", s, err)
			}
		}
		for range 3 {
			if _, err := k.get(t, "a", errDenied); !errors.Is(err, errDenied) {
				t.Fatalf("Get: %v, want the refusal", err)
			}
		}
		if got := k.loads.Load(); got != 6 {
			t.Errorf("%d loads, want one for each Get, 6", got)
		}
	})
}

func TestRememberedFailuresAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) { c.MaxEntries = 3 })
		value := k.put("value")
		for i := range 4 {
			if _, err := k.get(t, fmt.Sprint(i), errDenied); !errors.Is(err, errDenied) {
				t.Fatal(err)
			}
		}
		if got := k.must(t, "value"); got != value {
			t.Error("failures pushed out a value")
		}
		k.loads.Store(0)
		for i := range 4 { // from the youngest, so that the lookup changes nothing
			if _, err := k.get(t, fmt.Sprint(3-i), errDenied); !errors.Is(err, errDenied) {
				t.Fatal(err)
			}
		}
		if got := k.loads.Load(); got != 1 {
			t.Errorf("%d of 4 failures were forgotten, want 1 with room for 3", got)
		}
	})
}

func TestPutAndRemoveForgetFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) { c.MaxEntries = 2 })
		for _, key := range []string{"put", "removed"} {
			if _, err := k.get(t, key, errDenied); !errors.Is(err, errDenied) {
				t.Fatal(err)
			}
		}
		s := k.put("put")
		k.Remove("removed")
		if got := k.must(t, "put"); got != s {
			t.Error("the value put does not serve")
		}
		k.must(t, "removed")

		// Nor does the failure come back when others have pushed out the value.
		k.put("other")
		wantWiped(t, s, 1)
		k.must(t, "put")
	})
}

// A failure of a load that called no backend serves what is stale, and is forgotten.
func TestServeStaleOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) {
			c.Classify = func(error) cache.Verdict { return cache.ServeStaleOnce }
		})
		old := k.put("a")
		advance(30 * time.Minute)
		for n := range int64(2) {
			if got, err := k.get(t, "a", errDown); err != nil || got != old {
				t.Errorf("Get: %v, %v, want the stale value", got, err)
			}
			if _, err := k.get(t, "b", errDown); !errors.Is(err, errDown) {
				t.Errorf("Get: %v, want the error of the load", err)
			}
			if loads := k.loads.Load(); loads != 2*(n+1) {
				t.Errorf("%d loads", loads)
			}
		}
		k.must(t, "b")
		wantWiped(t, old, 0)
	})
}

// Stale serves what may still serve, and loads nothing.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(*cache.Config[*secret]) {})
		if ref := k.Stale("a"); ref != nil {
			t.Error("a value that is not there serves")
		}
		old := k.put("a")
		for range 2 {
			ref := k.Stale("a")
			if ref == nil || ref.Value() != old {
				t.Fatal("the value does not serve")
			}
			ref.Release()
			advance(30 * time.Minute)
		}
		advance(24 * time.Hour)
		if ref := k.Stale("a"); ref != nil {
			t.Error("an expired value serves")
		}
		wantWiped(t, old, 1)
		if k.loads.Load() != 0 {
			t.Errorf("%d loads", k.loads.Load())
		}
	})
}

func TestUnknownVerdictFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) {
			c.Classify = func(error) cache.Verdict { return cache.ServeStaleOnce + 1 }
		})
		old := k.put("a")
		advance(30 * time.Minute)
		for range 2 {
			if _, err := k.get(t, "a", errDown); !errors.Is(err, errDown) {
				t.Errorf("Get: %v, want the error of the load", err)
			}
		}
		if k.loads.Load() != 2 {
			t.Errorf("%d loads, want 2", k.loads.Load())
		}
		wantWiped(t, old, 0)
	})
}
