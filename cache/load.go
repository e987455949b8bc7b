package cache

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
)

// errLoad reports a bug in the load function.
var errLoad = errors.New("cache: load broke its contract")

var errExited = fmt.Errorf("%w: it ended its goroutine", errLoad)

// flight is the load of one key, until its outcome is known. Callers join a flight in
// Cache.flights. They cannot join one that Remove took out, and its value is not stored.
type flight[K comparable, V any] struct {
	key K
	// waiters is the number of callers that will take the outcome. settle takes a hold
	// for each, so that no event before they wake up can wipe the value.
	waiters int
	settled bool
	// The outcome; not written again once settled. unlock closes done afterwards.
	box   *box[V]
	stale bool
	err   error
	done  chan struct{}
}

// settle decides the outcome of f. The caller keeps its own hold on b.
func (c *Cache[K, V]) settle(f *flight[K, V], b *box[V], err error) {
	f.settled, f.box, f.err = true, b, err
	if b != nil {
		b.hold(f.waiters)
	}
	c.settled = append(c.settled, f)
}

// await returns the outcome of f, with a hold on its box, or the error of ctx or
// ErrClosed if one of them ends the wait.
func (c *Cache[K, V]) await(ctx context.Context, f *flight[K, V]) (*box[V], error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		if c.abandon(f) {
			return nil, ctx.Err()
		}
	case <-c.closing.Done():
		if c.abandon(f) {
			return nil, ErrClosed
		}
	}
	if f.stale {
		c.config.Observer.CacheLookup(StaleHit)
	}
	return f.box, f.err
}

// abandon ends the caller's wait for f and reports true. If f is settled, it waits for
// unlock to wipe what the load made obsolete, and reports false.
func (c *Cache[K, V]) abandon(f *flight[K, V]) bool {
	c.mu.Lock()
	settled := f.settled
	if !settled {
		f.waiters--
	}
	c.mu.Unlock()
	if settled {
		<-f.done
	}
	return !settled
}

// start runs the load of flights in a goroutine, apart from GetMany for fewer allocations.
func (c *Cache[K, V]) start(ctx context.Context, flights []*flight[K, V], load func(context.Context, []K) []Result[V]) {
	c.work.Go(func() { c.run(context.WithoutCancel(ctx), flights, load) })
}

// run calls load for the keys of flights and completes them in any case.
func (c *Cache[K, V]) run(ctx context.Context, flights []*flight[K, V], load func(context.Context, []K) []Result[V]) {
	ctx, cancel := context.WithTimeout(ctx, c.config.LoadTimeout)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)()

	keys := make([]K, len(flights))
	for i, f := range flights {
		keys[i] = f.key
	}
	var results []Result[V]
	broken := errExited
	defer func() {
		if v := recover(); v != nil {
			broken = panicked(v)
		}
		c.complete(flights, results, broken)
	}()
	results = load(ctx, keys)
	broken = nil
}

// complete gives each flight its outcome. broken is set when there are no results.
func (c *Cache[K, V]) complete(flights []*flight[K, V], results []Result[V], broken error) {
	if broken == nil && len(results) != len(flights) {
		broken = fmt.Errorf("%w: %d results for %d keys", errLoad, len(results), len(flights))
		for _, r := range results {
			if r.Err == nil {
				c.config.Wipe(r.Value)
			}
		}
	}
	if broken != nil {
		results = slices.Repeat([]Result[V]{{Err: broken}}, len(flights))
	}
	verdicts := make([]Verdict, len(flights))
	for i, r := range results {
		if r.Err != nil && broken == nil {
			verdicts[i] = c.config.Classify(r.Err)
		}
	}
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	for i, f := range flights {
		if results[i].Err == nil {
			c.succeed(f, results[i].Value, now)
		} else {
			c.fail(f, results[i].Err, verdicts[i], now)
		}
	}
}

func (c *Cache[K, V]) succeed(f *flight[K, V], v V, now time.Time) {
	e := c.newEntry(f.key, v, now)
	switch {
	case f.settled, c.closed: // by Put; or without waiters
		c.discard(&e.box)
	case c.flights[f.key] != f: // removed: for its waiters only
		c.settle(f, &e.box, nil)
		c.discard(&e.box)
	default:
		delete(c.flights, f.key)
		c.settle(f, &e.box, nil)
		c.insert(e)
	}
}

func (c *Cache[K, V]) fail(f *flight[K, V], err error, verdict Verdict, now time.Time) {
	switch {
	case f.settled, c.closed:
		return
	case c.flights[f.key] != f:
		c.settle(f, nil, err)
		return
	}
	delete(c.flights, f.key)
	e := c.live(f.key, now)
	switch verdict {
	case ServeStale, ServeStaleOnce:
		if verdict == ServeStale {
			c.remember(f.key, err, now)
		}
		if e != nil {
			f.stale = true
			c.settle(f, &e.box, nil)
			return
		}
	case Evict:
		c.remember(f.key, err, now)
		if e != nil {
			c.evict(e, Refused)
		}
	case Fail: // and any other value
	}
	c.settle(f, nil, err)
}

// panicked describes a panic by type and place: its value may quote a secret.
func panicked(v any) error {
	place := "an unknown place"
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for more, throwing := true, false; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			throwing = true
		case throwing && !strings.HasPrefix(frame.Function, "runtime."):
			place, more = fmt.Sprintf("%s:%d", path.Base(frame.File), frame.Line), false
		}
	}
	return fmt.Errorf("%w: it panicked with a %T at %s", errLoad, v, place)
}
