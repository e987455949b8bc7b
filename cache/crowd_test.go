package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/waxseal/waxseal/cache"
)

// visitor is one goroutine of a crowd: it comes at a time of its own, does one
// thing, and holds what it gets for a while. Times are few, so that much
// happens in the same instant.
type visitor struct {
	at, patience, load, hold time.Duration
	kind                     string
	keys                     []string
	err                      error
}

func crowds() *rapid.Generator[[]visitor] {
	seconds := func(t *rapid.T, name string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Second
	}
	one := rapid.Custom(func(t *rapid.T) visitor {
		return visitor{
			at:       seconds(t, "at", 40),
			patience: seconds(t, "patience", 4) + time.Millisecond,
			load:     seconds(t, "load", 5),
			hold:     seconds(t, "hold", 15),
			kind:     rapid.SampledFrom([]string{"get", "get", "many", "many", "many", "put", "remove", "panic"}).Draw(t, "kind"),
			keys:     rapid.SliceOfN(rapid.SampledFrom(modelKeys), 1, 5).Draw(t, "keys"),
			err:      rapid.SampledFrom([]error{nil, nil, nil, errDown, errDenied, errOther}).Draw(t, "err"),
		}
	})
	return rapid.SliceOfN(one, 1, 150)
}

// TestCrowd lets many callers loose on a small cache. Whatever they do: no value
// is wiped while it is held, each is wiped exactly once in the end, values go to
// the keys they were made for, loads of a key do not overlap (unless
// Remove or Put intervened), and every call returns.
func TestCrowd(t *testing.T) {
	for _, quiet := range []bool{true, false} {
		t.Run(fmt.Sprintf("without Put and Remove %v", quiet), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				crowd := crowds().Draw(rt, "crowd")
				if quiet {
					for i := range crowd {
						if crowd[i].kind == "put" || crowd[i].kind == "remove" {
							crowd[i].kind = "get"
						}
					}
				}
				closeAt := time.Duration(rapid.IntRange(10, 60).Draw(rt, "close at")) * time.Second
				var problem string
				synctest.Test(t, func(t *testing.T) { problem = visit(t, crowd, closeAt, quiet) })
				if problem != "" {
					rt.Fatal(problem)
				}
			})
		})
	}
}

func visit(t *testing.T, crowd []visitor, closeAt time.Duration, quiet bool) string {
	k := newKit(t, func(c *cache.Config[*secret]) {
		c.MaxEntries, c.Fresh, c.Stale, c.Jitter = modelEntries, 6*time.Second, 6*time.Second, 0.5
		c.NegativeFor, c.LoadTimeout = 3*time.Second, 4*time.Second
	})
	var first atomic.Pointer[string]
	fault := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		first.CompareAndSwap(nil, &text)
	}
	use := func(ref *cache.Ref[*secret], key string, hold time.Duration) {
		defer ref.Release()
		for range 2 {
			if s := ref.Value(); s.key != key || s.wiped.Load() != 0 {
				fault("a reader of %q holds value %d of %q, wiped %d times", key, s.id, s.key, s.wiped.Load())
			}
			<-time.After(hold)
		}
	}
	var mu sync.Mutex
	loading := map[string]int{}
	load := func(v visitor) func(context.Context, []string) []cache.Result[*secret] {
		return func(ctx context.Context, missing []string) []cache.Result[*secret] {
			enter := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				for _, key := range missing {
					if loading[key] += n; loading[key] > 1 && quiet {
						fault("%d loads of %q at once", loading[key], key)
					}
				}
			}
			enter(1)
			defer enter(-1)
			select {
			case <-time.After(v.load):
			case <-ctx.Done():
			}
			if v.kind == "panic" {
				panic("on purpose")
			}
			results := make([]cache.Result[*secret], len(missing))
			for i, key := range missing {
				if i%2 == 0 && v.err != nil {
					results[i].Err = v.err
				} else {
					results[i].Value = k.make(key)
				}
			}
			return results
		}
	}

	var wg sync.WaitGroup
	for _, v := range crowd {
		wg.Go(func() {
			<-time.After(v.at)
			ctx, cancel := context.WithTimeout(t.Context(), v.patience)
			defer cancel()
			switch v.kind {
			case "put":
				use(k.Put(v.keys[0], k.make(v.keys[0])), v.keys[0], v.hold)
			case "remove":
				k.Remove(v.keys[0])
			case "get":
				ref, err := k.Get(ctx, v.keys[0], func(ctx context.Context) (*secret, error) {
					r := load(v)(ctx, v.keys[:1])[0]
					return r.Value, r.Err
				})
				if err == nil {
					use(ref, v.keys[0], v.hold)
				}
			default:
				start := time.Now()
				outcomes := k.GetMany(ctx, v.keys, load(v))
				if took := time.Since(start); took > v.patience {
					fault("GetMany took %v with a context of %v", took, v.patience)
				}
				for i, o := range outcomes {
					known := o.Err == nil || errors.Is(o.Err, errDown) || errors.Is(o.Err, errDenied) || errors.Is(o.Err, errOther) ||
						errors.Is(o.Err, context.DeadlineExceeded) || errors.Is(o.Err, cache.ErrClosed) || errors.Is(o.Err, cache.ErrLoad)
					if !known || (o.Err == nil) == (o.Ref == nil) {
						fault("outcome of %q: %v, %v", v.keys[i], o.Ref, o.Err)
					}
					if o.Ref != nil {
						wg.Go(func() { use(o.Ref, v.keys[i], v.hold) })
					}
				}
			}
			if n := k.Len(); n > modelEntries {
				fault("%d entries in a cache of %d", n, modelEntries)
			}
		})
	}
	wg.Go(func() {
		<-time.After(closeAt)
		k.Close()
		if n := k.Len(); n != 0 {
			fault("%d entries in a closed cache", n)
		}
	})
	wg.Wait()
	for _, s := range k.secrets {
		if n := s.wiped.Load(); n != 1 {
			fault("in the end value %d was wiped %d times", s.id, n)
		}
	}
	if text := first.Load(); text != nil {
		return *text
	}
	return ""
}
