package envelope

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/kms"
)

// race is the part of one Open that asks KMSs. Each item has one recipient asked,
// and another one whenever one has failed or let FailoverAfter go by; the first
// that opens it wins, and it is lost only when all have failed. All of it runs in
// the goroutine of the caller but for the lookups, and they end with it: what a
// lookup made the cache load goes on without us, and is there for the next caller.
type race struct {
	opener *Opener
	ctx    context.Context // the caller's
	asking context.Context // ends with the race
	late   bool            // the caller's time was over before it began
	end    context.CancelFunc

	arrivals chan arrival
	underWay int       // lookups that have not arrived
	open     int       // items that are not done
	slow     []*lookup // lookups that others wait behind, by when they have had their time
}

// lookup is one KEK asked about several items. Each KEK has its own, so that one
// which hangs keeps nobody waiting who does not need it.
type lookup struct {
	items []*opening
	asked []candidate // one for each item
	until time.Time
	here  bool // it has arrived
}

type arrival struct {
	*lookup
	outcomes []cache.Outcome[*dataKey]
}

func newRace(ctx context.Context, o *Opener) *race {
	r := &race{opener: o, ctx: ctx, late: ctx.Err() != nil, arrivals: make(chan arrival)}
	r.asking, r.end = context.WithCancel(ctx)
	return r
}

// run returns when all items are done.
func (r *race) run(items []*opening) {
	defer r.leave()
	r.open = len(items)
	r.ask(items)
	timer := time.NewTimer(r.opener.cfg.FailoverAfter)
	defer timer.Stop()
	for r.open > 0 {
		var overdue <-chan time.Time
		if len(r.slow) > 0 {
			timer.Reset(time.Until(r.slow[0].until))
			overdue = timer.C
		}
		select {
		case a := <-r.arrivals:
			r.underWay--
			r.ask(r.takeIn(a))
		case <-overdue:
			l := r.slow[0]
			r.slow = r.slow[1:]
			r.ask(r.impatient(l))
		}
	}
}

// leave ends the lookups that are under way and lets go of what they found.
func (r *race) leave() {
	r.end()
	for ; r.underWay > 0; r.underWay-- {
		a := <-r.arrivals
		for _, o := range a.outcomes {
			o.Ref.Release()
		}
	}
}

// patience is how long a KEK that is asked now may take before the next one is
// asked: FailoverAfter, but no more than half of the time that the caller has left.
func (r *race) patience() time.Duration {
	after := r.opener.cfg.FailoverAfter
	if deadline, ok := r.ctx.Deadline(); ok {
		after = min(after, time.Until(deadline)/2)
	}
	return after
}

// without takes k out of keks.
func without(keks []kek, k kek) []kek {
	if i := slices.Index(keks, k); i >= 0 {
		return slices.Delete(keks, i, i+1)
	}
	return keks
}

// ask asks the next recipient of each item, those of one KEK together.
func (r *race) ask(items []*opening) {
	patience := r.patience()
	var lookups []*lookup
	byKEK := make(map[kek]*lookup)
	othersWait := make(map[*lookup]bool)
	for _, p := range items {
		c := p.left[0]
		p.left = p.left[1:]
		l, ok := byKEK[c.kek]
		if !ok {
			l = &lookup{until: time.Now().Add(patience)}
			byKEK[c.kek] = l
			lookups = append(lookups, l)
		}
		l.items, l.asked = append(l.items, p), append(l.asked, c)
		othersWait[l] = othersWait[l] || len(p.left) > 0 || len(p.asked) > 0 || p.stale != nil
		p.asked = append(p.asked, c.kek)
	}
	for _, l := range lookups {
		if othersWait[l] {
			r.slow = append(r.slow, l)
		}
		r.underWay++
		go func() { r.arrivals <- arrival{l, r.opener.lookUp(r.asking, l)} }()
	}
}

// lookUp has the cache answer for the items of l, which may make it ask the KMS.
func (o *Opener) lookUp(ctx context.Context, l *lookup) []cache.Outcome[*dataKey] {
	ids := make([]cacheKey, len(l.items))
	jobs := make(map[cacheKey]unwrapJob, len(l.items))
	for i, c := range l.asked {
		ids[i] = c.id
		jobs[c.id] = unwrapJob{key: c.key, blob: c.blob, ec: l.items[i].ec}
	}
	return o.cache.GetMany(ctx, ids, func(ctx context.Context, missing []cacheKey) []cache.Result[*dataKey] {
		return unwrapAll(ctx, missing, jobs, o.cfg.UnwrapTimeout)
	})
}

// takeIn uses what a lookup found, and returns the items whose next recipient is
// to be asked.
func (r *race) takeIn(a arrival) []*opening {
	var next []*opening
	a.here = true
	for i, p := range a.items {
		first := p.asked[0].id
		p.asked = without(p.asked, a.asked[i].kek)
		if p.done {
			a.outcomes[i].Ref.Release()
			continue
		}
		r.try(p, a.asked[i], a.outcomes[i], first)
		switch {
		case p.done:
		case len(p.left) > 0:
			next = append(next, p)
		case len(p.asked) > 0:
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

// try uses one data key, or notes the lack of it. first is the KEK that has been
// waited for the longest.
func (r *race) try(p *opening, c candidate, got cache.Outcome[*dataKey], first string) {
	switch {
	case got.Err == nil && got.Stale && (len(p.left) > 0 || len(p.asked) > 0):
		p.stale.Release()
		p.stale, p.staleOne = got.Ref, c
	case got.Err == nil:
		r.opener.use(p, c, got.Ref)
	case r.ctx.Err() != nil && p.stale != nil:
		r.useStale(p)
	case r.ctx.Err() != nil && r.outlasted(p, c):
	case r.ctx.Err() != nil:
		p.settle(nil, callerGaveUp(r.ctx, "open envelope", first))
	case errors.Is(got.Err, cache.ErrClosed):
		p.settle(nil, openError(kms.Internal, "", "the opener is closed", "", ErrClosed))
	default:
		p.errs = append(p.errs, got.Err)
	}
}

// outlasted opens p with the stale data key of c, whose KEK has not answered in all
// the time that the caller had, and reports whether it could. Its attempts may go on
// for longer, and end as what the caller has just found it to be, unavailable.
func (r *race) outlasted(p *opening, c candidate) bool {
	if r.late {
		return false // it was not even asked
	}
	ref := r.opener.cache.Stale(c.id)
	return ref != nil && r.opener.use(p, c, ref)
}

// impatient is called when l has had its time: it opens with stale data keys what
// has one, and returns the items whose next recipient is to be asked.
func (r *race) impatient(l *lookup) []*opening {
	if l.here {
		return nil // whoever comes next was asked then
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

// useStale uses the stale data key of p. If it is not the one that the envelope
// commits to, and nothing else is under way, p has failed.
func (r *race) useStale(p *opening) {
	ref := p.stale
	p.stale = nil
	if !r.opener.use(p, p.staleOne, ref) && len(p.left) == 0 && len(p.asked) == 0 {
		p.fail()
	}
}
