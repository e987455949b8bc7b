package cache_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/cache"
)

func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		a := k.put("a")
		b := k.make("b")
		held := k.Put("b", b)
		k.Remove("a")
		k.Remove("b")
		k.Remove("never there")
		wantWiped(t, a, 1)
		wantWiped(t, b, 0)
		held.Release()
		wantWiped(t, b, 1)
		if diff := cmp.Diff(map[string]int{"removed": 2}, k.seen()); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
	})
}

func TestRemoveDuringALoad(t *testing.T) {
	t.Run("value for waiters only", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			first := k.ask(t.Context(), "a", k.slow("a", 2*time.Second, nil))
			k.Remove("a")
			// The next caller must not be given what was loaded before the removal.
			second := k.ask(t.Context(), "a", k.slow("a", time.Second, nil))
			advance(time.Second)
			later := <-second
			advance(time.Second)
			early := <-first
			if early.err != nil || later.err != nil || early.ref.Value() == later.ref.Value() {
				t.Fatalf("got %v and %v, want two values", early, later)
			}
			if got := k.must(t, "a"); got != later.ref.Value() {
				t.Error("the load from before the removal filled the cache")
			}
			s := early.ref.Value()
			wantWiped(t, s, 0)
			early.ref.Release()
			wantWiped(t, s, 1)
			later.ref.Release()
		})
	})
	t.Run("no waiter is left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			ctx, cancel := context.WithCancel(t.Context())
			done := k.ask(ctx, "a", k.slow("a", time.Second, nil))
			k.Remove("a")
			cancel()
			<-done
			advance(time.Second)
			wantWiped(t, k.secrets[0], 1)
			if k.Len() != 0 {
				t.Error("the load from before the removal filled the cache")
			}
		})
	})
	t.Run("failure is not remembered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			old := k.put("a")
			advance(10 * time.Minute)
			done := k.ask(t.Context(), "a", k.slow("a", time.Second, errDown))
			k.Remove("a")
			wantWiped(t, old, 1)
			advance(time.Second)
			if a := <-done; !errors.Is(a.err, errDown) {
				t.Errorf("Get = %v, %v; want the failure, as nothing stale is left", a.ref, a.err)
			}
			k.must(t, "a")
		})
	})
}

func TestPutDuringALoad(t *testing.T) {
	for name, loadErr := range map[string]error{"that succeeds": nil, "that is refused": errDenied, "that fails": errDown} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				done := k.ask(t.Context(), "a", k.slow("a", time.Second, loadErr))
				s := k.put("a")
				a := <-done // at once
				if a.err != nil || a.ref.Value() != s {
					t.Fatalf("Get = %v, %v; want the value put", a.ref, a.err)
				}
				advance(time.Second)
				if got := k.must(t, "a"); got != s || k.loads.Load() != 1 {
					t.Error("the load's outcome counted for something")
				}
				for _, other := range k.secrets {
					if other != s {
						wantWiped(t, other, 1)
					}
				}
				a.ref.Release()
				wantWiped(t, s, 0)
				k.Remove("a")
				wantWiped(t, s, 1)
			})
		})
	}
}

func TestPutDecidesOneKeyOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		done := make(chan []cache.Outcome[*secret], 1)
		go func() {
			done <- k.GetMany(t.Context(), []string{"a", "b"}, func(ctx context.Context, missing []string) []cache.Result[*secret] {
				<-time.After(time.Second)
				return k.loadMany(nil)(ctx, missing)
			})
		}()
		synctest.Wait()
		s := k.put("a")
		advance(time.Second)
		outcomes := <-done
		if outcomes[0].Err != nil || outcomes[1].Err != nil {
			t.Fatal(outcomes[0].Err, outcomes[1].Err)
		}
		if outcomes[0].Ref.Value() != s || outcomes[1].Ref.Value().key != "b" {
			t.Error("want the value put for a and the one loaded for b")
		}
		for _, o := range outcomes {
			o.Ref.Release()
		}
		wantWiped(t, k.secrets[1], 1) // a's, from the load
		if k.Len() != 2 {
			t.Errorf("Len = %d, want 2", k.Len())
		}
	})
}

func TestValueReplacedOnRefreshOutlivesItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		old := k.make("a")
		one := k.Put("a", old)
		two, err := k.Get(t.Context(), "a", k.load("a", errOther))
		if err != nil {
			t.Fatal(err)
		}
		advance(10 * time.Minute)
		if k.must(t, "a") == old {
			t.Fatal("not refreshed")
		}
		one.Release()
		one.Release() // of no consequence for two
		wantWiped(t, old, 0)
		two.Release()
		wantWiped(t, old, 1)
	})
}

func TestRefAfterRelease(t *testing.T) {
	k := newKit(t)
	ref := k.Put("a", k.make("a"))
	ref.Release()
	ref.Release()
	var none *cache.Ref[*secret]
	none.Release()
	defer func() {
		if got, want := recover(), "cache: Ref.Value called after Release"; got != want {
			t.Errorf("Value after Release: panic %v, want %q", got, want)
		}
	}()
	ref.Value()
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		idle := k.put("idle")
		busy := k.make("busy")
		ref := k.Put("busy", busy)
		if _, err := k.get(t, "negative", errDenied); err == nil {
			t.Fatal("want the refusal")
		}
		k.seen()
		k.Close()
		wantWiped(t, idle, 1)
		wantWiped(t, busy, 0)
		if ref.Value() != busy {
			t.Error("a Ref lost its value")
		}
		for _, key := range []string{"idle", "busy", "negative", "new"} {
			if _, err := k.get(t, key, nil); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("Get(%q) after Close: %v, want ErrClosed", key, err)
			}
		}
		late := k.make("late")
		lateRef := k.Put("late", late)
		wantWiped(t, lateRef.Value(), 0)
		lateRef.Release()
		wantWiped(t, late, 1)
		k.Remove("late")
		k.Close()
		if k.Len() != 0 {
			t.Errorf("Len = %d after Close", k.Len())
		}
		ref.Release()
		wantWiped(t, busy, 1)
		if diff := cmp.Diff(map[string]int{"closed": 2}, k.seen()); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
	})
}

func TestCloseDuringLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		old := k.put("refresh")
		advance(10 * time.Minute)
		// One that heeds its context, one that takes a second to do so and then has a
		// value after all, a refresh, and one that Remove has taken out of the table.
		calls := []<-chan answer{
			k.ask(t.Context(), "a", k.slow("a", time.Minute, nil)),
			k.ask(t.Context(), "b", func(ctx context.Context) (*secret, error) {
				<-ctx.Done()
				<-time.After(time.Second)
				return k.make("b"), nil
			}),
			k.ask(t.Context(), "refresh", k.slow("refresh", time.Minute, errDown)),
			k.ask(t.Context(), "removed", func(ctx context.Context) (*secret, error) {
				<-ctx.Done()
				<-time.After(2 * time.Second)
				return k.make("removed"), nil
			}),
		}
		k.Remove("removed")
		start := time.Now()
		closed := make(chan time.Duration, 2)
		for range 2 {
			go func() {
				k.Close()
				closed <- time.Since(start)
			}()
		}
		for i, call := range calls {
			if a := <-call; !errors.Is(a.err, cache.ErrClosed) {
				t.Errorf("call %d: %v, %v; want ErrClosed", i, a.ref, a.err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("callers were told after %v, want at once", took)
		}
		for range 2 {
			if took := <-closed; took != 2*time.Second {
				t.Errorf("Close took %v, want as long as the last load, 2s", took)
			}
		}
		wantWiped(t, old, 1)
		for _, s := range k.secrets {
			wantWiped(t, s, 1)
		}
		if len(k.secrets) != 3 || k.Len() != 0 {
			t.Errorf("%d values made and %d kept, want 3 and 0", len(k.secrets), k.Len())
		}
	})
}

// The lock is free whenever a function of the caller's runs: each of them
// calls the cache here, which would hang otherwise.
func TestCallbacksMayCallTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *cache.Cache[string, *secret]
		var called sync.Map
		call := func(name string) {
			called.Store(name, true)
			c.Len()
			c.Remove("other")
		}
		k := newKit(t, func(config *cache.Config[*secret]) {
			inner := config.Classify
			config.MaxEntries = 2
			config.Classify = func(err error) cache.Verdict { call("Classify"); return inner(err) }
			config.Wipe = func(*secret) { call("Wipe") }
			config.Observer = observer{call}
		})
		c = k.Cache
		get := func(key string, err error) {
			ref, _ := k.Get(t.Context(), key, func(context.Context) (*secret, error) {
				call("load")
				return k.make(key), err
			})
			ref.Release()
		}
		get("a", nil)
		get("a", nil)
		advance(10 * time.Minute)
		get("a", errDown)
		get("a", errDown)
		advance(5 * time.Second)
		get("a", nil)
		advance(10 * time.Minute)
		get("a", errDenied)
		get("a", errDenied)
		k.put("b")
		advance(70 * time.Minute)
		k.put("c")
		k.put("d")
		k.put("e")
		k.Remove("e")
		k.Close()
		for _, name := range []string{
			"Classify", "Wipe", "hit", "stale", "miss", "negative", "load",
			"capacity", "expired", "refused", "removed", "replaced", "closed",
		} {
			if _, ok := called.Load(name); !ok {
				t.Errorf("%s was not called", name)
			}
		}
	})
}

func TestObserverIsOptional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *cache.Config[*secret]) { c.Observer = nil })
		k.must(t, "a")
		k.must(t, "a")
		advance(10 * time.Minute)
		for _, err := range []error{errDown, errDown} {
			if _, err := k.get(t, "a", err); err != nil {
				t.Error(err)
			}
		}
		advance(5 * time.Second)
		for range 2 {
			if _, err := k.get(t, "a", errDenied); !errors.Is(err, errDenied) {
				t.Error(err)
			}
		}
	})
}
