package codec

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/policy"
)

// recheck is how often a held task is looked at whose KEKs are being left alone.
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
type kek interface {
	standing() standing
	// ask asks its KMS something: the breaker learns whether it answers.
	ask(ctx context.Context)
}

// openKEK is one that is open.
type openKEK struct {
	kms.Key
	guarded *guardedKey
}

func (k openKEK) standing() standing {
	switch a, ok := kms.As[kms.Availability](k.guarded.Key); {
	case ok && !a.Available():
		return out
	case k.guarded.breaker.now() != resilience.Closed:
		return due
	}
	return answering
}

// ask wraps random bytes that encrypt nothing. That it may not is an answer too.
func (k openKEK) ask(ctx context.Context) {
	probe := make([]byte, kms.DataKeySize)
	rand.Read(probe)                                                     // never fails: crypto/rand ends the process instead
	_, _ = k.Wrap(ctx, [][]byte{probe}, kms.Context{"waxseal": "probe"}) // the breaker has heard it
}

// keks are those that a held task waits for.
type keks []kek

// keep reports whether a task that is due is kept for longer: its KEKs are being
// left alone, and it has the time. One of them that is due is asked, on nobody's
// behalf: were a task let go to ask it, that would have one try more behind it, for
// nothing as long as the outage lasts, and from the fourth on the server waits longer
// with each for the worker that has the task, and longest for one that was killed.
func (ts *tasks) keep(t *task) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	timer, ok := ts.due[t]
	if !ok || ts.closed || len(t.keks) == 0 || time.Until(t.until) < recheck+tellMargin {
		return false
	}
	for _, k := range t.keks {
		switch k.standing() {
		case answering:
			return false
		case due:
			ts.probe(k)
		case out:
		}
	}
	t.due = time.Now().Add(recheck)
	timer.Reset(recheck)
	return true
}

// probe asks a KEK, unless that is being done. The caller holds mu.
func (ts *tasks) probe(k kek) {
	if ts.probed[k] {
		return
	}
	ts.probed[k] = true
	ts.telling.Go(func() {
		k.ask(ts.closing)
		ts.mu.Lock()
		defer ts.mu.Unlock()
		delete(ts.probed, k)
	})
}

// keksOf returns the KEKs that a task waits for which is held for err: one of them
// answers, and it is worth trying again. None if err is about none that is open, or
// if one of the rule of these facts, which might do as well, is not.
func (c *Codec) keksOf(facts policy.Facts, err error) keks {
	var about *kms.Error
	rule, noRule := c.policy.SealRule(facts)
	if noRule != nil || !errors.As(err, &about) {
		return nil
	}
	named, ok := c.keys.withID(about.KeyID)
	if !ok {
		return nil
	}
	if rule.Recipients != policy.RecipientsPrimary && slices.Contains([]string{"wrap", "seal", "seal payload"}, about.Op) {
		return keks{named} // the others cannot stand in for it
	}
	var all keks
	for _, name := range rule.Keys {
		key, ok := c.keys.ifOpen(name, facts.Namespace)
		if !ok {
			return nil
		}
		if guarded, ok := kms.As[*guardedKey](key); ok {
			all = append(all, openKEK{key, guarded})
		}
	}
	if !slices.Contains(all, kek(named)) {
		return keks{named} // sealed under a KEK that the rule had once, or another rule has
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

// withID returns the KEK with that ID, if it is open.
func (k *keyring) withID(id string) (openKEK, bool) {
	for _, key := range k.fixed {
		if guarded, ok := kms.As[*guardedKey](key); ok && key.ID() == id {
			return openKEK{key, guarded}, true
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.perURI.Values() {
		if key.ID() == id {
			return openKEK{key, key.guardedKey}, true
		}
	}
	return openKEK{}, false
}
