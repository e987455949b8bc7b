package cache

import (
	"context"
	"time"
)

// Result is what a load function returns for one key: a value, which the cache
// then owns, or an error. Value is ignored when Err is set.
type Result[V any] struct {
	Value V
	Err   error
}

// Outcome is what GetMany returns for one key. Exactly one of Ref and Err is set.
type Outcome[V any] struct {
	// Ref is the caller's hold on the value; release it.
	Ref *Ref[V]
	// Stale says that the value is past its fresh lifetime, and serves because the
	// load failed with the verdict ServeStale or ServeStaleOnce.
	Stale bool
	// Err is why there is no value.
	Err error
}

// Get returns the value of key, from the cache or through load.
//
// load is called, if need be, in a goroutine of its own, with ctx's values but
// not its end: its context ends after LoadTimeout or when the cache is closed. It
// returns a value that shares memory with no other, or an error for Classify.
// It must not ask the cache for the same key. If it panics, Get gives an error that is
// ErrLoad and says where, without what it panicked with.
//
// When ctx ends first, Get returns ctx.Err() and the load goes on. Other
// errors are those of load, as they are, and ErrClosed. A value that is fresh is
// served even if ctx has ended.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load func(ctx context.Context) (V, error)) (*Ref[V], error) {
	if ref := c.Fresh(key); ref != nil {
		return ref, nil
	}
	o := c.GetMany(ctx, []K{key}, func(ctx context.Context, _ []K) []Result[V] {
		v, err := load(ctx)
		return []Result[V]{{Value: v, Err: err}}
	})[0]
	return o.Ref, o.Err
}

// Fresh returns a Ref to the value of key if it is within its fresh lifetime, and
// nil otherwise: it loads nothing and waits for nothing. It counts as a Hit if
// there is one and as nothing if not, for those who go on to ask for a key in
// another way.
func (c *Cache[K, V]) Fresh(key K) *Ref[V] {
	now := time.Now()
	c.mu.Lock()
	e, ok := c.entries.Get(key)
	if !ok || !now.Before(e.freshUntil) {
		c.mu.Unlock()
		return nil
	}
	e.hold(1)
	c.mu.Unlock()
	if c.config.Hooks.Hit != nil {
		c.config.Hooks.Hit()
	}
	ref := new(Ref[V])
	ref.held.Store(&e.box)
	return ref
}

// Stale returns a Ref to the value of key if it is within its fresh or its stale
// lifetime, and nil otherwise: it loads nothing and waits for nothing. It counts as
// a StaleHit, and is for those whose time is over before a load of the key is.
func (c *Cache[K, V]) Stale(key K) *Ref[V] {
	now := time.Now()
	c.mu.Lock()
	e := c.live(key, now)
	if e != nil {
		e.hold(1)
	}
	c.unlock()
	if e == nil {
		return nil
	}
	repeat(c.config.Hooks.StaleHit, 1)
	return new(Ref[V]).to(&e.box)
}

// GetMany returns one Outcome for each key, in order; keys may repeat. It calls
// load at most once, with the keys that are neither in the cache nor being
// loaded, each once, and waits for the loads of others where there are some.
//
// load returns one Result for each of missing, in order; missing is its to
// keep. Any other number of results makes them all errors that are ErrLoad (and
// the values are wiped). Otherwise everything said of Get holds for each key.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, load func(ctx context.Context, missing []K) []Result[V]) []Outcome[V] {
	outcomes, refs := makeOutcomes[V](len(keys))
	ended := ctx.Err()
	var (
		counts asked
		own    []*flight[K, V]
		waits  []waiting[K, V]
	)
	now := time.Now()
	c.mu.Lock()
	for i, key := range keys {
		if c.closed {
			outcomes[i].Err = ErrClosed
			continue
		}
		e := c.live(key, now)
		if e != nil && now.Before(e.freshUntil) {
			counts.hits++
			e.hold(1)
			outcomes[i].Ref = refs[i].to(&e.box)
			continue
		}
		f, flying := c.flights[key]
		if !flying {
			if err := c.remembered(key, now); err != nil {
				// An entry that outlives a remembered failure was stale, not
				// refused: the verdict Evict removes it.
				if e != nil {
					counts.staleHits++
					e.hold(1)
					outcomes[i].Ref, outcomes[i].Stale = refs[i].to(&e.box), true
				} else {
					counts.negatives++
					outcomes[i].Err = err
				}
				continue
			}
			if ended != nil {
				outcomes[i].Err = ended
				continue
			}
			f = &flight[K, V]{key: key, done: make(chan struct{})}
			c.flights[key] = f
			own = append(own, f)
		}
		counts.misses++
		f.waiters++
		waits = append(waits, waiting[K, V]{f, i})
	}
	if own != nil {
		// Under the lock, so that Close either comes first or waits for the load.
		c.start(ctx, own, load)
	}
	c.unlock()
	c.config.Hooks.report(counts)

	for _, w := range waits {
		b, err := c.await(ctx, w.flight)
		if err != nil {
			outcomes[w.index].Err = err
			continue
		}
		outcomes[w.index].Ref, outcomes[w.index].Stale = refs[w.index].to(b), w.flight.stale
	}
	return outcomes
}

// waiting is the place in GetMany's answer that a flight will fill.
type waiting[K comparable, V any] struct {
	flight *flight[K, V]
	index  int
}

// makeOutcomes returns n outcomes and the memory for as many Refs, in one
// allocation where n is 1, which is most of the time, else in two.
func makeOutcomes[V any](n int) ([]Outcome[V], []Ref[V]) {
	if n == 1 {
		one := new(struct {
			outcome [1]Outcome[V]
			ref     [1]Ref[V]
		})
		return one.outcome[:], one.ref[:]
	}
	return make([]Outcome[V], n), make([]Ref[V], n)
}

// to makes r a reference to b on behalf of a hold already taken.
func (r *Ref[V]) to(b *box[V]) *Ref[V] {
	r.held.Store(b)
	return r
}
