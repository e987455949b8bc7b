package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// ErrClosed is what every Get on a closed cache gives, and what those get who
// were waiting for a load when it was closed.
var ErrClosed = errors.New("cache: closed")

// Cache holds values of type V under keys of type K. Make one with New; it is
// safe for concurrent use. Close it when done.
//
// Keys must equal themselves (no NaN in them) and must not be interfaces that
// hold something that cannot be compared.
type Cache[K comparable, V any] struct {
	config Config[V]

	// closing ends when Close is called and with it the context of every load.
	closing   context.Context
	cancelAll context.CancelFunc
	// work counts running loads and sweeps; it grows only under mu and while
	// closed is false, so Close can wait for it.
	work sync.WaitGroup

	// mu guards everything below and the fields of entries and flights. No
	// function that a caller supplied runs while it is held: what has to be wiped or
	// woken is noted in dropped and settled, and unlock sees to it.
	mu       sync.Mutex
	closed   bool
	entries  *simplelru.LRU[K, *entry[K, V]]
	failures *simplelru.LRU[K, failure]
	flights  map[K]*flight[K, V]
	byAge    queue[K, V]
	sweeper  *time.Timer
	sweepSet bool
	dropped  []dropped[V]
	settled  []*flight[K, V]
}

// failure is a remembered error; it answers until then.
type failure struct {
	err   error
	until time.Time
}

// dropped is a box that the cache lets go of as soon as the lock is free.
// Reason is 0 for a value that never got into the table.
type dropped[V any] struct {
	box    *box[V]
	reason Reason
}

// New returns an empty cache. A Config that makes no sense gives a *ConfigError
// with all that is wrong with it.
func New[K comparable, V any](config Config[V]) (*Cache[K, V], error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	c := &Cache[K, V]{config: config, flights: make(map[K]*flight[K, V])}
	var err1, err2 error
	c.entries, err1 = simplelru.NewLRU(config.MaxEntries, c.left)
	c.failures, err2 = simplelru.NewLRU[K, failure](config.MaxEntries, nil)
	if err := errors.Join(err1, err2); err != nil { // never: they refuse only sizes below 1
		return nil, fmt.Errorf("cache: make tables: %w", err)
	}
	c.closing, c.cancelAll = context.WithCancel(context.Background())
	return c, nil
}

// Put stores v, fresh from now, in place of whatever was known about key, and
// returns a Ref to it for the caller to release. The cache owns v from here on and wipes
// it; v must not share memory with a value it was given before.
//
// Put decides a load of the same key that is in flight: those who wait for it
// get v at once, and what the load returns, value or failure, is discarded.
//
// On a closed cache v is not stored; it is wiped when the Ref is released.
func (c *Cache[K, V]) Put(key K, v V) *Ref[V] {
	ref := new(Ref[V])
	c.mu.Lock()
	defer c.unlock()
	e := c.newEntry(key, v, time.Now())
	e.hold(1)
	ref.held.Store(&e.box)
	if c.closed {
		c.discard(&e.box)
		return ref
	}
	if f, ok := c.flights[key]; ok {
		delete(c.flights, key)
		c.settle(f, &e.box, nil)
	}
	c.insert(e)
	return ref
}

// Remove forgets everything about key: its value, which is wiped as soon as
// nobody holds it, and a remembered failure. A load of key in flight goes on for
// those who wait for it, but what it returns is neither stored nor
// remembered, and the next Get starts another. Removing a key that is not there
// does nothing.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.unlock()
	delete(c.flights, key)
	c.failures.Remove(key)
	if e, ok := c.entries.Peek(key); ok {
		c.evict(e, Removed)
	}
}

// Len returns the number of values held, fresh and stale, 0 to MaxEntries.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Len()
}

// Close empties the cache and cancels the loads in flight: those who wait for
// them get ErrClosed at once. It returns when those loads have returned and
// every value that nobody holds is wiped; one that is held is wiped when its
// last Ref is released. Afterwards every Get gives ErrClosed. Closing again
// does no harm. A load must not call Close: it would wait for itself.
func (c *Cache[K, V]) Close() {
	c.mu.Lock()
	c.closed = true
	for _, e := range c.entries.Values() {
		c.evict(e, Closed)
	}
	c.failures.Purge()
	clear(c.flights)
	if c.sweeper != nil {
		c.sweeper.Stop()
	}
	c.cancelAll()
	c.unlock()
	c.work.Wait()
}

// unlock releases mu, then wipes what was dropped and wakes who was waiting, in
// that order: who learns that a key is refused can rely on its value being wiped.
func (c *Cache[K, V]) unlock() {
	drops, flights := c.dropped, c.settled
	c.dropped, c.settled = nil, nil
	c.mu.Unlock()
	for _, d := range drops {
		d.box.drop()
	}
	for _, f := range flights {
		close(f.done)
	}
	if c.config.Hooks.Evicted == nil {
		return
	}
	for _, d := range drops {
		if d.reason != 0 {
			c.config.Hooks.Evicted(d.reason)
		}
	}
}

// discard gives up the cache's own hold on a box that is not in the table.
func (c *Cache[K, V]) discard(b *box[V]) {
	c.dropped = append(c.dropped, dropped[V]{box: b})
}
