package cache

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"
	"time"
)

// ErrLoad is what callers get when a load function broke its contract: it
// panicked, ended its goroutine, or returned the wrong number of results. It
// is a bug in the load function; the error's text says which and where.
var ErrLoad = errors.New("cache: load broke its contract")

var errExited = fmt.Errorf("%w: it ended its goroutine", ErrLoad)

// flight is the load of one key, from the first caller that wants it until the
// outcome is known. A flight in Cache.flights can be joined; one that Remove took
// out of it cannot, and its value is not stored.
type flight[K comparable, V any] struct {
	key K
	// waiters is the number of callers that will take the outcome. When it
	// is known, a hold is taken for each, so that nothing that happens
	// before they wake up can wipe the value under them.
	waiters int
	settled bool
	// The outcome; not written again once settled. done is closed a moment later.
	box   *box[V]
	stale bool
	err   error
	done  chan struct{}
}

// settle decides the outcome of f, for now and for good. The caller keeps its
// own hold on b.
func (c *Cache[K, V]) settle(f *flight[K, V], b *box[V], err error) {
	f.settled, f.box, f.err = true, b, err
	if b != nil {
		b.hold(f.waiters)
	}
	c.settled = append(c.settled, f)
}

// await returns the outcome of f, with a hold on its box. If ctx ends or the
// cache is closed before that is known, it returns ctx's error or ErrClosed.
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
		repeat(c.config.Hooks.StaleHit, 1)
	}
	return f.box, f.err
}

// abandon takes back the caller's claim on the outcome of f and reports true. If
// the outcome is known it is the caller's already: then abandon waits the moment it
// takes until what the load made obsolete is wiped, and reports false.
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

// start runs the load of flights in a goroutine. It is a function of its own so
// that what the goroutine captures is allocated only when there is one.
func (c *Cache[K, V]) start(ctx context.Context, flights []*flight[K, V], load func(context.Context, []K) []Result[V]) {
	c.work.Go(func() { c.fly(context.WithoutCancel(ctx), flights, load) })
}

// fly calls load for the keys of flights and lands them all, come what may.
func (c *Cache[K, V]) fly(ctx context.Context, flights []*flight[K, V], load func(context.Context, []K) []Result[V]) {
	ctx, cancel := context.WithTimeout(ctx, c.config.LoadTimeout)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)()

	keys := make([]K, len(flights))
	for i, f := range flights {
		keys[i] = f.key
	}
	start := time.Now()
	var results []Result[V]
	broken := errExited
	defer func() {
		if v := recover(); v != nil {
			broken = panicked(v)
		}
		c.land(flights, results, broken, time.Since(start))
	}()
	results = load(ctx, keys)
	broken = nil
}

// land gives each flight its outcome. broken is set when there are no results.
func (c *Cache[K, V]) land(flights []*flight[K, V], results []Result[V], broken error, took time.Duration) {
	if broken == nil && len(results) != len(flights) {
		broken = fmt.Errorf("%w: %d results for %d keys", ErrLoad, len(results), len(flights))
		for _, r := range results {
			if r.Err == nil {
				c.config.Wipe(r.Value)
			}
		}
	}
	verdicts := make([]Verdict, len(flights))
	first := broken
	if broken != nil {
		results = make([]Result[V], len(flights))
		for i := range results {
			results[i].Err = broken
		}
	} else {
		for i, r := range results {
			if r.Err != nil {
				verdicts[i] = c.config.Classify(r.Err)
				if first == nil {
					first = r.Err
				}
			}
		}
	}
	if c.config.Hooks.Load != nil {
		c.config.Hooks.Load(len(flights), took, first)
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
	case f.settled, c.closed: // by Put; or nobody waits any more
		c.discard(&e.box)
	case c.flights[f.key] != f: // Remove: for those who wait and no others
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
	case Fail: // and whatever is no Verdict
	}
	c.settle(f, nil, err)
}

// panicked describes a panic by the type of what was thrown and the place it
// was thrown from. What was thrown may quote a secret and is left out.
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
	return fmt.Errorf("%w: it panicked with a %T at %s", ErrLoad, v, place)
}
