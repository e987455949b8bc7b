package blackout

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// ResumeWithin is how soon after the KMS is back every held workflow must go on,
// not counting the time for which its task lies in Temporal's queue: how fast a
// server on a busy machine hands out hundreds of tasks is none of the codec's doing.
const ResumeWithin = 10 * time.Second

// QueueWithin is how soon after that every held workflow must go on with the time in
// Temporal's queue. It is loose: with fewer pollers hundreds took up to 44 s on a small
// machine. Yet it is below what comes of tasks that are dropped and not failed: Temporal
// waits until each try of them times out, and longer with every try, up to ten minutes.
const QueueWithin = time.Minute

// shown bounds the workflows that a report names for one problem.
const shown = 5

// Report holds the outcomes of all workflows. It is plain data, for JSON.
type Report struct {
	Began       time.Time `json:"began"`
	Took        Seconds   `json:"took"`
	Interrupted bool      `json:"interrupted,omitempty"`
	Lanes       []*Lane   `json:"lanes"`
}

// Seconds is a time span; in JSON it is a number of seconds.
type Seconds float64

func seconds(d time.Duration) Seconds { return Seconds(math.Round(d.Seconds()*1000) / 1000) }

// Lane is the workflows of one kind of outage that share a worker: those sealed by
// Waxseal, or the control.
type Lane struct {
	Arm     string  `json:"arm"`
	Mode    string  `json:"mode"`   // what the KMS was in the outage
	Cut     Seconds `json:"cut"`    // when the outage began
	Healed  Seconds `json:"healed"` // when it ended
	Control bool    `json:"control,omitempty"`
	// MustLose says that this control proves nothing unless it loses workflows.
	MustLose bool `json:"mustLose,omitempty"`
	// MustHold says that the outage proves nothing unless it holds workflows, some of
	// them until its end. With Trickles, the KMS answers now and then, so each held
	// workflow gets its turn and none may be left at the end.
	MustHold bool `json:"mustHold,omitempty"`
	Trickles bool `json:"trickles,omitempty"`
	// MustWait says that the outage proves nothing unless activities are pending at its end.
	MustWait bool `json:"mustWait,omitempty"`
	Killed   int  `json:"killed,omitempty"` // how often its worker was killed and started again

	Workflows int `json:"workflows"`
	Right     int `json:"right"`    // completed with the right result
	Wrong     int `json:"wrong"`    // completed with another one
	Failed    int `json:"failed"`   // failed, timed out or terminated
	Open      int `json:"open"`     // not ended when time was up
	NotStart  int `json:"notStart"` // never accepted by the server
	Untold    int `json:"untold"`   // not examined, since the run was ended
	Signals   int `json:"signals"`  // accepted by the server
	Unsealed  int `json:"unsealed"` // tries to start or to signal that failed at the caller, and were made again
	InFlight  int `json:"inFlight"` // workflows in flight when the KMS came back
	// From when the KMS was back until held workflow tasks were done, without what
	// each lay in Temporal's queue; with it; and until pending activities were done.
	Ours     Spread `json:"heldByUs"`
	Tasks    Spread `json:"tasks"`
	Activity Spread `json:"activities"`
	Ended    Spread `json:"ended"` // from there until workflows completed

	Counts   Counts   `json:"counts"`
	Samples  []Sample `json:"samples"`
	Examples []string `json:"examples,omitempty"` // of what went wrong
}

// Name is the arm's, with a word for the control.
func (l *Lane) Name() string {
	if l.Control {
		return l.Arm + ", plain codec"
	}
	return l.Arm
}

// Lost is how many workflows did not end with the right result. Of a control those
// alone that ended otherwise: it has so little time that one that is open may be late.
func (l *Lane) Lost() int {
	if l.Control {
		return l.Failed + l.Wrong
	}
	return l.Workflows - l.Right
}

// Sample is one second of a lane.
type Sample struct {
	T       Seconds `json:"t"`    // since the start
	Open    int     `json:"open"` // workflows in flight
	Done    int     `json:"done"` // completed so far
	Failed  int     `json:"failed"`
	Signals int     `json:"signals"` // accepted so far
	Counts
}

// Spread is how long something took: of so many, the median, the 99th percentile
// and the longest.
type Spread struct {
	N    int     `json:"n"`
	P50  Seconds `json:"p50"`
	P99  Seconds `json:"p99"`
	Max  Seconds `json:"max"`
	Last string  `json:"last,omitempty"` // the workflow that took longest
}

// took is how long one workflow took.
type took struct {
	who string
	d   time.Duration
}

func spreadOf(all []took) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	slices.SortFunc(all, func(a, b took) int { return int(a.d - b.d) })
	at := func(q float64) Seconds { return seconds(all[int(math.Ceil(q*float64(len(all))))-1].d) }
	last := all[len(all)-1]
	return Spread{N: len(all), P50: at(0.5), P99: at(0.99), Max: seconds(last.d), Last: last.who}
}

// Problems says what contradicts the promises, and what keeps the run from proving
// anything; nothing if all is well.
func (r *Report) Problems() []string {
	if r.Interrupted {
		return []string{"the run was interrupted: nobody looked what became of the workflows"}
	}
	var problems []string
	for _, l := range r.Lanes {
		bad := func(format string, args ...any) {
			problems = append(problems, l.Name()+": "+fmt.Sprintf(format, args...))
		}
		switch {
		case !l.Control:
			l.judge(bad)
		case l.MustLose && l.Lost() == 0:
			bad("the plain codec lost none of %d workflows, so the outage proves nothing", l.Workflows)
		}
	}
	return problems
}

// mostHeld is how many tasks were held at one time in the outage.
func (l *Lane) mostHeld() (most int) {
	for _, s := range l.Samples {
		if s.T >= l.Cut && s.T < l.Healed {
			most = max(most, s.Held)
		}
	}
	return most
}

// kmsErrors is how many calls to the KMS failed in the outage.
func (l *Lane) kmsErrors() (n int64) {
	var before int64
	for _, s := range l.Samples {
		switch {
		case s.T < l.Cut:
			before = s.KMSErrors
		case s.T < l.Healed:
			n = s.KMSErrors - before
		}
	}
	return n
}

func (l *Lane) judge(bad func(format string, args ...any)) {
	if l.Lost() > 0 {
		bad("%d of %d workflows are lost (%d wrong, %d failed, %d open, %d not started); for example:", l.Lost(), l.Workflows, l.Wrong, l.Failed, l.Open, l.NotStart)
		for _, e := range l.Examples[:min(len(l.Examples), shown)] {
			bad("  %s", e)
		}
	}
	if l.kmsErrors() == 0 {
		bad("the KMS failed nobody, so the outage proves nothing")
	}
	if l.InFlight < l.Workflows {
		bad("%d of %d workflows were in flight when the KMS came back: the outage proves nothing for the others", l.InFlight, l.Workflows)
	}
	if l.MustWait && l.Activity.N == 0 {
		bad("no activity was pending when the KMS came back, so the outage proves nothing of them")
	}
	switch {
	case !l.MustHold:
	case l.mostHeld() == 0:
		bad("the outage held no workflow, so it proves nothing")
	case l.Tasks.N == 0 && !l.Trickles:
		bad("the outage held no workflow until its end, so it proves nothing of what comes then")
	}
	for _, back := range []struct {
		what   string
		took   Spread
		within time.Duration
	}{
		{"held workflows", l.Ours, ResumeWithin},
		{"held workflows, the server's queue included,", l.Tasks, QueueWithin},
		{"pending activities", l.Activity, ResumeWithin},
	} {
		if s := back.took; s.Max > seconds(back.within) {
			bad("%s went on up to %.1f s after the KMS was back, want %s (%s; 99 %% within %.1f s)", back.what, s.Max, back.within, s.Last, s.P99)
		}
	}
}
