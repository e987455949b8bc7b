package codec

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/policy"
)

// recheck is how often a held task is looked at whose KEKs are being left alone, and
// how often one of them is let go to see whether a KEK is back.
const recheck = 500 * time.Millisecond

// standing is what is known of a KEK.
type standing uint8

const (
	// answering: as far as anybody knows.
	answering standing = iota
	// due: it was left alone for long enough, and the next who asks will know.
	due
	// out: it is left alone, or somebody is asking just now.
	out
)

// kek is a KEK that a held task waits for. It is comparable.
type kek interface{ standing() standing }

// standing is out and due by the breaker.
func (g *guardedKey) standing() standing {
	switch a, ok := kms.As[kms.Availability](g.Key); {
	case ok && !a.Available():
		return out
	case g.breaker.now() != resilience.Closed:
		return due
	}
	return answering
}

// keks are those that a held task waits for.
type keks []kek

// standing is that of the best of them; answering if there are none.
func (k keks) standing() standing {
	best := out
	for _, kek := range k {
		best = min(best, kek.standing())
	}
	if len(k) == 0 {
		return answering
	}
	return best
}

// keep reports whether a task that is due is kept for longer: its KEKs are being
// left alone, and it has the time. When one of them is due, a single task is let go,
// which asks it: were it all, each would have one try more behind it, for nothing as
// long as the outage lasts. And it is one of those with the fewest: from the fourth on
// the server waits longer with each for the worker that has the task, and longest for
// one that was killed.
func (ts *tasks) keep(t *task) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	timer, ok := ts.due[t]
	if !ok || time.Until(t.until) < recheck+tellMargin {
		return false
	}
	switch t.keks.standing() {
	case answering:
		return false
	case due:
		if ts.isScout(t) {
			return false
		}
	case out:
	}
	t.kept = true
	t.due = time.Now().Add(recheck)
	timer.Reset(recheck)
	return true
}

// isScout reports whether t is to ask a KEK that is due, and notes that somebody
// does. The caller holds mu.
func (ts *tasks) isScout(t *task) bool {
	now := time.Now()
	maps.DeleteFunc(ts.scouted, func(_ kek, at time.Time) bool { return now.Sub(at) >= recheck })
	var ask keks
	for _, k := range t.keks {
		if _, asked := ts.scouted[k]; !asked && k.standing() == due {
			ask = append(ask, k)
		}
	}
	if len(ask) == 0 {
		return false
	}
	for o := range ts.due {
		if o.kept && o.attempt < t.attempt && slices.ContainsFunc(o.keks, func(k kek) bool { return slices.Contains(ask, k) }) {
			return false
		}
	}
	for _, k := range ask {
		ts.scouted[k] = now
	}
	return true
}

// keksOf returns the KEKs of the rule of these facts, if err, for which something is
// held, is about one of them; none if it is about another, or if one of them is not
// open.
func (c *Codec) keksOf(facts policy.Facts, err error) keks {
	var about *kms.Error
	rule, noRule := c.policy.SealRule(facts)
	if noRule != nil || !errors.As(err, &about) {
		return nil
	}
	var all keks
	among := false
	for _, name := range rule.Keys {
		key, ok := c.keys.ifOpen(name, facts.Namespace)
		if !ok {
			return nil
		}
		guarded, ok := kms.As[*guardedKey](key)
		if !ok {
			return nil
		}
		all = append(all, guarded)
		among = among || key.ID() == about.KeyID
	}
	if !among {
		return nil
	}
	return all
}

// ifOpen returns the KEK of that name for a namespace, if it is open.
func (k *keyring) ifOpen(name, namespace string) (kms.Key, bool) {
	if key, ok := k.fixed[name]; ok {
		return key, true
	}
	uri, err := k.policy.Keys[name].Expand(namespace)
	if err != nil {
		return nil, false
	}
	return k.opened(uri)
}
