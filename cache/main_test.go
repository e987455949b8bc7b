package cache_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errDown   = errors.New("backend is down")
	errDenied = errors.New("key is revoked")
	errOther  = errors.New("something else")
)

func classify(err error) cache.Verdict {
	switch {
	case errors.Is(err, errDown):
		return cache.ServeStale
	case errors.Is(err, errDenied):
		return cache.Evict
	default:
		return cache.Fail
	}
}

// secret is a value that knows how often it was wiped.
type secret struct {
	id    int
	key   string
	wiped atomic.Int32
}

// kit is a cache of secrets, what was loaded into it and what its hooks saw.
type kit struct {
	*cache.Cache[string, *secret]
	loads atomic.Int64

	mu      sync.Mutex
	secrets []*secret
	events  map[string]int
}

// newKit returns a cache with round lifetimes: fresh 10 min, stale for 1 h more,
// failures remembered 5 s, loads ended after 30 s, no jitter. It is closed when
// the test ends.
func newKit(t testing.TB, change ...func(*cache.Config[*secret])) *kit {
	t.Helper()
	k := &kit{events: make(map[string]int)}
	config := cache.Config[*secret]{
		MaxEntries: 100, Fresh: 10 * time.Minute, Stale: time.Hour,
		NegativeFor: 5 * time.Second, LoadTimeout: 30 * time.Second,
		Classify: classify,
		Wipe:     func(s *secret) { s.wiped.Add(1) },
		Observer: observer{k.count},
	}
	for _, f := range change {
		f(&config)
	}
	c, err := cache.New[string](config)
	if err != nil {
		t.Fatal(err)
	}
	k.Cache = c
	t.Cleanup(k.Close)
	return k
}

// observer counts events by name.
type observer struct{ count func(event string) }

func (o observer) CacheLookup(l cache.Lookup)  { o.count(l.String()) }
func (o observer) CacheEvicted(r cache.Reason) { o.count(r.String()) }

// GetMany is that of the cache, and counts what load returns as an event.
func (k *kit) GetMany(ctx context.Context, keys []string, load func(context.Context, []string) []cache.Result[*secret]) []cache.Outcome[*secret] {
	return k.Cache.GetMany(ctx, keys, func(ctx context.Context, missing []string) []cache.Result[*secret] {
		results := load(ctx, missing)
		var first error
		for _, r := range results {
			first = cmp.Or(first, r.Err)
		}
		k.count(fmt.Sprintf("load %d %v", len(missing), first))
		return results
	})
}

// Get is that of the cache, and counts likewise.
func (k *kit) Get(ctx context.Context, key string, load func(context.Context) (*secret, error)) (*cache.Ref[*secret], error) {
	return k.Cache.Get(ctx, key, func(ctx context.Context) (*secret, error) {
		s, err := load(ctx)
		k.count(fmt.Sprintf("load 1 %v", err))
		return s, err
	})
}

func (k *kit) count(event string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events[event]++
}

// seen returns what the hooks counted since it was last called.
func (k *kit) seen() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer clear(k.events)
	return maps.Clone(k.events)
}

func (k *kit) make(key string) *secret {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &secret{id: len(k.secrets), key: key}
	k.secrets = append(k.secrets, s)
	return s
}

// load is a load function of key that ends at once, as err says.
func (k *kit) load(key string, err error) func(context.Context) (*secret, error) {
	return func(context.Context) (*secret, error) {
		k.loads.Add(1)
		if err != nil {
			return nil, err
		}
		return k.make(key), nil
	}
}

// slow is a load function that takes d, or as long as its context allows.
func (k *kit) slow(key string, d time.Duration, err error) func(context.Context) (*secret, error) {
	return func(ctx context.Context) (*secret, error) {
		select {
		case <-time.After(d):
			return k.load(key, err)(ctx)
		case <-ctx.Done():
			k.loads.Add(1)
			return nil, ctx.Err()
		}
	}
}

// get gets key, loading as err says, and lets go of it again.
func (k *kit) get(t testing.TB, key string, err error) (*secret, error) {
	t.Helper()
	ref, got := k.Get(t.Context(), key, k.load(key, err))
	defer ref.Release()
	if (ref == nil) == (got == nil) {
		t.Fatalf("Get(%q) = %v, %v: want exactly one", key, ref, got)
	}
	if ref == nil {
		return nil, got
	}
	if s := ref.Value(); s.key != key || s.wiped.Load() != 0 {
		t.Fatalf("Get(%q) gave the secret of %q, wiped %d times", key, s.key, s.wiped.Load())
	}
	return ref.Value(), nil
}

func (k *kit) put(key string) *secret {
	s := k.make(key)
	k.Put(key, s).Release()
	return s
}

// must returns the secret that Get gives, which the test relies on.
func (k *kit) must(t testing.TB, key string) *secret {
	t.Helper()
	s, err := k.get(t, key, nil)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	return s
}

func wantWiped(t testing.TB, s *secret, want int32) {
	t.Helper()
	if got := s.wiped.Load(); got != want {
		t.Errorf("secret %d of %q was wiped %d times, want %d", s.id, s.key, got, want)
	}
}

// advance lets virtual time pass and everything that was due happen.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// answer is what a call in another goroutine came to.
type answer struct {
	ref *cache.Ref[*secret]
	err error
}

// ask starts a Get in a goroutine and returns once it waits or is done.
func (k *kit) ask(ctx context.Context, key string, load func(context.Context) (*secret, error)) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		ref, err := k.Get(ctx, key, load)
		done <- answer{ref, err}
	}()
	synctest.Wait()
	return done
}
