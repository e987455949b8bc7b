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

// Fresh returns a Ref to the value of key if it is within its fresh lifetime, and nil otherwise. It never loads or
// waits. A value counts as a Hit; none counts as nothing, since the caller goes on to look for a key in another way.
func (c *Cache[K, V]) Fresh(key K) *Ref[V] { return c.peek(key, Hit) }

// Stale returns a Ref to the value of key if it is within its fresh or its stale lifetime, and nil otherwise. It never
// loads or waits. A value counts as a StaleHit. It serves a caller that ran out of time before a load of the key ended.
func (c *Cache[K, V]) Stale(key K) *Ref[V] { return c.peek(key, StaleHit) }

func (c *Cache[K, V]) peek(key K, as Lookup) *Ref[V] {
	now := time.Now()
	c.mu.Lock()
	e := c.live(key, now)
	found := e != nil && (as == StaleHit || now.Before(e.freshUntil))
	if found {
		e.hold(1)
	}
	c.unlock()
	if !found {
		return nil
	}
	c.config.Observer.CacheLookup(as)
	return new(Ref[V]).to(&e.box)
}

// GetMany returns one Outcome for each key, in order; keys may repeat. It calls load at most once, with the keys that
// are neither in the cache nor being loaded, each once, and waits for the loads of other callers where there are some.
//
// load runs in a goroutine of its own, with ctx's values but not its end: its context ends after LoadTimeout or when
// the cache is closed. It returns one Result for each of missing, in order; missing is its to keep. A value shares
// memory with no other; an error goes to Classify. load must not call the cache for the same keys. If it panics or
// returns another number of results, each key gets an error that says so and where, but not what it panicked with (and
// the values are wiped).
//
// When ctx ends first, the keys not yet loaded get ctx.Err() and the load goes on. Other errors are those of load, as
// they are, and ErrClosed. A fresh value serves even if ctx has ended.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, load func(ctx context.Context, missing []K) []Result[V]) []Outcome[V] {
	outcomes, refs := makeOutcomes[V](len(keys))
	ended := ctx.Err()
	var (
		seen  lookups
		own   []*flight[K, V]
		waits []waiting[K, V]
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
			seen[Hit]++
			e.hold(1)
			outcomes[i].Ref = refs[i].to(&e.box)
			continue
		}
		f, flying := c.flights[key]
		if !flying {
			if err := c.remembered(key, now); err != nil {
				// An entry that outlives a remembered failure is stale, not refused: the verdict Evict removes it.
				if e != nil {
					seen[StaleHit]++
					e.hold(1)
					outcomes[i].Ref, outcomes[i].Stale = refs[i].to(&e.box), true
				} else {
					seen[Negative]++
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
		seen[Miss]++
		f.waiters++
		waits = append(waits, waiting[K, V]{f, i})
	}
	if own != nil {
		// Under the lock, so that Close either comes first or waits for the load.
		c.start(ctx, own, load)
	}
	c.unlock()
	seen.report(c.config.Observer)

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

// waiting is the outcome that a flight will fill.
type waiting[K comparable, V any] struct {
	flight *flight[K, V]
	index  int
}

// makeOutcomes returns n outcomes and the memory for as many Refs; for n = 1 it allocates once.
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

// to makes r a reference to b, for a hold already taken.
func (r *Ref[V]) to(b *box[V]) *Ref[V] {
	r.held.Store(b)
	return r
}
