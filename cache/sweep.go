package cache

import "time"

// The sweeper bounds how long an entry that no caller requests again stays in memory.
// Entries queue in the order they came in, and one timer runs for the eldest.

// queue is a list of entries from eldest to youngest, linked through the entries, so that it costs no allocation.
type queue[K comparable, V any] struct {
	eldest, youngest *entry[K, V]
}

func (q *queue[K, V]) push(e *entry[K, V]) {
	e.older = q.youngest
	if q.youngest != nil {
		q.youngest.newer = e
	} else {
		q.eldest = e
	}
	q.youngest = e
}

func (q *queue[K, V]) remove(e *entry[K, V]) {
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		q.eldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		q.youngest = e.older
	}
	e.older, e.newer = nil, nil
}

// setSweep sets the timer to the eldest entry's wipeBy, if it is not set.
func (c *Cache[K, V]) setSweep() {
	if c.sweepSet || c.byAge.eldest == nil {
		return
	}
	c.sweepSet = true
	in := time.Until(c.byAge.eldest.wipeBy)
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(in, c.sweep)
	} else {
		c.sweeper.Reset(in)
	}
}

func (c *Cache[K, V]) sweep() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.work.Add(1)
	defer c.work.Done()
	now := time.Now()
	for e := c.byAge.eldest; e != nil && !now.Before(e.wipeBy); e = c.byAge.eldest {
		c.evict(e, Expired)
	}
	c.sweepSet = false
	c.setSweep()
	c.unlock()
}
