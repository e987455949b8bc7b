package blackout

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"
)

// Timing says when things happen. All workflows start within Ramp, except those
// that start in the dark; then comes Settle, and then the outage.
type Timing struct {
	Ramp   time.Duration `json:"ramp"`
	Settle time.Duration `json:"settle"`
	Outage time.Duration `json:"outage"`
	// Finish bounds how long workflows may take to end after the outage.
	Finish time.Duration `json:"finish"`
}

// cut and heal are when the outage begins and ends, from the start.
func (t Timing) cut() time.Duration  { return t.Ramp + t.Settle }
func (t Timing) heal() time.Duration { return t.cut() + t.Outage }

// Plan is what one workflow does.
type Plan struct {
	N   int             // its number
	Due []time.Duration // timers, from its start, each followed by an activity
	// WorkFor is how long the first of these works; when it is tried again, what it
	// did is done already.
	WorkFor time.Duration
	// Signals is how many signals it waits for, numbered from 0.
	Signals int
	// Child is how long its child waits before an activity of its own; no child if zero.
	Child time.Duration
	// Beats is how many heartbeats its long activity sends, every BeatEvery; none if zero.
	Beats     int
	BeatEvery time.Duration
	// OnceWithin is the time for an activity that may be tried once only and that
	// works for OnceFor; no such activity if zero.
	OnceFor, OnceWithin time.Duration
}

// Result is what a workflow ends with. It differs from what is wanted if a
// signal, an activity's result or failure, a marker or a child's result was lost,
// came twice, or came in another order.
type Result struct {
	N       int
	Version int     // of a change, recorded in a marker
	Side    int     // from a side effect
	Local   int64   // from a local activity
	Signals []int   // the numbers of the signals, in the order they came
	Work    []int64 // from the activities, each made from the one before
	Refused string  // message and detail of an activity that fails for good
	Child   int64
	Beats   int64
	Once    int64
}

// link is one link of a chain of results: each depends on all before it.
func link(before int64, n, i int) int64 {
	return (before*31 + int64(n)*7 + int64(i) + 1) % 1_000_000_007
}

// The seeds of chains, so that no result passes for another.
const (
	seedWork  = 1
	seedLocal = 2
	seedChild = 3
	seedBeats = 4
	seedOnce  = 5
)

// side is what the side effect of a workflow returns.
func side(n int) int { return n*13 + 5 }

func refusal(n int) string { return fmt.Sprintf("order %d is refused", n) }

// want returns what a workflow with this plan must end with.
func (p Plan) want() Result {
	r := Result{N: p.N, Version: changeVersion, Side: side(p.N), Local: link(seedLocal, p.N, 0), Refused: refusal(p.N) + fmt.Sprintf(" (%d)", p.N)}
	for i := range p.Signals {
		r.Signals = append(r.Signals, i)
	}
	last := int64(seedWork)
	for i := range p.Due {
		last = link(last, p.N, i)
		r.Work = append(r.Work, last)
	}
	if p.Child > 0 {
		r.Child = link(seedChild, p.N, 0)
	}
	if p.Beats > 0 {
		r.Beats = seedBeats
		for i := range p.Beats {
			r.Beats = link(r.Beats, p.N, i)
		}
	}
	if p.OnceWithin > 0 {
		r.Once = link(seedOnce, p.N, 0)
	}
	return r
}

// check says what is wrong with a result, nothing if it is the one wanted.
func (p Plan) check(got Result) string {
	want := p.want()
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return fmt.Sprintf("ended with %+v, want %+v", got, want)
}

// order is a plan, and the times at which a client starts and signals the workflow.
type order struct {
	plan    Plan
	start   time.Duration   // from the start of it all
	signals []time.Duration // likewise
	// viaOutage sends the signals of the outage from a client in the same outage, which
	// retries until they are accepted. The KMS of the other clients answers.
	viaOutage bool
}

// One workflow in three goes on in the outage, with timers and signals; the others wait
// for signals after it. Of all, one in startsDark starts in the outage. One in caught has
// an activity that works when the outage begins and ends up to caughtFor later. One in
// beating has an activity with heartbeats, one in parents has a child, and one in onces
// has an activity that may be tried once. Of those that go on, a client in the same
// outage signals every second one. One workflow may have several of these.
const (
	goesOn, startsDark, caught, beating, parents, onces, senders = 3, 10, 5, 10, 6, 10, 6

	caughtFor = 10 * time.Second
	beatEvery = 4 * time.Second
	// What is not pending when the KMS is back begins quiet later and is spread over
	// spread: what is measured is how soon that goes on which was held, and not
	// how fast one machine does everything at once.
	quiet  = 20 * time.Second
	spread = 15 * time.Second
)

// newOrder plans workflow n. The same number has the same plan every time.
func newOrder(n int, t Timing, once bool) order {
	chance := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // repeatable, protects nothing
	between := func(from, to time.Duration) time.Duration {
		return from + time.Duration(chance.Int64N(int64(max(to-from, 1))))
	}
	dark := func(from, to float64) time.Duration {
		return t.cut() + time.Duration((from+(to-from)*chance.Float64())*float64(t.Outage))
	}
	after := func() time.Duration { return t.heal() + between(quiet, quiet+spread) }
	o := order{start: between(0, t.Ramp), viaOutage: n%senders == 1}
	p := Plan{N: n, Signals: 4}
	first := o.start + between(time.Second, max(t.cut()-o.start, 2*time.Second))
	var due []time.Duration // from the start of it all
	switch {
	case n%startsDark == startsDark-1:
		o.start = dark(0.1, 0.5)
		due = []time.Duration{o.start + time.Second, after()}
		o.signals = []time.Duration{o.start, dark(0.6, 0.8), dark(0.8, 1)}
	case n%goesOn == 1:
		due = []time.Duration{first, dark(0, 1), after()}
		o.signals = []time.Duration{between(o.start, t.cut()), dark(0, 0.5), dark(0.5, 1)}
	default:
		due = []time.Duration{first, after()}
		o.signals = []time.Duration{between(o.start, t.cut()), between(o.start, t.cut()), after()}
	}
	o.signals = append(o.signals, after())
	slices.Sort(o.signals)
	for _, d := range due {
		p.Due = append(p.Due, d-o.start)
	}
	if n%caught == 2 {
		p.WorkFor = max(t.cut()+between(0, caughtFor)-due[0], 0)
	}
	if n%parents == 3 && o.start < t.cut() {
		p.Child = max(dark(0, 1)-o.start, time.Second)
	}
	if n%beating == 7 {
		// What is left of it when the outage begins may have to wait for the end.
		p.BeatEvery, p.Beats = beatEvery, int(max(t.cut()+between(beatEvery, quiet)-o.start, beatEvery)/beatEvery)
	}
	if once && n%onces == 4 {
		p.OnceFor, p.OnceWithin = max(dark(0, 0.5)-o.start, time.Second), t.heal()+t.Finish-o.start
	}
	o.plan = p
	return o
}
