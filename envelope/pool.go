package envelope

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/waxseal/waxseal/envelope/format"
)

// maxAhead is the most data keys that wait, wrapped ahead of need, for one
// encryption context. They are replaced once half of them are gone, so a context
// under load gets 128 with one request of a KMS that takes many: 8 requests for
// 1,000 payloads. Each costs one KMS call if it ages out unused.
const maxAhead = 256

// aheadFor is how long those that are ready should last: a pool that has to fill up
// sooner keeps more, so that requests get fewer and fuller as demand grows.
const aheadFor = 500 * time.Millisecond

// sealingKey is a data key, its recipients, and how much it has sealed. Its
// fields are guarded by the mutex of its pool.
type sealingKey struct {
	key        *dataKey
	recipients []format.Recipient
	keyIDs     []string
	missing    []missingRecipient
	until      time.Time // when it has sealed for long enough

	payloads int
	bytes    int64
	leases   int
	retired  bool
}

// pool hands out data keys for one encryption context within the limits. One
// wrap call is under way at a time: whoever arrives meanwhile waits in line, and
// the next call wraps for all of them together.
type pool struct {
	limits DataKeyLimits
	// wrap makes n data keys. It runs on a context of the pool's own, and keeps
	// pending up to date.
	wrap    func(n int, pending *pending) ([]*sealingKey, error)
	pending pending
	// background is called once around each goroutine, so that Close can wait.
	background func(func())

	mu      sync.Mutex
	current *sealingKey   // partly used; nil if there is none
	ready   []*sealingKey // wrapped ahead, oldest first
	ahead   int           // how many to keep ready; grows with demand
	warm    bool          // the first keys are there
	waited  bool          // somebody had to wait since it was last decided how many to keep ready
	filling bool
	filled  time.Time // when the last wrap call started
	asked   time.Time // when a key was last asked for
	stale   bool      // the wrap call under way started before a drain
	line    []*waiter
	out     bool // put out: serves those in line, and keeps nothing
	closed  bool
}

// waiter is a caller who needs a data key for each of its payloads.
type waiter struct {
	sizes []int
	got   []*sealingKey // one for each size, in order
	err   error
	done  chan struct{}
	// asked says that a wrap call which started after the waiter came is to serve it.
	asked bool
	// late says that what it got aged while it waited for the rest: the next wrap
	// call makes enough for all of it at once.
	late bool
}

// take returns a data key for each plaintext size, in order. The caller gives
// each back with release.
func (p *pool) take(ctx context.Context, sizes []int) ([]*sealingKey, error) {
	w := &waiter{sizes: sizes, done: make(chan struct{})}
	p.mu.Lock()
	if p.closed || p.out {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	now := time.Now()
	if now.Sub(p.asked) >= p.limits.MaxAge {
		p.ahead, p.warm = 0, false // unused for as long as a key lives, it is as good as new
	}
	p.asked = now
	p.line = append(p.line, w)
	p.serve()
	p.waited = p.waited || len(p.line) > 0
	p.fill()
	p.mu.Unlock()

	select {
	case <-w.done:
		return w.got, w.err
	default:
	}
	select {
	case <-w.done:
		return w.got, w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.done: // served after all, just now
		return w.got, w.err
	default:
	}
	p.line = slices.DeleteFunc(p.line, func(other *waiter) bool { return other == w })
	for _, k := range w.got {
		p.drop(k)
	}
	return nil, callerGaveUp(ctx, "seal", p.pending.first())
}

// release gives a data key back after it has sealed what it was taken for.
func (p *pool) release(keys []*sealingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		p.drop(k)
	}
}

func (p *pool) drop(k *sealingKey) {
	k.leases--
	wipeIfDone(k)
}

func (p *pool) retire(k *sealingKey) {
	k.retired = true
	wipeIfDone(k)
}

func wipeIfDone(k *sealingKey) {
	if k.retired && k.leases == 0 {
		k.key.wipe()
	}
}

// serve hands keys to those in line, first come first served, as far as the
// keys at hand reach. Called with the mutex held.
func (p *pool) serve() {
	now := time.Now()
	p.discardAged(now)
	for len(p.line) > 0 {
		w := p.line[0]
		if slices.ContainsFunc(w.got, func(k *sealingKey) bool { return k.aged(now) }) {
			for _, k := range w.got {
				p.drop(k)
			}
			w.got, w.late = nil, true
		}
		for len(w.got) < len(w.sizes) {
			k := p.keyFor(int64(w.sizes[len(w.got)]))
			if k == nil {
				return
			}
			w.got = append(w.got, k)
		}
		p.line = p.line[1:]
		close(w.done)
	}
	if p.out {
		p.empty()
	}
}

// keyFor returns a key with room for one more payload of size bytes, or nil.
func (p *pool) keyFor(size int64) *sealingKey {
	for {
		k := p.current
		if k == nil {
			if len(p.ready) == 0 {
				return nil
			}
			k, p.ready = p.ready[0], p.ready[1:]
			p.current = k
		}
		fits := k.payloads == 0 || k.bytes+size <= p.limits.MaxBytes
		if fits {
			k.payloads++
			k.bytes += size
			k.leases++
		}
		if !fits || k.payloads >= p.limits.MaxPayloads || k.bytes >= p.limits.MaxBytes {
			p.current = nil
			p.retire(k)
		}
		if fits {
			return k
		}
	}
}

// aged reports whether k has sealed for long enough.
func (k *sealingKey) aged(now time.Time) bool { return !now.Before(k.until) }

// discardAged retires keys past their age, and keeps fewer ahead when they
// aged without being used: as many as were.
func (p *pool) discardAged(now time.Time) {
	if p.current != nil && p.current.aged(now) {
		p.retire(p.current)
		p.current = nil
	}
	before := len(p.ready)
	p.ready = slices.DeleteFunc(p.ready, func(k *sealingKey) bool {
		if k.aged(now) {
			p.retire(k)
			return true
		}
		return false
	})
	p.ahead = max(p.ahead-(before-len(p.ready)), 0)
}

// fill starts a wrap call for those in line and for the keys to keep ready,
// unless one is under way. Called with the mutex held.
func (p *pool) fill() {
	if p.filling || p.closed {
		return
	}
	need, now := p.wanted(), time.Now()
	if need == 0 && !p.waited && (len(p.ready) > p.ahead/2 || p.ahead == 0) {
		return
	}
	// Demand doubles what is kept ready: somebody who has to wait, unless for the first
	// keys, because a context seen once costs nothing extra; and keys that were used up
	// soon. Who came while keys were on their way had to wait as well: a caller that
	// seals one payload after the other never finds none under way.
	soon := need == 0 && now.Sub(p.filled) < aheadFor
	if (p.waited && p.warm || !p.waited && soon) && !p.out {
		p.ahead = min(max(2*p.ahead, 1), p.most())
	}
	p.waited = false
	// No more than half at once: they are used while more are on their way, and what
	// does not fit into one request of the KMS makes a second one that is nearly empty.
	if need += min(p.ahead-len(p.ready), maxAhead/2); need <= 0 {
		return
	}
	p.filling, p.filled = true, now
	for _, w := range p.line {
		w.asked = true
	}
	p.background(func() { p.takeIn(p.wrap(need, &p.pending)) })
}

// wanted is how many new keys serve all in line.
func (p *pool) wanted() (n int) {
	k := sealingKey{payloads: p.limits.MaxPayloads} // a full one
	for _, w := range p.line {
		missing := w.sizes[len(w.got):]
		if w.late {
			missing = w.sizes
		}
		for _, size := range missing {
			if k.payloads >= p.limits.MaxPayloads || k.bytes >= p.limits.MaxBytes || k.bytes+int64(size) > p.limits.MaxBytes {
				k, n = sealingKey{}, n+1
			}
			k.payloads++
			k.bytes += int64(size)
		}
	}
	return n
}

// most is how many keys are worth keeping ready: with shared data keys one
// successor is enough.
func (p *pool) most() int {
	if p.limits.MaxPayloads > 1 {
		return 1
	}
	return maxAhead
}

// takeIn takes in the outcome of a wrap call. A failure is told to everyone for
// whom it was made; those who came later get a call of their own.
func (p *pool) takeIn(keys []*sealingKey, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stale := p.stale
	p.filling, p.stale = false, false
	if p.closed || stale {
		for _, k := range keys {
			p.retire(k)
		}
		keys = nil
	}
	if p.closed {
		return
	}
	if err != nil {
		p.fail(err, func(w *waiter) bool { return w.asked })
		if len(p.line) == 0 {
			return // nobody needs a key now; the next who does will try again
		}
	}
	p.ready = append(p.ready, keys...)
	p.serve()
	p.fill()
	p.warm = true
}

// fail ends the wait of those in line whom it concerns.
func (p *pool) fail(err error, concerns func(*waiter) bool) {
	p.line = slices.DeleteFunc(p.line, func(w *waiter) bool {
		if !concerns(w) {
			return false
		}
		for _, k := range w.got {
			p.drop(k)
		}
		w.got, w.err = nil, err
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
	p.empty()
}

// putOut wipes the keys in hand and lets nobody join the line. Those in it are
// still served: were they sent away, they would come back to a pool of their
// own, and with more contexts than pools put one another out for ever.
func (p *pool) putOut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out, p.ahead = true, 0
	p.empty()
}

func (p *pool) empty() {
	if p.current != nil {
		p.retire(p.current)
		p.current = nil
	}
	for _, k := range p.ready {
		p.retire(k)
	}
	p.ready = nil
}

// close wipes the keys in hand and refuses everyone in line.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.empty()
	p.fail(ErrClosed, func(*waiter) bool { return true })
}
