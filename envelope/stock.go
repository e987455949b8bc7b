package envelope

import (
	"slices"
	"time"

	"github.com/waxseal/waxseal/envelope/format"
)

// sealingKey is a data key, its recipients, and its use. The pool's mutex guards the fields.
type sealingKey struct {
	key        *dataKey
	recipients []format.Recipient
	keyIDs     []string
	missing    []failure
	until      time.Time // end of its age
	graceUntil time.Time // end of its grace; equals until if it has none

	used    use
	leases  int
	retired bool
}

// use is how much a data key has sealed.
type use struct {
	payloads int
	bytes    int64
}

// add adds a payload of size bytes if it fits. done reports that the data key seals no more.
func (u *use) add(size int64, limits *DataKeyLimits) (fits, done bool) {
	fits = u.payloads == 0 || u.bytes+size <= limits.MaxBytes
	if fits {
		u.payloads++
		u.bytes += size
	}
	return fits, !fits || u.payloads >= limits.MaxPayloads || u.bytes >= limits.MaxBytes
}

// release gives back one lease.
func (k *sealingKey) release() {
	k.leases--
	k.wipeIfDone()
}

// retire takes k out of use. The last lease to end wipes it.
func (k *sealingKey) retire() {
	k.retired = true
	k.wipeIfDone()
}

func (k *sealingKey) wipeIfDone() {
	if k.retired && k.leases == 0 {
		k.key.wipe()
	}
}

// stock is the data keys that a pool holds. The pool's mutex guards it.
type stock struct {
	limits     DataKeyLimits
	fresh      []*sealingKey // within their age, oldest first; only the first may have sealed something
	aged       []*sealingKey // past their age and within their grace, oldest first
	nextExpiry time.Time     // no age and no grace ends earlier; zero if the stock is empty
}

// grant is a data key for each payload of a call, in order; aged of these are past their age.
type grant struct {
	keys  []*sealingKey
	aged  int
	cause failure // why the KMS gave no new ones, if aged is not zero
}

// readyLimit is how many unused keys are worth keeping; a shared one needs one successor.
func (s *stock) readyLimit() int {
	if s.limits.MaxPayloads > 1 {
		return 1
	}
	return maxReady
}

// ready is how many keys within their age have sealed nothing yet.
func (s *stock) ready() int {
	n := len(s.fresh)
	if n > 0 && s.fresh[0].used.payloads > 0 {
		n--
	}
	return n
}

func (s *stock) add(keys []*sealingKey) {
	for _, k := range keys {
		s.expireBy(k.until)
	}
	s.fresh = append(s.fresh, keys...)
}

// expire moves keys past their age to aged, as many as are worth keeping for an
// outage, and retires those past their grace. It returns how many aged unused.
func (s *stock) expire(now time.Time) (unused int) {
	if s.nextExpiry.IsZero() || now.Before(s.nextExpiry) {
		return 0
	}
	s.aged = slices.DeleteFunc(s.aged, func(k *sealingKey) bool {
		over := !now.Before(k.graceUntil)
		if over {
			k.retire()
		}
		return over
	})
	s.fresh = slices.DeleteFunc(s.fresh, func(k *sealingKey) bool {
		if now.Before(k.until) {
			return false
		}
		if k.used.payloads == 0 {
			unused++
		}
		if now.Before(k.graceUntil) {
			s.aged = append(s.aged, k)
		} else {
			k.retire()
		}
		return true
	})
	surplus := len(s.aged) - (s.readyLimit() + 1) // one more than ready: the one in use
	s.aged = retireFirst(s.aged, max(surplus, 0))
	s.nextExpiry = time.Time{}
	for _, k := range s.fresh {
		s.expireBy(k.until)
	}
	for _, k := range s.aged {
		s.expireBy(k.graceUntil)
	}
	return unused
}

func (s *stock) expireBy(t time.Time) {
	if s.nextExpiry.IsZero() || t.Before(s.nextExpiry) {
		s.nextExpiry = t
	}
}

// take returns a key for each size, in order, if there are enough; with grace, the
// aged keys count after the fresh ones. If there are not enough, take changes nothing.
func (s *stock) take(sizes []int, grace bool) (grant, bool) {
	fresh, all := len(s.fresh), len(s.fresh)
	if grace {
		all += len(s.aged)
	}
	if all == 0 {
		return grant{}, false
	}
	g := grant{keys: make([]*sealingKey, len(sizes))}
	w := s.walk(0, true)
	for i, size := range sizes {
		at := w.next(size)
		switch {
		case at >= all:
			return grant{}, false
		case at >= fresh:
			g.keys[i] = s.aged[at-fresh]
			g.aged++
		default:
			g.keys[i] = s.fresh[at]
		}
	}
	for i, k := range g.keys {
		k.used.payloads++
		k.used.bytes += int64(sizes[i])
		k.leases++
	}
	s.fresh = retireFirst(s.fresh, min(w.at, fresh))
	s.aged = retireFirst(s.aged, max(w.at-fresh, 0))
	return g, true
}

func retireFirst(keys []*sealingKey, n int) []*sealingKey {
	for _, k := range keys[:n] {
		k.retire()
	}
	clear(keys[:n]) // the array outlives them
	return keys[n:]
}

// retireAll retires every key.
func (s *stock) retireAll() {
	retireFirst(s.fresh, len(s.fresh))
	retireFirst(s.aged, len(s.aged))
	s.fresh, s.aged, s.nextExpiry = nil, nil, time.Time{}
}

// shortfall is how many new keys the queue needs besides those within their age.
func (s *stock) shortfall(queue []*waiter) int {
	from := 0
	if slices.ContainsFunc(queue, func(w *waiter) bool { return w.unserved }) {
		from = len(s.fresh)
	}
	w, last := s.walk(from, false), -1
	for _, waiting := range queue {
		for _, size := range waiting.sizes {
			last = w.next(size)
		}
	}
	return max(last+1-len(s.fresh), 0)
}

// walk goes through the keys as payloads use them up, without changing any: the
// fresh ones, the aged ones if they count, and then new ones without end.
type walk struct {
	stock *stock
	grace bool
	at    int // the key in use
	used  use // what that key has sealed by then
}

func (s *stock) walk(from int, grace bool) walk {
	w := walk{stock: s, grace: grace}
	w.goTo(from)
	return w
}

func (w *walk) goTo(at int) {
	w.at, w.used = at, use{}
	switch fresh := len(w.stock.fresh); {
	case at < fresh:
		w.used = w.stock.fresh[at].used
	case w.grace && at-fresh < len(w.stock.aged):
		w.used = w.stock.aged[at-fresh].used
	}
}

// next returns the index of the key that seals another payload.
func (w *walk) next(size int) int {
	for {
		at := w.at
		fits, done := w.used.add(int64(size), &w.stock.limits)
		if done {
			w.goTo(at + 1)
		}
		if fits {
			return at
		}
	}
}
