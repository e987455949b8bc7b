package envelope

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// maxGraceDelay is how long a KMS may take for a new data key before an aged one seals
	// instead: twenty times what a healthy KMS takes. Callers have seconds in all.
	maxGraceDelay = time.Second
	// minGraceDelay keeps a distant KMS from passing for one that is out.
	minGraceDelay = 200 * time.Millisecond
	// outageRemembered is how long a failed wrap counts as an outage for all callers.
	outageRemembered = 5 * time.Second
	// probeInterval is the pause between a failed wrap and a probe of the KMS.
	probeInterval = time.Second
)

// failure is a KEK that did not wrap, and why.
type failure struct {
	keyID string
	class kms.Class
}

// outage is what a pool remembers of a failed wrap; its mutex guards it.
type outage struct {
	failing bool // the last wrap failed, for any reason
	cause   failure
	until   time.Time // until then aged keys may seal because of it
	probeAt time.Time // when to call the KMS again although no caller waits
}

// effect is what a failed wrap means for the data keys in stock.
type effect uint8

const (
	// keepKeys changes nothing: fresh keys seal, aged ones do not.
	keepKeys effect = iota
	// allowGrace lets aged keys seal too, until the end of their grace.
	allowGrace
	// dropKeys wipes them all.
	dropKeys
)

// effectOf is the table of what a failed wrap means. Like verdict, it is strict: a caller
// without the right to a new data key must not go on with old ones.
func effectOf(err error) effect {
	switch kms.ClassOf(err) {
	case kms.Unavailable, kms.Throttled:
		return allowGrace
	case kms.Denied, kms.Disabled, kms.NotFound:
		return dropKeys
	case kms.Corrupt, kms.Internal, kms.Invalid, kms.Canceled:
		return keepKeys
	default:
		return keepKeys
	}
}

// record notes how a wrap ended; err is nil if it succeeded.
func (o *outage) record(err error, now time.Time) {
	*o = outage{failing: err != nil, probeAt: now.Add(probeInterval)}
	if err == nil || effectOf(err) != allowGrace {
		return
	}
	o.until = now.Add(outageRemembered)
	o.cause.class = kms.ClassOf(err)
	if e, ok := errors.AsType[*kms.Error](err); ok {
		o.cause.keyID = e.KeyID
	}
}

// duringOutage reports whether aged keys may seal, and why: the last wrap failed just now,
// or one has been under way for maxGraceDelay.
func (p *pool) duringOutage(now time.Time) (failure, bool) {
	switch {
	case p.stock.limits.SealGrace == 0:
		return failure{}, false
	case p.wrapping && now.Sub(p.wrapStarted) >= maxGraceDelay:
		return p.notAnswering(), true
	default:
		return p.outage.cause, now.Before(p.outage.until)
	}
}

func (p *pool) notAnswering() failure { return failure{p.pending.first(), kms.Unavailable} }

// graceDelay is how long the caller of ctx waits for a KMS before aged keys serve it:
// maxGraceDelay, but no more than a third of the caller's time.
func graceDelay(ctx context.Context) time.Duration {
	delay := maxGraceDelay
	if deadline, ok := ctx.Deadline(); ok {
		delay = min(delay, max(time.Until(deadline)/3, minGraceDelay))
	}
	return delay
}

// serveOverdue serves w, which has waited for its grace delay, with aged keys too. If
// the wrap under way is younger than that, it returns how much longer w waits.
func (p *pool) serveOverdue(w *waiter, delay time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if left := delay - now.Sub(p.wrapStarted); left > 0 {
		return left
	}
	p.expire(now)
	if i := slices.Index(p.queue, w); i >= 0 && p.serve(w, p.notAnswering(), true) {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	return 0
}
