package cache

import "time"

// Hooks are called as things happen, for metrics. Any of them may be nil. They
// are called by many goroutines at once and never with the cache's lock held.
//
// Each key asked for counts as exactly one of Hit, Miss, Negative, or StaleHit
// without Miss; a closed cache and a context that had already ended count as none.
type Hooks struct {
	// Hit: a fresh value served.
	Hit func()
	// StaleHit: a value past its fresh lifetime served because loads fail,
	// either at once or, after a Miss, when the load had failed.
	StaleHit func()
	// Miss: the caller has to wait for a load, its own or one in flight.
	Miss func()
	// Negative: a remembered failure served.
	Negative func()
	// Load: a load function returned. n is the number of keys it was asked for,
	// d how long it took, err the first error among its results, nil if it has none. It is
	// called before the callers get the outcome.
	Load func(n int, d time.Duration, err error)
	// Evicted: a value left the cache. If somebody holds it, it is wiped later.
	Evicted func(Reason)
}

// Reason is why a value left the cache.
type Reason uint8

const (
	// Capacity says it was the least recently used of more than MaxEntries.
	Capacity Reason = iota + 1
	// Expired says its fresh and stale lifetimes were over.
	Expired
	// Refused says a load failed with the verdict Evict.
	Refused
	// Removed says Remove was called.
	Removed
	// Replaced says a newer value came in for the same key.
	Replaced
	// Closed says Close was called.
	Closed
)

// String returns the reason as one lower-case word, fit for a metric's label.
func (r Reason) String() string {
	switch r {
	case Capacity:
		return "capacity"
	case Expired:
		return "expired"
	case Refused:
		return "refused"
	case Removed:
		return "removed"
	case Replaced:
		return "replaced"
	case Closed:
		return "closed"
	default:
		return "unknown"
	}
}

// asked counts what became of the keys of one call while the lock was held, to
// be reported once it is not.
type asked struct {
	hits, staleHits, misses, negatives int
}

func (h *Hooks) report(a asked) {
	repeat(h.Hit, a.hits)
	repeat(h.StaleHit, a.staleHits)
	repeat(h.Miss, a.misses)
	repeat(h.Negative, a.negatives)
}

func repeat(hook func(), n int) {
	if hook == nil {
		return
	}
	for range n {
		hook()
	}
}
