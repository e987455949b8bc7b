package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// ErrClosed is the error of GetMany on a closed cache, and for callers that wait for a load when it is closed.
var ErrClosed = errors.New("cache: closed")

// Cache holds values of type V under keys of type K. Make one with New; it is
// safe for concurrent use. Close it when done.
//
// Keys must equal themselves (no NaN) and must not be interfaces with a dynamic type that is not comparable.
type Cache[K comparable, V any] struct {
	config Config[V]

	// Close ends closing, and with it the context of every load.
	closing   context.Context
	cancelAll context.CancelFunc
	// work counts running loads and sweeps. It grows only under mu while closed is false, so Close can wait for it.
	work sync.WaitGroup

	// mu guards everything below and the fields of entries and flights. No function of the
	// Config runs while it is held: unlock handles dropped and settled.
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

// failure is an error that is remembered until then.
type failure struct {
	err   error
	until time.Time
}

// dropped is a box that unlock releases. reason is 0 for a value that was never in the table.
type dropped[V any] struct {
	box    *box[V]
	reason Reason
}

// New returns an empty cache, or an error that lists all that is wrong with config.
func New[K comparable, V any](config Config[V]) (*Cache[K, V], error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.Observer == nil {
		config.Observer = NopObserver{}
	}
	c := &Cache[K, V]{config: config, flights: make(map[K]*flight[K, V])}
	c.entries, _ = simplelru.NewLRU(config.MaxEntries, c.left) // it fails only for a size below one
	c.failures, _ = simplelru.NewLRU[K, failure](config.MaxEntries, nil)
	c.closing, c.cancelAll = context.WithCancel(context.Background())
	return c, nil
}

// Put stores v, fresh from now, in place of the key's value or remembered failure, and returns a Ref to it for the
// caller to release. The cache owns v and wipes it; v must not share memory with another value of the cache.
//
// Put settles a load of the same key in flight: its waiters get v at once, and the cache discards the load's result.
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

// Remove forgets the value of key, which is wiped once no Ref holds it, and its remembered failure. A load of key in
// flight goes on for its waiters, but the cache neither stores nor remembers its result, and the next caller starts
// another load. Removing an absent key does nothing.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.unlock()
	delete(c.flights, key)
	c.failures.Remove(key)
	if e, ok := c.entries.Peek(key); ok {
		c.evict(e, Removed)
	}
}

// Close empties the cache and cancels the loads in flight; their waiters get ErrClosed at once. It returns when those
// loads have returned and every value without a Ref is wiped; the release of its last Ref wipes any other. Closing
// again does no harm. A load must not call Close: it would wait for itself.
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

// unlock releases mu, then wipes what was dropped and wakes the waiters, in that order:
// a caller that gets a refusal can rely on the value being wiped.
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
	for _, d := range drops {
		if d.reason != 0 {
			c.config.Observer.CacheEvicted(d.reason)
		}
	}
}

// discard ends the cache's hold on a box that is not in the table.
func (c *Cache[K, V]) discard(b *box[V]) {
	c.dropped = append(c.dropped, dropped[V]{box: b})
}
