package envelope

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/kms"
)

// race is the part of one Open that calls KMSs. Each item tries one recipient, and the next one when that fails or
// takes longer than FailoverAfter. The first that opens the item wins. The race runs in the caller's goroutine but for
// the lookups, which end with it; loads of the cache go on, for the next caller.
type race struct {
	opener    *Opener
	ctx       context.Context // the caller's
	lookupCtx context.Context // ends with the race
	cancel    context.CancelFunc
	expired   bool // ctx had ended before the race began

	arrivals chan *lookup
	underWay int       // lookups that have not arrived
	open     int       // items that are not done
	slow     []*lookup // lookups that others wait behind, by until
}

// lookup is one KEK called for several items. Each KEK has its own, so that one that
// hangs does not hold up the items of the others.
type lookup struct {
	items    []*opening
	from     []candidate               // one for each item
	outcomes []cache.Outcome[*dataKey] // one for each item, once it has arrived
	until    time.Time                 // then the items fail over
	arrived  bool
	awaited  bool // by other recipients of an item, or a stale data key
}

func newRace(ctx context.Context, o *Opener) *race {
	r := &race{opener: o, ctx: ctx, expired: ctx.Err() != nil, arrivals: make(chan *lookup)}
	r.lookupCtx, r.cancel = context.WithCancel(ctx)
	return r
}

// run returns when all items are done.
func (r *race) run(items []*opening) {
	defer r.finish()
	r.open = len(items)
	r.start(items)
	timer := time.NewTimer(r.opener.cfg.FailoverAfter)
	defer timer.Stop()
	for r.open > 0 {
		var overdue <-chan time.Time
		if len(r.slow) > 0 {
			timer.Reset(time.Until(r.slow[0].until))
			overdue = timer.C
		}
		select {
		case l := <-r.arrivals:
			r.underWay--
			r.start(r.settle(l))
		case <-overdue:
			l := r.slow[0]
			r.slow = r.slow[1:]
			r.start(r.failOver(l))
		}
	}
}

// finish ends the lookups under way and releases what they found.
func (r *race) finish() {
	r.cancel()
	for ; r.underWay > 0; r.underWay-- {
		for _, o := range (<-r.arrivals).outcomes {
			o.Ref.Release()
		}
	}
}

// failoverDelay is how long a KEK called now may take before the next one is called:
// FailoverAfter, but no more than half of the time that the caller has left.
func (r *race) failoverDelay() time.Duration {
	after := r.opener.cfg.FailoverAfter
	if deadline, ok := r.ctx.Deadline(); ok {
		after = min(after, time.Until(deadline)/2)
	}
	return after
}

// start looks up the next recipient of each item, those of one KEK together.
func (r *race) start(items []*opening) {
	delay := r.failoverDelay()
	var lookups []*lookup
	byKEK := make(map[kek]*lookup)
	for _, p := range items {
		c := p.left[0]
		p.left = p.left[1:]
		l, ok := byKEK[c.kek]
		if !ok {
			l = &lookup{until: time.Now().Add(delay)}
			byKEK[c.kek] = l
			lookups = append(lookups, l)
		}
		l.items, l.from = append(l.items, p), append(l.from, c)
		l.awaited = l.awaited || len(p.left) > 0 || len(p.pending) > 0 || p.stale != nil
		p.pending = append(p.pending, c.kek)
	}
	for _, l := range lookups {
		if l.awaited {
			r.slow = append(r.slow, l)
		}
		r.underWay++
		go func() {
			l.outcomes = r.opener.lookUp(r.lookupCtx, l)
			r.arrivals <- l
		}()
	}
}

// lookUp gets the data keys of l from the cache, which may load them from the KMS.
func (o *Opener) lookUp(ctx context.Context, l *lookup) []cache.Outcome[*dataKey] {
	ids := make([]cacheKey, len(l.items))
	jobs := make(map[cacheKey]unwrapJob, len(l.items))
	for i, c := range l.from {
		ids[i] = c.id
		jobs[c.id] = unwrapJob{key: c.key, blob: c.blob, ec: l.items[i].ec}
	}
	return o.cache.GetMany(ctx, ids, func(ctx context.Context, missing []cacheKey) []cache.Result[*dataKey] {
		return unwrapAll(ctx, missing, jobs, o.cfg.UnwrapTimeout)
	})
}

// settle uses what a lookup found, and returns the items that need their next recipient.
func (r *race) settle(l *lookup) []*opening {
	var next []*opening
	l.arrived = true
	for i, p := range l.items {
		first := p.pending[0].id
		p.pending = slices.DeleteFunc(p.pending, func(k kek) bool { return k == l.from[i].kek })
		if p.done {
			l.outcomes[i].Ref.Release()
			continue
		}
		r.try(p, l.from[i], l.outcomes[i], first)
		switch {
		case p.done:
		case len(p.left) > 0:
			next = append(next, p)
		case len(p.pending) > 0:
		case p.stale != nil:
			r.useStale(p)
		default:
			p.fail()
		}
		if p.done {
			r.open--
		}
	}
	return next
}

// try uses one data key, or notes why there is none. first is the KEK that was called first of those pending.
func (r *race) try(p *opening, c candidate, got cache.Outcome[*dataKey], first string) {
	switch {
	case got.Err == nil && got.Stale && (len(p.left) > 0 || len(p.pending) > 0):
		p.stale.Release()
		p.stale, p.staleFrom = got.Ref, c
	case got.Err == nil:
		r.opener.use(p, c, got.Ref)
	case r.ctx.Err() != nil && p.stale != nil:
		r.useStale(p)
	case r.ctx.Err() != nil && r.useStaleOf(p, c):
	case r.ctx.Err() != nil:
		p.finish(nil, callerGaveUp(r.ctx, "open envelope", first))
	case errors.Is(got.Err, cache.ErrClosed):
		p.finish(nil, openError(kms.Internal, "", "the opener is closed", "", ErrClosed))
	default:
		p.errs = append(p.errs, got.Err)
	}
}

// useStaleOf opens p with the stale data key of c if its KEK did not answer in the
// caller's time, and reports whether it could.
func (r *race) useStaleOf(p *opening, c candidate) bool {
	if r.expired {
		return false // the KEK was never called
	}
	ref := r.opener.cache.Stale(c.id)
	return ref != nil && r.opener.use(p, c, ref)
}

// failOver is called when the time of l is over: it opens the items that have a stale
// data key, and returns those that need their next recipient.
func (r *race) failOver(l *lookup) []*opening {
	if l.arrived {
		return nil // settle has returned them
	}
	var next []*opening
	for _, p := range l.items {
		if !p.done && p.stale != nil {
			if r.useStale(p); p.done {
				r.open--
			}
		}
		if !p.done && len(p.left) > 0 {
			next = append(next, p)
		}
	}
	return next
}

// useStale uses the stale data key of p. If that does not open p and no other recipient is left or pending, p fails.
func (r *race) useStale(p *opening) {
	ref := p.stale
	p.stale = nil
	if !r.opener.use(p, p.staleFrom, ref) && len(p.left) == 0 && len(p.pending) == 0 {
		p.fail()
	}
}
