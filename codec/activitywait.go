package codec

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
)

// DefaultActivityWait is how long a conversion in an activity waits for KMSs: as long as cached
// data keys outlive an outage. In most cases the activity's own deadline ends the wait.
const DefaultActivityWait = envelope.DefaultStale

const (
	// minPause and maxPause bound the pause between two tries. They are short, so that an
	// activity continues soon after its KMS recovers. Cache and breaker call a KMS again 5 s
	// after a failed call at the earliest, and until then tries cost nothing.
	minPause = 500 * time.Millisecond
	maxPause = 1500 * time.Millisecond
	// maxMargin is the time reserved at the end of an activity to report why it failed. A short
	// activity reserves a tenth. Without a report the server records only a timeout.
	maxMargin = 5 * time.Second
	// beatsPerTimeout is how many heartbeats a wait sends at least per heartbeat timeout: a try
	// and a pause each take one such part of it. The SDK sends one heartbeat in four fifths of
	// the timeout, with the latest details.
	beatsPerTimeout = 4
)

// patience is how a conversion in an activity waits for a KMS. An error would fail the attempt;
// the last attempt fails the activity, and usually its workflow. An error from sealing the
// result would lose what the activity did. docs/adr/010 has the reasons.
type patience struct {
	ctx   context.Context
	start time.Time
	until time.Time       // when to give up
	step  time.Duration   // bounds one try, and one pause
	stop  <-chan struct{} // closed when the worker stops
	alive bool            // whether to send heartbeats during the wait
}

// patient reports whether conversions at a site wait for KMSs in place.
func (c *Codec) patient(s site) bool {
	return c.activityWait > 0 && s.workflow == nil && s.ctx != nil && activity.IsActivity(s.ctx)
}

func (c *Codec) patience(s site) *patience {
	now := time.Now()
	p := &patience{
		ctx: s.ctx, start: now, until: now.Add(c.activityWait), step: c.callTimeout,
		stop: activity.GetWorkerStopChannel(s.ctx),
	}
	if deadline, ok := s.ctx.Deadline(); ok {
		margin := min(deadline.Sub(now)/10, maxMargin)
		p.until = earlier(p.until, deadline.Add(-margin))
	}
	info := activity.GetInfo(s.ctx)
	if timeout := info.HeartbeatTimeout; timeout > 0 && !info.IsLocalActivity {
		p.step = min(p.step, timeout/beatsPerTimeout)
		if p.alive = hasHeartbeatInterceptor(s.ctx); !p.alive {
			p.until = earlier(p.until, now.Add(timeout/2))
		}
	}
	return p
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// patiently converts, and retries until it is time to give up while the error is one that would
// hold workflow code.
func (c *Codec) patiently(s site, convert func(ctx context.Context) error) error {
	p := c.patience(s)
	var last error
	for {
		cut, err := p.try(convert)
		switch {
		case err == nil:
			return nil
		case last != nil && kms.ClassOf(err) == kms.Canceled:
			return p.gaveUp("the activity's context has ended", last)
		case !c.holds(s.owner(), err):
			return err
		}
		if last == nil {
			activity.GetLogger(s.ctx).Warn("waxseal: the activity waits for a KMS, and goes on when it answers", "error", err)
		}
		if last == nil || !cut {
			last = err // the KMS's earlier error says more than a timeout of ours
		}
		if why := p.pause(); why != "" {
			return p.gaveUp(why, last)
		}
	}
}

// try converts once. When it gives up because the conversion takes long, the KMS call continues
// in cache or pool, and the next try finds its result there.
func (p *patience) try(convert func(ctx context.Context) error) (cut bool, err error) {
	after := max(min(p.step, time.Until(p.until)), time.Millisecond)
	ctx, cancel := kms.WithLimit(p.ctx, after)
	defer cancel()
	err = convert(ctx)
	return ctx.Err() != nil, err
}

// pause waits before the next try, or returns why there is none.
func (p *patience) pause() (why string) {
	if p.alive {
		activity.RecordHeartbeat(context.WithValue(p.ctx, stillAlive{}, true))
	}
	left := time.Until(p.until)
	wait := min(minPause+rand.N(maxPause-minPause), p.step, max(left/4, minPause/5)) //nolint:gosec // jitter
	if wait >= left {
		return "there is no time left for another try"
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ""
	case <-p.stop:
		return "the worker stops"
	case <-p.ctx.Done():
		return "the activity's context has ended"
	}
}

// gaveUp adds the reason for giving up to the last error. If the activity was canceled, the
// cancellation is in the chain, so that the SDK reports it as such.
func (p *patience) gaveUp(why string, last error) error {
	waited := time.Since(p.start).Round(100 * time.Millisecond)
	if ended := p.ctx.Err(); ended != nil {
		return fmt.Errorf("codec: waited %s, and %s: %w (%w)", waited, why, last, ended)
	}
	return fmt.Errorf("codec: waited %s, and %s: %w", waited, why, last)
}

type (
	// stillAlive marks the context of a heartbeat that only shows that the activity is alive.
	stillAlive struct{}
	// interceptorProbe is the key of a bool in a context, which an activityOut sets.
	interceptorProbe struct{}
)

// hasHeartbeatInterceptor reports whether an activity has an activityOut. The worker decides
// that, and the worker's client may be another one than the converter's.
func hasHeartbeatInterceptor(ctx context.Context) (met bool) {
	activity.HasHeartbeatDetails(context.WithValue(ctx, interceptorProbe{}, &met))
	return met
}
