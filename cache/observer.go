package cache

// Observer counts what a Cache does, for metrics. Many goroutines call it at once, and never with the cache's lock
// held. A type that implements only a part embeds NopObserver.
type Observer interface {
	// CacheLookup is called once for each key of a call, but for calls on a closed
	// cache or with a context that had already ended. If the load that a Miss waits for
	// fails and a stale value serves, it is called again, with StaleHit.
	CacheLookup(Lookup)
	// CacheEvicted is called when a value leaves the cache. A Ref may still hold it.
	CacheEvicted(Reason)
}

// NopObserver is an Observer that does nothing.
type NopObserver struct{}

// CacheLookup implements Observer.
func (NopObserver) CacheLookup(Lookup) {}

// CacheEvicted implements Observer.
func (NopObserver) CacheEvicted(Reason) {}

// Lookup is the outcome for one key.
type Lookup uint8

// The outcomes of a lookup.
const (
	Hit      Lookup = iota // a fresh value served
	StaleHit               // a value past its fresh lifetime served, because loads fail
	Miss                   // the caller waits for a load, its own or one in flight
	Negative               // a remembered failure served
)

// String returns the outcome as one lower-case word, fit for a metric's label.
func (l Lookup) String() string { return word(l, "hit", "stale", "miss", "negative") }

// Reason is why a value left the cache.
type Reason uint8

// The reasons of an eviction. Zero is none.
const (
	Capacity Reason = iota + 1 // the least recently used of more than MaxEntries
	Expired                    // its fresh and stale lifetimes were over
	Refused                    // a load failed with the verdict Evict
	Removed                    // by Remove
	Replaced                   // a newer value came in for the same key
	Closed                     // by Close
)

// String returns the reason as one lower-case word, fit for a metric's label.
func (r Reason) String() string {
	return word(r, "unknown", "capacity", "expired", "refused", "removed", "replaced", "closed")
}

func word[T ~uint8](n T, words ...string) string {
	if int(n) < len(words) {
		return words[n]
	}
	return "unknown"
}

// lookups counts the outcomes of one call under the lock; report passes them on afterwards.
type lookups [Negative + 1]int

func (l *lookups) report(o Observer) {
	for lookup, n := range l {
		for range n {
			o.CacheLookup(Lookup(lookup))
		}
	}
}
