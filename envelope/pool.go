package envelope

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// maxReady is the most unused data keys that a pool keeps. It refills when half of them
	// are gone: 8 requests for 1,000 payloads with a KMS that wraps many at once.
	maxReady = 256

	// refillInterval is how long the ready keys should last: a pool that refills sooner raises its target.
	refillInterval = 500 * time.Millisecond
)

// pool hands out data keys for one encryption context within the limits. It makes one wrap call at a time. Callers that
// arrive meanwhile queue, and the next call wraps for all of them together.
//
// A data key past its age seals on, until the end of its grace, only while the KMS
// gives no new ones: docs/adr/008-sealing-through-an-outage.md.
type pool struct {
	// wrap makes n data keys. It runs on a context of the pool, and keeps pending up to date.
	wrap    func(n int, pending *pending) ([]*sealingKey, error)
	pending pending
	// background runs a function in a goroutine that Close waits for.
	background func(func())

	mu          sync.Mutex
	stock       stock
	target      int  // how many keys to keep ready; grows with demand
	warm        bool // the first keys have arrived
	waited      bool // a caller had to wait since the target was last set
	wrapping    bool // a wrap call is under way
	wrapStarted time.Time
	discard     bool      // the wrap call under way started before a drain: discard its keys
	lastTake    time.Time // of take
	outage      outage
	queue       []*waiter
	evicted     bool // serves the queue, and then keeps nothing
	closed      bool

	sweeper *time.Timer
	sweepAt time.Time // when the sweeper fires; zero if it is not set
}

// waiter is a caller that needs a data key for each of its payloads.
type waiter struct {
	sizes []int
	got   grant
	err   error
	done  chan struct{}
	// covered says that a wrap call includes the waiter's keys.
	covered bool
	// unserved says that such a call did not suffice, since older keys aged meanwhile.
	// The next call makes keys for the whole queue.
	unserved bool
}

// take returns a data key for each plaintext size, in order. The caller gives them back with release.
func (p *pool) take(ctx context.Context, sizes []int) (grant, error) {
	p.mu.Lock()
	if p.closed || p.evicted {
		p.mu.Unlock()
		return grant{}, ErrClosed
	}
	now := time.Now()
	if now.Sub(p.lastTake) >= p.stock.limits.MaxAge {
		p.target, p.warm = 0, false // idle for the life of a key: as good as new
	}
	p.lastTake = now
	w := &waiter{sizes: sizes}
	if p.serveAtOnce(w, now) {
		p.refill()
		p.mu.Unlock()
		return w.got, nil
	}
	w.done = make(chan struct{})
	p.queue = append(p.queue, w)
	p.waited = true
	p.refill()
	p.mu.Unlock()
	return p.wait(ctx, w)
}

// serveAtOnce serves w without queueing, if it can: past the queue only in an outage.
func (p *pool) serveAtOnce(w *waiter, now time.Time) bool {
	p.expire(now)
	cause, grace := p.duringOutage(now)
	return (grace || len(p.queue) == 0) && p.serve(w, cause, grace)
}

// wait waits for the grant of w, which is in the queue.
func (p *pool) wait(ctx context.Context, w *waiter) (grant, error) {
	select {
	case <-w.done: // also if ctx has ended
		return w.got, w.err
	default:
	}
	var overdue *time.Timer
	var isOverdue <-chan time.Time
	delay := graceDelay(ctx)
	if p.stock.limits.SealGrace > 0 {
		overdue = time.NewTimer(delay)
		defer overdue.Stop()
		isOverdue = overdue.C
	}
	for {
		select {
		case <-w.done:
			return w.got, w.err
		case <-isOverdue:
			if more := p.serveOverdue(w, delay); more > 0 {
				overdue.Reset(more)
			}
		case <-ctx.Done():
			if p.giveUpWaiting(w) {
				return grant{}, callerGaveUp(ctx, "seal", p.pending.first())
			}
			return w.got, w.err // served just now
		}
	}
}

// giveUpWaiting takes w out of the queue, and reports whether it was still there.
func (p *pool) giveUpWaiting(w *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.queue, w)
	if i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	return i >= 0
}

// release gives data keys back after they have sealed what they were taken for.
func (p *pool) release(keys []*sealingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		k.release()
	}
}

// serve gives w its keys, with grace aged ones too, and reports whether there are
// enough. The caller holds the mutex, here and in all methods below that do not take it.
func (p *pool) serve(w *waiter, cause failure, grace bool) bool {
	got, ok := p.stock.take(w.sizes, grace)
	if !ok {
		return false
	}
	w.got = got
	if got.aged > 0 {
		w.got.cause = cause
	}
	if w.done != nil {
		close(w.done)
	}
	return true
}

// expire sorts out keys past their age, and lowers the target by as many as aged unused.
func (p *pool) expire(now time.Time) { p.target = max(p.target-p.stock.expire(now), 0) }

// serveQueue serves the queue as far as the stock reaches: first come, first served,
// but in an outage each waiter that it can.
func (p *pool) serveQueue() {
	now := time.Now()
	p.expire(now)
	if cause, grace := p.duringOutage(now); grace {
		p.queue = slices.DeleteFunc(p.queue, func(w *waiter) bool { return p.serve(w, cause, true) })
	}
	for len(p.queue) > 0 && p.serve(p.queue[0], failure{}, false) {
		p.queue = p.queue[1:]
	}
}

// refill starts a wrap call for the queue and the keys to keep ready, unless one is under way.
func (p *pool) refill() {
	if p.wrapping || p.closed {
		return
	}
	now := time.Now()
	n := p.stock.shortfall(p.queue)
	if p.outage.failing {
		n = p.refillAfterFailure(n, now)
	} else {
		n = p.refillSize(n, now)
	}
	if n <= 0 {
		return
	}
	p.wrapping, p.wrapStarted = true, now
	for _, w := range p.queue {
		w.covered = true
	}
	p.background(func() { p.settle(p.wrap(n, &p.pending)) })
}

// refillAfterFailure is how many keys to wrap after a failed wrap: what the queue needs and no more, since a flaky KMS
// hardly ever answers all of a hundred. If nothing queues, one key from time to time probes the KMS.
func (p *pool) refillAfterFailure(shortfall int, now time.Time) int {
	p.waited = false
	if shortfall == 0 && !now.Before(p.outage.probeAt) {
		return 1
	}
	return shortfall
}

// refillSize is how many keys to wrap: the shortfall of the queue, and those to keep ready, if half of these are gone.
func (p *pool) refillSize(shortfall int, now time.Time) int {
	ready := p.stock.ready()
	if shortfall > 0 {
		ready = 0 // the queue takes them all
	}
	if shortfall == 0 && !p.waited && (ready > p.target/2 || p.target == 0) {
		return 0
	}
	p.raiseTarget(shortfall == 0 && now.Sub(p.wrapStarted) < refillInterval)
	// No more than half at once: callers use them while more arrive, and what does not
	// fit into one request of the KMS makes a second one that is nearly empty.
	return shortfall + min(p.target-ready, maxReady/2)
}

// raiseTarget doubles the target when a caller had to wait (but not for a pool's first
// keys: a context seen once should cost nothing), or when the keys ran out soon.
func (p *pool) raiseTarget(soon bool) {
	if (p.waited && p.warm || !p.waited && soon) && !p.evicted {
		p.target = min(max(2*p.target, 1), p.stock.readyLimit())
	}
	p.waited = false
}

// settle takes the outcome of a wrap call. A failure goes to every waiter that the call
// covered and the stock does not serve; later waiters get a call of their own.
func (p *pool) settle(keys []*sealingKey, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.wipeIfEvicted()
	p.wrapping = false
	if p.closed || p.discard {
		p.discard = false
		for _, k := range keys {
			k.retire()
		}
		keys = nil
	}
	if p.closed {
		return
	}
	p.outage.record(err, time.Now())
	if err != nil {
		if effectOf(err) == dropKeys {
			p.stock.retireAll()
		}
		p.serveQueue()
		p.fail(err, func(w *waiter) bool { return w.covered })
		if len(p.queue) == 0 {
			return // the next caller tries again
		}
	}
	p.stock.add(keys)
	p.serveQueue()
	for _, w := range p.queue {
		w.unserved = w.covered
	}
	p.refill()
	p.warm = true
	p.setSweep()
}

// fail ends the wait of the waiters that concerns selects.
func (p *pool) fail(err error, concerns func(*waiter) bool) {
	p.queue = slices.DeleteFunc(p.queue, func(w *waiter) bool {
		if !concerns(w) {
			return false
		}
		w.err = err
		close(w.done)
		return true
	})
}

// drain retires every key; the next payload is sealed under a new one. It discards
// the keys of a wrap call under way too, since their KEK version is not known.
func (p *pool) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.discard = p.wrapping
	p.stock.retireAll()
}

// evict retires the keys and closes the queue to new callers. It still serves the queue:
// with more contexts than pools, pools would evict one another for ever otherwise.
func (p *pool) evict() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.evicted, p.target = true, 0
	p.stock.retireAll()
	p.stopSweep()
}

// wipeIfEvicted retires what an evicted pool holds once its queue is empty.
func (p *pool) wipeIfEvicted() {
	if p.evicted && len(p.queue) == 0 {
		p.stock.retireAll()
	}
}

// close retires the keys and fails the queue.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.stock.retireAll()
	p.stopSweep()
	p.fail(ErrClosed, func(*waiter) bool { return true })
}
