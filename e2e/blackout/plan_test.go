package blackout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testTiming() Timing {
	return Timing{Ramp: 20 * time.Second, Settle: 15 * time.Second, Outage: 2 * time.Minute, Finish: time.Minute}
}

// TestOrders checks what 500 plans promise of an outage: things of every kind fall
// before it, into it and after it.
func TestOrders(t *testing.T) {
	timing := testTiming()
	cut, heal := timing.cut(), timing.heal()
	seen := map[string]int{}
	for n := range 500 {
		o := newOrder(n, timing, true)
		if diff := cmp.Diff(o, newOrder(n, timing, true), cmp.AllowUnexported(order{})); diff != "" {
			t.Fatalf("order %d is another one each time: %s", n, diff)
		}
		if len(o.signals) != o.plan.Signals || !slices.IsSorted(o.signals) || o.signals[0] < o.start || o.start < 0 {
			t.Errorf("order %d starts at %s and has signals at %s", n, o.start, o.signals)
		}
		for _, due := range o.plan.Due {
			note(seen, "timer", o.start+due, cut, heal)
		}
		if !slices.IsSorted(o.plan.Due) || o.plan.Due[0] < time.Second {
			t.Errorf("order %d has timers after %s", n, o.plan.Due)
		}
		if last := o.signals[len(o.signals)-1]; last < heal+quiet {
			t.Errorf("order %d may end in the outage, with its last signal at %s", n, last)
		}
		note(seen, "start", o.start, cut, heal)
		for _, s := range o.signals {
			note(seen, "signal", s, cut, heal)
		}
		if o.plan.Child > 0 {
			note(seen, "child", o.start+o.plan.Child, cut, heal)
		}
		if o.plan.WorkFor > 0 {
			note(seen, "caught", o.start+o.plan.Due[0]+o.plan.WorkFor, cut, heal)
		}
		if o.plan.Beats > 0 {
			note(seen, "beats", o.start+time.Duration(o.plan.Beats)*o.plan.BeatEvery, cut, heal)
		}
		if o.plan.OnceWithin > 0 {
			note(seen, "once", o.start+o.plan.OnceFor, cut, heal)
			if o.start+o.plan.OnceWithin < heal+timing.Finish {
				t.Errorf("order %d: what is tried once has no time after the outage", n)
			}
		}
		if o.viaOutage {
			note(seen, "sender", o.signals[0], 0, heal)
		}
	}
	for what, least := range map[string]int{
		"timer before": 400, "timer in": 150, "timer after": 500, "start in": 50, "signal before": 500, "signal in": 300, "signal after": 500,
		"child in": 60, "caught in": 80, "beats in": 20, "once in": 25, "sender in": 60,
	} {
		if seen[what] < least {
			t.Errorf("%q comes %d times, want %d: %v", what, seen[what], least, seen)
		}
	}
}

func note(seen map[string]int, what string, at, cut, heal time.Duration) {
	switch {
	case at < cut:
		seen[what+" before"]++
	case at < heal:
		seen[what+" in"]++
	default:
		seen[what+" after"]++
	}
}

// TestCheck takes something away from a right result, or changes its order: each
// has to be seen.
func TestCheck(t *testing.T) {
	p := Plan{N: 7, Due: []time.Duration{1, 2, 3}, Signals: 3, Child: 1, Beats: 2, OnceWithin: 1}
	if problem := p.check(p.want()); problem != "" {
		t.Fatal(problem)
	}
	for name, harm := range map[string]func(*Result){
		"signal lost":      func(r *Result) { r.Signals = r.Signals[:2] },
		"signal twice":     func(r *Result) { r.Signals = []int{0, 1, 1} },
		"signals swapped":  func(r *Result) { r.Signals = []int{1, 0, 2} },
		"activity lost":    func(r *Result) { r.Work = r.Work[1:] },
		"activities mixed": func(r *Result) { r.Work[0], r.Work[1] = r.Work[1], r.Work[0] },
		"no marker":        func(r *Result) { r.Version = -1 },
		"side effect":      func(r *Result) { r.Side = 0 },
		"local activity":   func(r *Result) { r.Local = 0 },
		"failure's words":  func(r *Result) { r.Refused = "Encoded failure (7)" },
		"child":            func(r *Result) { r.Child = 0 },
		"heartbeats":       func(r *Result) { r.Beats = link(r.Beats, 7, 2) },
		"tried once":       func(r *Result) { r.Once = 0 },
		"another's": func(r *Result) {
			*r = Plan{N: 8, Due: p.Due, Signals: 3, Child: 1, Beats: 2, OnceWithin: 1}.want()
		},
	} {
		r := p.want()
		harm(&r)
		if problem := p.check(r); !strings.Contains(problem, "want") {
			t.Errorf("%s is not seen: %s", name, problem)
		}
	}
	want := p.want()
	for what, result := range map[string]int64{"work": want.Work[0], "local": want.Local, "child": want.Child, "beats": want.Beats, "once": want.Once} {
		for other, second := range map[string]int64{"work": want.Work[0], "local": want.Local, "child": want.Child, "beats": want.Beats, "once": want.Once} {
			if what != other && result == second {
				t.Errorf("%s passes for %s", what, other)
			}
		}
	}
}

func TestKillsIn(t *testing.T) {
	for outage, want := range map[time.Duration][]time.Duration{
		20 * time.Second: {firstKill},
		2 * time.Minute:  {firstKill, time.Minute},
		30 * time.Minute: {firstKill, 15 * time.Minute},
	} {
		if diff := cmp.Diff(want, killsIn(outage)); diff != "" {
			t.Errorf("%s: %s", outage, diff)
		}
	}
}

func TestArms(t *testing.T) {
	arms := Arms(2*time.Minute, time.Minute, Size{Main: 500, Others: 60, MainControl: 50, OtherControl: 20})
	names, heals := map[string]bool{}, map[time.Duration]bool{}
	for _, a := range arms {
		names[a.Name], heals[a.Timing.heal()] = true, true
		if a.Timing.Outage != 2*time.Minute || a.Orders < 60 || a.Control < 20 || !a.MustLose {
			t.Errorf("%+v", a)
		}
	}
	if len(names) != 5 || len(heals) != 5 {
		t.Errorf("%d names, %d ends of outages", len(names), len(heals))
	}
	if got := fmt.Sprint(arms[0].Name, arms[0].Orders); got != "blackout500" && got != "blackout 500" {
		t.Errorf("the main arm is %s", got)
	}
}
