package cache

import "context"

const (
	MaxEntriesLimit = maxEntries
	MaxLifetime     = maxLifetime
)

var ErrLoad = errLoad

// Len returns the number of values held, fresh and stale.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Len()
}

// Get is Fresh, or else GetMany of one key.
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
