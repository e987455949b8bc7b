package cache

import (
	"math/rand/v2"
	"time"
)

// entry is a value in the table. Readers hold only the box.
type entry[K comparable, V any] struct {
	box[V]
	key K
	// It serves until freshUntil, and may serve until staleUntil.
	freshUntil, staleUntil time.Time
	// wipeBy is the latest staleUntil, whatever the jitter, so the order of wipeBy is the order of age.
	wipeBy time.Time
	// reason is set before the entry leaves the table; the LRU's own evictions leave it 0.
	reason       Reason
	older, newer *entry[K, V]
}

// newEntry returns an entry with one hold, that of the table.
func (c *Cache[K, V]) newEntry(key K, v V, now time.Time) *entry[K, V] {
	e := &entry[K, V]{key: key}
	e.value, e.wipe = v, c.config.Wipe
	e.hold(1)

	spread := time.Duration(c.config.Jitter * float64(c.config.Fresh))
	fresh := c.config.Fresh - spread
	if spread > 0 {
		fresh += rand.N(2*spread + 1) //nolint:gosec // spreads load; nothing secret depends on it
	}
	e.freshUntil = now.Add(fresh)
	e.staleUntil = e.freshUntil.Add(c.config.Stale)
	e.wipeBy = now.Add(c.config.Fresh + spread + c.config.Stale)
	return e
}

// live returns the entry of key, or nil. It evicts an entry past its stale lifetime.
func (c *Cache[K, V]) live(key K, now time.Time) *entry[K, V] {
	e, ok := c.entries.Get(key)
	if !ok {
		return nil
	}
	if !now.Before(e.staleUntil) {
		c.evict(e, Expired)
		return nil
	}
	return e
}

// insert puts e in the table, in place of the key's old entry and failure.
func (c *Cache[K, V]) insert(e *entry[K, V]) {
	c.failures.Remove(e.key)
	if old, ok := c.entries.Peek(e.key); ok {
		c.evict(old, Replaced)
	}
	c.entries.Add(e.key, e)
	c.byAge.push(e)
	c.setSweep()
}

func (c *Cache[K, V]) evict(e *entry[K, V], reason Reason) {
	e.reason = reason
	c.entries.Remove(e.key)
}

// left is called by the LRU, under the lock, for each entry that leaves it.
func (c *Cache[K, V]) left(_ K, e *entry[K, V]) {
	if e.reason == 0 {
		e.reason = Capacity
	}
	c.byAge.remove(e)
	c.dropped = append(c.dropped, dropped[V]{box: &e.box, reason: e.reason})
}

// remembered returns the failure of key that is remembered now, or nil.
func (c *Cache[K, V]) remembered(key K, now time.Time) error {
	f, ok := c.failures.Get(key)
	if !ok {
		return nil
	}
	if !now.Before(f.until) {
		c.failures.Remove(key)
		return nil
	}
	return f.err
}

func (c *Cache[K, V]) remember(key K, err error, now time.Time) {
	if c.config.NegativeFor > 0 {
		c.failures.Add(key, failure{err: err, until: now.Add(c.config.NegativeFor)})
	}
}
