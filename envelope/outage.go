package envelope

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// gracePatience is how long a KMS may take for a new data key before one in hand
	// that is past its age seals instead. A healthy KMS takes a twentieth of it;
	// callers have seconds in all.
	gracePatience = time.Second
	// leastPatience is what a KMS gets also where the caller has hardly any time: one
	// that is merely not next door must not pass for one that is out.
	leastPatience = 200 * time.Millisecond
	// outageHolds is how long a failed wrap counts as an outage, so that not every
	// caller has to find out again.
	outageHolds = 5 * time.Second
	// askAgainAfter is how long a KMS is left alone after a failed wrap, as long as
	// keys in hand serve.
	askAgainAfter = time.Second
)

// failure is a KEK that did not wrap, and why.
type failure struct {
	keyID string
	class kms.Class
}

// outage is what a pool remembers of a wrap that failed; it is guarded by the
// mutex of the pool.
type outage struct {
	failing bool // the last one did, whatever with
	why     failure
	until   time.Time // until when keys past their age may seal because of it
	again   time.Time // when the KMS is asked again although nobody waits
}

// aftermath is what a failed wrap means for the data keys in hand.
type aftermath uint8

const (
	// keep leaves them as they are: those within their age go on sealing, those past
	// it wait.
	keep aftermath = iota
	// sealOn has those past their age seal too, until the end of their grace.
	sealOn
	// forget wipes them all.
	forget
)

// after is the table of what a failed wrap means. It is as strict as that of the
// opener: who was refused a new data key must not go on with old ones.
func after(err error) aftermath {
	switch kms.ClassOf(err) {
	case kms.Unavailable, kms.Throttled:
		return sealOn
	case kms.Denied, kms.Disabled, kms.NotFound:
		return forget
	case kms.Corrupt, kms.Internal, kms.Canceled:
		return keep
	default:
		return keep
	}
}

// learn takes in how a wrap ended; err is nil if it gave keys.
func (o *outage) learn(err error, now time.Time) {
	*o = outage{failing: err != nil, again: now.Add(askAgainAfter)}
	if err == nil || after(err) != sealOn {
		return
	}
	o.until = now.Add(outageHolds)
	o.why.class = kms.ClassOf(err)
	if e, ok := errors.AsType[*kms.Error](err); ok {
		o.why.keyID = e.KeyID
	}
}

// dark reports whether keys past their age may seal, and why: the last wrap failed
// a moment ago, or one has been under way for too long to be waited for.
func (p *pool) dark(now time.Time) (failure, bool) {
	switch {
	case p.hand.limits.SealGrace == 0:
		return failure{}, false
	case p.filling && now.Sub(p.filled) >= gracePatience:
		return p.notAnswering(), true
	default:
		return p.outage.why, now.Before(p.outage.until)
	}
}

func (p *pool) notAnswering() failure { return failure{p.pending.first(), kms.Unavailable} }

// patienceOf is how long the caller of ctx waits for a KMS while there are keys
// past their age: gracePatience, but no more than a third of the time it has left. That
// is time for one wrap under way to end and for the next one, which is the caller's.
func patienceOf(ctx context.Context) time.Duration {
	patience := gracePatience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, max(time.Until(deadline)/3, leastPatience))
	}
	return patience
}

// impatient serves w, whose patience is over, with keys past their age too. If the
// wrap under way has not had that long, it returns how much longer w waits.
func (p *pool) impatient(w *waiter, patience time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if left := patience - now.Sub(p.filled); left > 0 {
		return left
	}
	p.age(now)
	if i := slices.Index(p.line, w); i >= 0 && p.give(w, p.notAnswering(), true) {
		p.line = slices.Delete(p.line, i, i+1)
	}
	return 0
}
