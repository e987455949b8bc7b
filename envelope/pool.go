package envelope

import (
	"context"
	"slices"
	"sync"
	"time"
)

// maxAhead is the most data keys that wait, wrapped ahead of need, for one
// encryption context. They are replaced once half of them are gone, so a context
// under load gets 128 with one request of a KMS that takes many: 8 requests for
// 1,000 payloads. Each costs one KMS call if it ages out unused.
const maxAhead = 256

// aheadFor is how long those that are ready should last: a pool that has to fill up
// sooner keeps more, so that requests get fewer and fuller as demand grows.
const aheadFor = 500 * time.Millisecond

// pool hands out data keys for one encryption context within the limits. One
// wrap call is under way at a time: whoever arrives meanwhile waits in line, and
// the next call wraps for all of them together.
//
// A data key past its age seals on, until the end of its grace, only while the KMS
// gives no new ones: docs/adr/008-sealing-through-an-outage.md.
type pool struct {
	// wrap makes n data keys. It runs on a context of the pool's own, and keeps
	// pending up to date.
	wrap    func(n int, pending *pending) ([]*sealingKey, error)
	pending pending
	// background is called once around each goroutine, so that Close can wait.
	background func(func())

	mu      sync.Mutex
	hand    hand
	ahead   int  // how many to keep ready; grows with demand
	warm    bool // the first keys are there
	waited  bool // somebody had to wait since it was last decided how many to keep ready
	filling bool
	filled  time.Time // when the last wrap call started
	asked   time.Time // when a key was last asked for
	outage  outage
	sweeper *time.Timer
	sweepAt time.Time // when the sweeper fires; zero if it is not set
	stale   bool      // the wrap call under way started before a drain
	line    []*waiter
	out     bool // put out: serves those in line, and keeps nothing
	closed  bool
}

// waiter is a caller who needs a data key for each of its payloads.
type waiter struct {
	sizes []int
	got   grant
	err   error
	done  chan struct{}
	// asked says that a wrap call which started after the waiter came is to serve it.
	asked bool
	// late says that keys aged that it was to have besides those of a wrap call: the
	// next call makes enough for all of it at once.
	late bool
}

// take returns a data key for each plaintext size, in order. The caller gives
// them back with release.
func (p *pool) take(ctx context.Context, sizes []int) (grant, error) {
	p.mu.Lock()
	if p.closed || p.out {
		p.mu.Unlock()
		return grant{}, ErrClosed
	}
	now := time.Now()
	if now.Sub(p.asked) >= p.hand.limits.MaxAge {
		p.ahead, p.warm = 0, false // unused for as long as a key lives, it is as good as new
	}
	p.asked = now
	w := &waiter{sizes: sizes}
	if p.serveNow(w, now) {
		p.fill()
		p.mu.Unlock()
		return w.got, nil
	}
	w.done = make(chan struct{})
	p.line = append(p.line, w)
	p.waited = true
	p.fill()
	p.mu.Unlock()
	return p.wait(ctx, w)
}

// serveNow serves w, who is not in line, if it need not stand there.
func (p *pool) serveNow(w *waiter, now time.Time) bool {
	p.age(now)
	why, dark := p.dark(now)
	return (dark || len(p.line) == 0) && p.give(w, why, dark)
}

// wait returns what w, who is in line, gets.
func (p *pool) wait(ctx context.Context, w *waiter) (grant, error) {
	select {
	case <-w.done: // also if ctx has ended
		return w.got, w.err
	default:
	}
	var overdue *time.Timer
	var isOverdue <-chan time.Time
	patience := patienceOf(ctx)
	if p.hand.limits.SealGrace > 0 {
		overdue = time.NewTimer(patience)
		defer overdue.Stop()
		isOverdue = overdue.C
	}
	for {
		select {
		case <-w.done:
			return w.got, w.err
		case <-isOverdue:
			if longer := p.impatient(w, patience); longer > 0 {
				overdue.Reset(longer)
			}
		case <-ctx.Done():
			if p.leave(w) {
				return grant{}, callerGaveUp(ctx, "seal", p.pending.first())
			}
			return w.got, w.err // served after all, just now
		}
	}
}

// leave takes w out of the line, and reports whether it was still there.
func (p *pool) leave(w *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.line, w)
	if i >= 0 {
		p.line = slices.Delete(p.line, i, i+1)
	}
	return i >= 0
}

// release gives data keys back after they have sealed what they were taken for.
func (p *pool) release(keys []*sealingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		k.drop()
	}
}

// give gives w its keys, past their age too if dark, and reports whether there are
// enough. Called with the mutex held, as all that follow.
func (p *pool) give(w *waiter, why failure, dark bool) bool {
	got, ok := p.hand.take(w.sizes, dark)
	if !ok {
		return false
	}
	w.got = got
	if got.aged > 0 {
		w.got.why = why
	}
	if w.done != nil {
		close(w.done)
	}
	return true
}

// age sorts out the keys past their age, and keeps fewer ahead when they aged
// without being used: as many as were.
func (p *pool) age(now time.Time) { p.ahead = max(p.ahead-p.hand.age(now), 0) }

// serve hands keys to those in line as far as the keys at hand reach: first come,
// first served, but in an outage whoever can be.
func (p *pool) serve() {
	now := time.Now()
	p.age(now)
	if why, dark := p.dark(now); dark {
		p.line = slices.DeleteFunc(p.line, func(w *waiter) bool { return p.give(w, why, true) })
	}
	for len(p.line) > 0 && p.give(p.line[0], failure{}, false) {
		p.line = p.line[1:]
	}
}

// forgetIfOut forgets every key once nobody is in line of a pool that was put out:
// nothing comes by later that would.
func (p *pool) forgetIfOut() {
	if p.out && len(p.line) == 0 {
		p.hand.empty()
	}
}

// fill starts a wrap call for those in line and for the keys to keep ready,
// unless one is under way.
func (p *pool) fill() {
	if p.filling || p.closed {
		return
	}
	now := time.Now()
	n := p.hand.lacks(p.line)
	if p.outage.failing {
		n = p.again(n, now)
	} else {
		n = p.plenty(n, now)
	}
	if n <= 0 {
		return
	}
	p.filling, p.filled = true, now
	for _, w := range p.line {
		w.asked = true
	}
	p.background(func() { p.takeIn(p.wrap(n, &p.pending)) })
}

// again is how many keys to wrap after a wrap that failed, if those in line need so
// many: no more, since a KMS that answers one call in two hardly ever answers all
// of a hundred. If nobody waits, one key tells from time to time whether it is back.
func (p *pool) again(need int, now time.Time) int {
	p.waited = false
	if need == 0 && !now.Before(p.outage.again) {
		return 1
	}
	return need
}

// plenty is how many keys to wrap if those in line need so many.
func (p *pool) plenty(need int, now time.Time) int {
	ready := p.hand.ready()
	if need > 0 {
		ready = 0 // those in line take it all
	}
	if need == 0 && !p.waited && (ready > p.ahead/2 || p.ahead == 0) {
		return 0
	}
	// Demand doubles what is kept ready: somebody who has to wait, unless for the first
	// keys, because a context seen once costs nothing extra; and keys that were used up
	// soon. Who came while keys were on their way had to wait as well: a caller that
	// seals one payload after the other never finds none under way.
	soon := need == 0 && now.Sub(p.filled) < aheadFor
	if (p.waited && p.warm || !p.waited && soon) && !p.out {
		p.ahead = min(max(2*p.ahead, 1), p.hand.most())
	}
	p.waited = false
	// No more than half at once: they are used while more are on their way, and what
	// does not fit into one request of the KMS makes a second one that is nearly empty.
	return need + min(p.ahead-ready, maxAhead/2)
}

// takeIn takes in the outcome of a wrap call. A failure is told to everyone for
// whom it was made and whom the keys in hand do not serve; those who came later get
// a call of their own.
func (p *pool) takeIn(keys []*sealingKey, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.forgetIfOut()
	p.filling = false
	if p.closed || p.stale {
		p.stale = false
		for _, k := range keys {
			k.retire()
		}
		keys = nil
	}
	if p.closed {
		return
	}
	p.outage.learn(err, time.Now())
	if err != nil {
		if after(err) == forget {
			p.hand.empty()
		}
		p.serve()
		p.fail(err, func(w *waiter) bool { return w.asked })
		if len(p.line) == 0 {
			return // nobody needs a key now; the next who does will try again
		}
	}
	p.hand.add(keys)
	p.serve()
	for _, w := range p.line {
		w.late = w.asked
	}
	p.fill()
	p.warm = true
	p.setSweep()
}

// fail ends the wait of those in line whom it concerns.
func (p *pool) fail(err error, concerns func(*waiter) bool) {
	p.line = slices.DeleteFunc(p.line, func(w *waiter) bool {
		if !concerns(w) {
			return false
		}
		w.err = err
		close(w.done)
		return true
	})
}

// drain forgets every key in hand; the next payload is sealed under a new one.
// Keys that are being wrapped are forgotten too: by which version of a KEK
// cannot be told.
func (p *pool) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale = p.filling
	p.hand.empty()
}

// putOut wipes the keys in hand and lets nobody join the line. Those in it are
// still served: were they sent away, they would come back to a pool of their
// own, and with more contexts than pools put one another out for ever.
func (p *pool) putOut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out, p.ahead = true, 0
	p.hand.empty()
	p.stopSweep()
}

// close wipes the keys in hand and refuses everyone in line.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.hand.empty()
	p.stopSweep()
	p.fail(ErrClosed, func(*waiter) bool { return true })
}
