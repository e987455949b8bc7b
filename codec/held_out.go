package codec

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// recheck is how often a held task is looked at whose KEKs are being left alone.
const recheck = 500 * time.Millisecond

// kek is a KEK that a held task waits for. It is comparable.
type kek interface {
	Availability() keyset.Availability
	// Probe calls the KMS, so that the breaker learns whether it answers.
	Probe(ctx context.Context)
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
		switch k.Availability() {
		case keyset.Up:
			return false
		case keyset.ProbeDue:
			ts.probe(k)
		case keyset.Down:
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
		k.Probe(ts.closing)
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
	now := c.now.Load()
	rule, noRule := now.policy.SealRule(facts)
	if noRule != nil || !errors.As(err, &about) {
		return nil
	}
	named, ok := now.keys.WithID(about.KeyID)
	if !ok {
		return nil
	}
	if rule.Recipients != policy.RecipientsPrimary && slices.Contains([]string{"wrap", "seal", "seal payload"}, about.Op) {
		return keks{named} // the others cannot stand in for it
	}
	var all keks
	for _, name := range rule.Keys {
		key, ok := now.keys.IfOpen(name, facts.Namespace)
		if !ok {
			return nil
		}
		all = append(all, key)
	}
	if !slices.Contains(all, kek(named)) {
		return keks{named} // sealed under a KEK that the rule had once, or another rule has
	}
	return all
}
