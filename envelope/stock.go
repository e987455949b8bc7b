package envelope

import (
	"slices"
	"time"

	"github.com/waxseal/waxseal/envelope/format"
)

// sealingKey is a data key, its recipients, and how much it has sealed. Its
// fields are guarded by the mutex of its pool.
type sealingKey struct {
	key        *dataKey
	recipients []format.Recipient
	keyIDs     []string
	missing    []failure
	until      time.Time // when it has sealed for long enough
	graceUntil time.Time // when it has in an outage too; until, if it has no grace

	used    use
	leases  int
	retired bool
}

// use is how much a data key has sealed.
type use struct {
	payloads int
	bytes    int64
}

// add adds a payload of size bytes if it fits, and reports whether it did, and
// whether the data key is done: it is full, or was given up for lack of room.
func (u *use) add(size int64, limits *DataKeyLimits) (fits, done bool) {
	fits = u.payloads == 0 || u.bytes+size <= limits.MaxBytes
	if fits {
		u.payloads++
		u.bytes += size
	}
	return fits, !fits || u.payloads >= limits.MaxPayloads || u.bytes >= limits.MaxBytes
}

// drop gives back one lease.
func (k *sealingKey) drop() {
	k.leases--
	k.wipeIfDone()
}

// retire takes k out of use: it is wiped once nobody seals with it any more.
func (k *sealingKey) retire() {
	k.retired = true
	k.wipeIfDone()
}

func (k *sealingKey) wipeIfDone() {
	if k.retired && k.leases == 0 {
		k.key.wipe()
	}
}

// hand is the data keys that a pool has in hand. Its methods are called with the
// pool's mutex held.
type hand struct {
	limits DataKeyLimits
	fresh  []*sealingKey // within their age, oldest first; only the first may have sealed something
	aged   []*sealingKey // past it and within their grace, oldest first
	due    time.Time     // no key ages, or ends its grace, before
}

// grant is what a call is given: a data key for each of its payloads, in order, and
// how many of these are past their age.
type grant struct {
	keys []*sealingKey
	aged int
	why  failure // why there are none within their age
}

// most is how many keys are worth keeping ready: with shared data keys one
// successor is enough.
func (h *hand) most() int {
	if h.limits.MaxPayloads > 1 {
		return 1
	}
	return maxAhead
}

// ready is how many keys within their age have sealed nothing yet.
func (h *hand) ready() int {
	n := len(h.fresh)
	if n > 0 && h.fresh[0].used.payloads > 0 {
		n--
	}
	return n
}

// add takes in new keys.
func (h *hand) add(keys []*sealingKey) {
	for _, k := range keys {
		h.setDue(k.until)
	}
	h.fresh = append(h.fresh, keys...)
}

// age sorts out the keys whose time has come, and returns how many aged without
// having been used. Those that have a grace are kept for an outage, as many as
// would be kept ready.
func (h *hand) age(now time.Time) (unused int) {
	if h.due.IsZero() || now.Before(h.due) {
		return 0
	}
	h.aged = slices.DeleteFunc(h.aged, func(k *sealingKey) bool {
		over := !now.Before(k.graceUntil)
		if over {
			k.retire()
		}
		return over
	})
	h.fresh = slices.DeleteFunc(h.fresh, func(k *sealingKey) bool {
		if now.Before(k.until) {
			return false
		}
		if k.used.payloads == 0 {
			unused++
		}
		if now.Before(k.graceUntil) {
			h.aged = append(h.aged, k)
		} else {
			k.retire()
		}
		return true
	})
	// One more than are kept ready: the one in use.
	for len(h.aged) > h.most()+1 {
		h.aged[0].retire()
		h.aged = h.aged[1:]
	}
	h.due = time.Time{}
	for _, k := range h.fresh {
		h.setDue(k.until)
	}
	for _, k := range h.aged {
		h.setDue(k.graceUntil)
	}
	return unused
}

func (h *hand) setDue(t time.Time) {
	if h.due.IsZero() || t.Before(h.due) {
		h.due = t
	}
}

// take returns a key for each size, in order, if the keys in hand reach that far;
// with grace those past their age count too, after the others. If they do not
// reach, nothing has happened to them.
func (h *hand) take(sizes []int, grace bool) (grant, bool) {
	fresh, all := len(h.fresh), len(h.fresh)
	if grace {
		all += len(h.aged)
	}
	if all == 0 {
		return grant{}, false
	}
	g := grant{keys: make([]*sealingKey, len(sizes))}
	w := h.walk(0, true)
	for i, size := range sizes {
		at := w.next(size)
		switch {
		case at >= all:
			return grant{}, false
		case at >= fresh:
			g.keys[i] = h.aged[at-fresh]
			g.aged++
		default:
			g.keys[i] = h.fresh[at]
		}
	}
	for i, k := range g.keys {
		k.used.payloads++
		k.used.bytes += int64(sizes[i])
		k.leases++
	}
	h.fresh = retireFirst(h.fresh, min(w.at, fresh))
	h.aged = retireFirst(h.aged, max(w.at-fresh, 0))
	return g, true
}

func retireFirst(keys []*sealingKey, n int) []*sealingKey {
	for _, k := range keys[:n] {
		k.retire()
	}
	clear(keys[:n]) // the array is not gone for a while
	return keys[n:]
}

// empty forgets every key.
func (h *hand) empty() {
	retireFirst(h.fresh, len(h.fresh))
	retireFirst(h.aged, len(h.aged))
	h.fresh, h.aged, h.due = nil, nil, time.Time{}
}

// lacks is how many new keys it takes, besides those within their age, to serve all
// in line.
func (h *hand) lacks(line []*waiter) int {
	from := 0
	if slices.ContainsFunc(line, func(w *waiter) bool { return w.late }) {
		from = len(h.fresh)
	}
	w, last := h.walk(from, false), -1
	for _, waiter := range line {
		for _, size := range waiter.sizes {
			last = w.next(size)
		}
	}
	return max(last+1-len(h.fresh), 0)
}

// walk goes through the keys as payloads use them up, without changing any: those
// within their age, those past it if they count, and then new ones without end.
type walk struct {
	hand  *hand
	grace bool
	at    int // the key in use
	used  use // and what it has sealed by then
}

func (h *hand) walk(from int, grace bool) walk {
	w := walk{hand: h, grace: grace}
	w.goTo(from)
	return w
}

func (w *walk) goTo(at int) {
	w.at, w.used = at, use{}
	switch fresh := len(w.hand.fresh); {
	case at < fresh:
		w.used = w.hand.fresh[at].used
	case w.grace && at-fresh < len(w.hand.aged):
		w.used = w.hand.aged[at-fresh].used
	}
}

// next returns the place of the key that seals another payload.
func (w *walk) next(size int) int {
	for {
		at := w.at
		fits, done := w.used.add(int64(size), &w.hand.limits)
		if done {
			w.goTo(at + 1)
		}
		if fits {
			return at
		}
	}
}
