package cache_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/cache"
)

func TestManyColdReadersMakeOneLoad(t *testing.T) {
	for _, share := range []string{"first half cancelled", "every other cancelled", "all cancelled"} {
		t.Run(share, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const readers = 10_000
				gaveUp := func(i int) bool {
					switch share {
					case "first half cancelled":
						return i < readers/2 // the one that starts the load among them
					case "every other cancelled":
						return i%2 == 0
					default:
						return true
					}
				}
				k := newKit(t)
				patient, cancelPatient := context.WithCancel(t.Context())
				defer cancelPatient()
				hasty, cancelHasty := context.WithCancel(t.Context())
				defer cancelHasty()

				answers := make([]answer, readers)
				for i := range readers {
					ctx := patient
					if gaveUp(i) {
						ctx = hasty
					}
					go func() {
						ref, err := k.Get(ctx, "a", k.slow("a", 10*time.Second, nil))
						answers[i] = answer{ref, err}
					}()
					if i == 0 {
						synctest.Wait()
					}
				}
				advance(time.Second)
				cancelHasty()
				synctest.Wait()
				for i := range answers {
					if !gaveUp(i) {
						continue // still waiting
					}
					if a := answers[i]; !errors.Is(a.err, context.Canceled) {
						t.Fatalf("reader %d: %v, %v; want its context's error at once", i, a.ref, a.err)
					}
				}
				advance(10 * time.Second)
				for i, a := range answers {
					if !gaveUp(i) && (a.err != nil || a.ref.Value() != k.secrets[0]) {
						t.Fatalf("reader %d: %v, %v; want the value", i, a.ref, a.err)
					}
				}
				if got := k.must(t, "a"); got != k.secrets[0] {
					t.Error("the load did not fill the cache")
				}
				if k.loads.Load() != 1 {
					t.Errorf("%d loads, want 1", k.loads.Load())
				}

				k.Remove("a")
				for i := range answers {
					if !gaveUp(i) {
						wantWiped(t, k.secrets[0], 0)
						answers[i].ref.Release()
					}
				}
				wantWiped(t, k.secrets[0], 1)
			})
		})
	}
}

func TestRefreshIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		old := k.put("a")
		advance(10 * time.Minute)
		one := k.ask(t.Context(), "a", k.slow("a", time.Second, errDown))
		two := k.ask(t.Context(), "a", k.slow("a", time.Second, nil))
		k.seen()
		advance(time.Second)
		for _, a := range []answer{<-one, <-two} {
			if a.err != nil || a.ref.Value() != old {
				t.Fatalf("got %v, %v; want the stale value", a.ref, a.err)
			}
			a.ref.Release()
		}
		if diff := cmp.Diff(map[string]int{"load 1 backend is down": 1, "stale": 2}, k.seen()); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
	})
}

func TestLoadContext(t *testing.T) {
	type name struct{}
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), name{}, "caller"), time.Second)
		defer cancel()
		start := time.Now()
		var ended time.Duration
		done := k.ask(ctx, "a", func(ctx context.Context) (*secret, error) {
			if ctx.Value(name{}) != "caller" {
				t.Error("the load's context lacks the caller's values")
			}
			<-ctx.Done()
			ended = time.Since(start)
			return nil, ctx.Err()
		})
		advance(time.Second)
		if a := <-done; !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("Get = %v, %v; want the caller's deadline", a.ref, a.err)
		}
		advance(time.Minute)
		if ended != 30*time.Second {
			t.Errorf("the load's context ended after %v, want LoadTimeout, 30s", ended)
		}
	})
}

func TestContextThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		s := k.put("fresh")
		if _, err := k.get(t, "negative", errDenied); err == nil {
			t.Fatal("want the refusal")
		}
		flying := k.ask(t.Context(), "flying", k.slow("flying", time.Second, nil))
		k.loads.Store(0)
		outcomes := k.GetMany(ended, []string{"fresh", "negative", "flying", "absent"}, k.loadMany(nil))
		if outcomes[0].Err != nil || outcomes[0].Ref.Value() != s {
			t.Errorf("a fresh value: %v, want it served", outcomes[0].Err)
		}
		outcomes[0].Ref.Release()
		for i, want := range []error{errDenied, context.Canceled, context.Canceled} {
			if got := outcomes[i+1].Err; !errors.Is(got, want) {
				t.Errorf("outcome %d: %v, want %v", i+1, got, want)
			}
		}
		synctest.Wait()
		if k.loads.Load() != 0 {
			t.Error("a load was started without a caller")
		}
		advance(time.Second)
		(<-flying).ref.Release()
	})
}

// A caller with a context that ends when the outcome is decided, but
// what it replaced is still being wiped, gets the outcome.
func TestContextEndsWhileTheOldValueIsWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wiping := make(chan struct{})
		k := newKit(t, func(c *cache.Config[*secret]) {
			c.Wipe = func(s *secret) {
				<-wiping
				s.wiped.Add(1)
			}
		})
		old := k.put("a")
		advance(10 * time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		done := k.ask(ctx, "a", k.load("a", nil))
		cancel()
		synctest.Wait()
		select {
		case a := <-done:
			t.Fatalf("Get returned %v, %v before the old value was wiped", a.ref, a.err)
		default:
		}
		close(wiping)
		a := <-done
		if a.err != nil {
			t.Fatal(a.err)
		}
		wantWiped(t, old, 1)
		wantWiped(t, a.ref.Value(), 0)
		a.ref.Release()
	})
}

// loadMany is a load function for GetMany: keys that errs does not name get values.
func (k *kit) loadMany(errs map[string]error) func(context.Context, []string) []cache.Result[*secret] {
	return func(_ context.Context, missing []string) []cache.Result[*secret] {
		k.loads.Add(1)
		results := make([]cache.Result[*secret], len(missing))
		for i, key := range missing {
			if results[i].Err = errs[key]; results[i].Err == nil {
				results[i].Value = k.make(key)
			}
		}
		clear(missing) // it is the load's to keep
		return results
	}
}

func TestGetMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.put("stale")
		k.put("revoked")
		advance(10 * time.Minute)
		k.put("fresh")
		if _, err := k.get(t, "negative", errDenied); err == nil {
			t.Fatal("want the refusal")
		}
		flying := k.ask(t.Context(), "flying", k.slow("flying", time.Second, nil))
		k.seen()

		keys := []string{"fresh", "new", "flying", "stale", "new", "negative", "revoked", "fresh", "bad", "flying", "stale"}
		var asked [][]string
		outcomes := k.GetMany(t.Context(), keys, func(ctx context.Context, missing []string) []cache.Result[*secret] {
			asked = append(asked, slices.Clone(missing))
			return k.loadMany(map[string]error{"stale": errDown, "revoked": errDenied, "bad": errOther})(ctx, missing)
		})

		if diff := cmp.Diff([][]string{{"new", "stale", "revoked", "bad"}}, asked); diff != "" {
			t.Errorf("loads (-want +got):\n%s", diff)
		}
		want := map[string]string{
			"fresh": "2 fresh", "new": "3 new", "flying": "4 flying", "stale": "0 stale",
			"negative": errDenied.Error(), "revoked": errDenied.Error(), "bad": errOther.Error(),
		}
		for i, o := range outcomes {
			var got string
			if o.Err != nil {
				got = o.Err.Error()
			} else {
				got = fmt.Sprint(o.Ref.Value().id, " ", o.Ref.Value().key)
				defer o.Ref.Release()
			}
			if got != want[keys[i]] {
				t.Errorf("outcome %d, %q: %q, want %q", i, keys[i], got, want[keys[i]])
			}
		}
		wantWiped(t, k.secrets[1], 1) // revoked
		wantHooks := map[string]int{
			"hit": 2, "miss": 8, "negative": 1, "stale": 2, "refused": 1,
			"load 4 " + errDown.Error(): 1, "load 1 <nil>": 1,
		}
		if diff := cmp.Diff(wantHooks, k.seen()); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
		(<-flying).ref.Release()
	})
}

func TestGetManyOfNothing(t *testing.T) {
	k := newKit(t)
	if got := k.GetMany(t.Context(), nil, nil); len(got) != 0 {
		t.Errorf("GetMany of no keys = %v", got)
	}
}

func TestRepeatedKeyGivesRefsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		outcomes := k.GetMany(t.Context(), []string{"a", "a", "a"}, k.loadMany(nil))
		k.Remove("a")
		for i, o := range outcomes {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			wantWiped(t, k.secrets[0], 0)
			o.Ref.Release()
			o.Ref.Release()
			if i < len(outcomes)-1 {
				wantWiped(t, k.secrets[0], 0)
			}
		}
		wantWiped(t, k.secrets[0], 1)
		if len(k.secrets) != 1 || k.loads.Load() != 1 {
			t.Errorf("%d values by %d loads, want 1 by 1", len(k.secrets), k.loads.Load())
		}
	})
}

func TestBatchesJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		var asked [][]string
		many := func(d time.Duration, keys ...string) <-chan []cache.Outcome[*secret] {
			done := make(chan []cache.Outcome[*secret], 1)
			go func() {
				done <- k.GetMany(t.Context(), keys, func(ctx context.Context, missing []string) []cache.Result[*secret] {
					k.mu.Lock()
					asked = append(asked, slices.Clone(missing))
					k.mu.Unlock()
					<-time.After(d)
					return k.loadMany(nil)(ctx, missing)
				})
			}()
			synctest.Wait()
			return done
		}
		calls := []<-chan []cache.Outcome[*secret]{
			many(2*time.Second, "a", "b"),
			many(1*time.Second, "b", "c", "d"),
			many(1*time.Second, "a", "c"), // nothing left to load
		}
		single := k.ask(t.Context(), "d", k.load("d", errOther))
		if diff := cmp.Diff([][]string{{"a", "b"}, {"c", "d"}}, asked); diff != "" {
			t.Errorf("loads (-want +got):\n%s", diff)
		}
		advance(2 * time.Second)
		held := map[string]*secret{}
		for i, call := range calls {
			for _, o := range <-call {
				if o.Err != nil {
					t.Fatalf("call %d: %v", i, o.Err)
				}
				s := o.Ref.Value()
				if held[s.key] != nil && held[s.key] != s {
					t.Errorf("call %d: another value of %q", i, s.key)
				}
				held[s.key] = s
				o.Ref.Release()
			}
		}
		if a := <-single; a.err != nil || a.ref.Value() != held["d"] {
			t.Errorf("Get = %v, %v; want the value of the batch", a.ref, a.err)
		} else {
			a.ref.Release()
		}
		if len(k.secrets) != 4 {
			t.Errorf("%d values loaded for 4 keys", len(k.secrets))
		}
	})
}

func TestGetManyGivesWhatIsThereWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		quick := k.ask(t.Context(), "quick", k.slow("quick", time.Second, nil))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		k.put("fresh")
		outcomes := k.GetMany(ctx, []string{"fresh", "quick", "slow"}, func(ctx context.Context, missing []string) []cache.Result[*secret] {
			<-time.After(3 * time.Second)
			return k.loadMany(nil)(ctx, missing)
		})
		if outcomes[0].Err != nil || outcomes[1].Err != nil || !errors.Is(outcomes[2].Err, context.DeadlineExceeded) {
			t.Errorf("outcomes: %v, %v, %v; want two values and the deadline", outcomes[0].Err, outcomes[1].Err, outcomes[2].Err)
		}
		for _, o := range outcomes {
			o.Ref.Release()
		}
		(<-quick).ref.Release()
		advance(time.Second)
		k.loads.Store(0)
		k.must(t, "slow")
		if k.loads.Load() != 0 {
			t.Error("the load that was given up on did not fill the cache")
		}
	})
}

func TestLoadThatBreaksItsContract(t *testing.T) {
	const canary = "c4n4ry-s3cr3t"
	type thrown struct{ secret string }
	tests := []struct {
		name string
		load func(k *kit, missing []string) []cache.Result[*secret]
		text string // a regular expression
		made int    // values handed over, all to be wiped
	}{
		{
			"panics with a string", func(*kit, []string) []cache.Result[*secret] { panic(canary) },
			`^cache: load broke its contract: it panicked with a string at load_test\.go:\d+$`, 0,
		},
		{
			"panics with an error", func(*kit, []string) []cache.Result[*secret] { panic(errors.New(canary)) },
			`it panicked with a \*errors\.errorString at load_test\.go:\d+$`, 0,
		},
		{
			"panics with a struct", func(*kit, []string) []cache.Result[*secret] { panic(thrown{canary}) },
			`it panicked with a cache_test\.thrown at load_test\.go:\d+$`, 0,
		},
		{"panics with nil", func(*kit, []string) []cache.Result[*secret] { panic(nil) }, // on purpose
			`it panicked with a \*runtime\.PanicNilError at load_test\.go:\d+$`, 0},
		{
			"indexes out of range", func(_ *kit, missing []string) []cache.Result[*secret] { _ = missing[len(missing)]; return nil },
			`it panicked with a runtime\.boundsError at load_test\.go:\d+$`, 0,
		},
		{
			"follows a nil pointer", func(*kit, []string) []cache.Result[*secret] { var s *secret; s.id++; return nil },
			`it panicked with a runtime\.errorString at load_test\.go:\d+$`, 0,
		},
		{
			"ends its goroutine", func(*kit, []string) []cache.Result[*secret] { runtime.Goexit(); return nil },
			`^cache: load broke its contract: it ended its goroutine$`, 0,
		},
		{
			"gives nothing", func(*kit, []string) []cache.Result[*secret] { return nil },
			`^cache: load broke its contract: 0 results for 2 keys$`, 0,
		},
		{"gives too few", func(k *kit, _ []string) []cache.Result[*secret] {
			return []cache.Result[*secret]{{Value: k.make("a")}}
		}, `1 results for 2 keys$`, 1},
		{"gives too many", func(k *kit, _ []string) []cache.Result[*secret] {
			return []cache.Result[*secret]{{Value: k.make("a")}, {Err: errDown}, {Value: k.make("c")}}
		}, `3 results for 2 keys$`, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var classified int
				k := newKit(t, func(c *cache.Config[*secret]) {
					c.Classify = func(error) cache.Verdict { classified++; return cache.Evict }
				})
				old := k.put("a")
				advance(10 * time.Minute)
				var second <-chan answer
				outcomes := k.GetMany(t.Context(), []string{"a", "b"}, func(_ context.Context, missing []string) []cache.Result[*secret] {
					second = k.ask2(t.Context(), "b", errDown)
					<-time.After(time.Second)
					return tt.load(k, missing)
				})
				errs := []error{outcomes[0].Err, outcomes[1].Err, (<-second).err}
				for i, err := range errs {
					if !errors.Is(err, cache.ErrLoad) || !regexp.MustCompile(tt.text).MatchString(err.Error()) {
						t.Errorf("error %d: %v, want ErrLoad matching %s", i, err, tt.text)
					} else if strings.Contains(fmt.Sprintf("%+v", err), canary) {
						t.Errorf("error %d quotes what was thrown", i)
					}
				}
				if classified != 0 {
					t.Error("a broken contract was put to Classify")
				}
				if made := k.secrets[1:]; len(made) != tt.made {
					t.Errorf("%d values made, want %d", len(made), tt.made)
				} else {
					for _, s := range made {
						wantWiped(t, s, 1)
					}
				}
				wantWiped(t, old, 0)
				k.must(t, "a") // nothing is remembered
				k.must(t, "b")
			})
		})
	}
}

// ask2 is ask for calls from within a load, which must not wait for all goroutines.
func (k *kit) ask2(ctx context.Context, key string, err error) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		ref, got := k.Get(ctx, key, k.load(key, err))
		done <- answer{ref, got}
	}()
	return done
}

func TestErrorsOfALoadComeBackAsTheyAre(t *testing.T) {
	k := newKit(t)
	mine := fmt.Errorf("wrapped: %w", errDown)
	for range 2 { // from the load, then from memory
		if _, err := k.get(t, "a", mine); err != mine { //nolint:errorlint // identity is the point
			t.Errorf("Get: %v, want the very error of the load", err)
		}
	}
}

func TestValueNextToAnErrorIsTheLoadsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		s := k.make("a")
		if _, err := k.Get(t.Context(), "a", func(context.Context) (*secret, error) { return s, errDown }); !errors.Is(err, errDown) {
			t.Errorf("Get: %v, want the error of the load", err)
		}
		k.Close()
		wantWiped(t, s, 0)
	})
}
