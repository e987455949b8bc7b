package blackout

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// good is a report with nothing wrong in it.
func good() *Report {
	lane := func(control bool) *Lane {
		l := &Lane{
			Arm: "blackout", Mode: "unreachable", Cut: 20, Healed: 60, Control: control, MustHold: !control, MustWait: !control, MustLose: control,
			Workflows: 10, Right: 10, InFlight: 10, Tasks: Spread{N: 6, P50: 4, P99: 17, Max: 17, Last: "order-0003"}, Ours: Spread{N: 6, P50: 4, P99: 7, Max: 7, Last: "order-0003"}, Activity: Spread{N: 2, P50: 3, P99: 4, Max: 4},
		}
		if control {
			l.Right, l.Failed, l.Open, l.Tasks, l.Ours = 3, 6, 1, Spread{}, Spread{}
		}
		for t := range 90 {
			s := Sample{T: Seconds(t), Open: 10, Counts: Counts{KMSCalls: int64(t * 3)}}
			if t >= 20 && t < 60 {
				s.Held = 6
			}
			if t >= 20 {
				s.KMSErrors, s.KMSRejected = int64(min(t, 60)-20), int64(10*(min(t, 60)-20))
			}
			if t > 70 {
				s.Open, s.Done = 0, 10
			}
			l.Samples = append(l.Samples, s)
		}
		return l
	}
	return &Report{Took: 90, Lanes: []*Lane{lane(false), lane(true)}}
}

func TestProblems(t *testing.T) {
	for _, tc := range []struct {
		name string
		harm func(r *Report)
		want []string
	}{
		{"none", func(*Report) {}, nil},
		{"a workflow is wrong", func(r *Report) {
			r.Lanes[0].Right, r.Lanes[0].Wrong, r.Lanes[0].Examples = 9, 1, []string{"order-0007 lost a signal"}
		}, []string{"1 of 10 workflows are lost (1 wrong, 0 failed, 0 open, 0 not started)", "order-0007 lost a signal"}},
		{"a workflow is open", func(r *Report) { r.Lanes[0].Right, r.Lanes[0].Open = 9, 1 }, []string{"1 open"}},
		{"nobody was held", func(r *Report) {
			for i := range r.Lanes[0].Samples {
				r.Lanes[0].Samples[i].Held = 0
			}
		}, []string{"held no workflow, so it proves nothing"}},
		{"nobody was held in the outage", func(r *Report) {
			for i := range r.Lanes[0].Samples {
				s := &r.Lanes[0].Samples[i]
				s.Held = 6 - s.Held
			}
			r.Lanes[0].Trickles = true
		}, []string{"held no workflow, so it proves nothing"}},
		{"nobody was held in the end", func(r *Report) { r.Lanes[0].Tasks = Spread{} }, []string{"held no workflow until its end"}},
		{"nobody was, by a KMS that trickles", func(r *Report) { r.Lanes[0].Tasks, r.Lanes[0].Trickles = Spread{}, true }, nil},
		{"the KMS failed nobody", func(r *Report) {
			for i := range r.Lanes[0].Samples {
				if s := &r.Lanes[0].Samples[i]; s.T < 60 {
					s.KMSErrors = 3 // before the outage
				}
			}
		}, []string{"the KMS failed nobody, so the outage proves nothing"}},
		{"the KMS failed nobody of the control", func(r *Report) {
			for i := range r.Lanes[1].Samples {
				r.Lanes[1].Samples[i].KMSErrors = 0
			}
		}, nil},
		{"some ended in the outage", func(r *Report) { r.Lanes[0].InFlight = 9 }, []string{"9 of 10 workflows were in flight"}},
		{"some of the control did", func(r *Report) { r.Lanes[1].InFlight = 4 }, nil},
		{"no activity was pending", func(r *Report) { r.Lanes[0].Activity = Spread{} }, []string{"no activity was pending"}},
		{"none need be", func(r *Report) { r.Lanes[0].Activity, r.Lanes[0].MustWait = Spread{}, false }, nil},
		{"long in the queue", func(r *Report) { r.Lanes[0].Tasks.Max = 60 }, nil},
		{"longer than any queue", func(r *Report) { r.Lanes[0].Tasks.Max = 60.1 }, []string{"held workflows, the server's queue included, went on up to 60.1 s after the KMS was back, want 1m0s (order-0003"}},
		{"late tasks", func(r *Report) { r.Lanes[0].Ours.Max = 10.1 }, []string{"held workflows went on up to 10.1 s", "order-0003"}},
		{"late activities", func(r *Report) { r.Lanes[0].Activity.Max = 60 }, []string{"pending activities went on up to 60.0 s"}},
		{"the control lost nothing", func(r *Report) { r.Lanes[1].Failed, r.Lanes[1].Right, r.Lanes[1].Open = 0, 6, 4 }, []string{"lost none of 10 workflows"}},
		{"a control that may", func(r *Report) { r.Lanes[1].Failed, r.Lanes[1].Right, r.Lanes[1].MustLose = 0, 10, false }, nil},
		{"a control is late", func(r *Report) { r.Lanes[1].Ours.Max = 60 }, nil},
		{"interrupted", func(r *Report) { r.Interrupted, r.Lanes[0].Right, r.Lanes[0].Untold = true, 0, 10 }, []string{"interrupted"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := good()
			tc.harm(r)
			got := strings.Join(r.Problems(), "\n")
			if len(tc.want) == 0 && got != "" {
				t.Errorf("complains: %s", got)
			}
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("does not say %q: %s", want, got)
				}
			}
		})
	}
}

func TestTimeline(t *testing.T) {
	r := good()
	svg := r.Timeline("blackout")
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"10 workflows and a KMS that is unreachable for 40 s", "10 of 10 ended with the right result.<", "10 were in flight when the KMS came back, 6 of them held; half went on within 4.0 s, all within 17.0 s",
		"KMS unreachable", "in flight", "tasks held", "completed", "answered", "failed", "The control: 10 workflows", "failed",
	} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("does not say %q", want)
		}
	}
	r.Lanes[0].Untold, r.Lanes[0].Killed = 10, 2
	if svg := r.Timeline("blackout"); !bytes.Contains(svg, []byte("interrupted")) {
		t.Error("does not say that nobody looked")
	}
	r.Lanes[0].Untold = 0
	if svg := r.Timeline("blackout"); !bytes.Contains(svg, []byte("unreachable for 40 s, their worker killed meanwhile")) {
		t.Error("does not say that workers were killed")
	}
	// What was not called is no drop below zero when a process starts again.
	line := r.Lanes[0].series("x", "", func(s, before Sample) float64 { return float64(s.T) - 2*float64(before.T) })
	for _, p := range line.Points {
		if p.V < 0 {
			t.Fatalf("%+v", p)
		}
	}
}

func TestWrite(t *testing.T) {
	r := good()
	var out bytes.Buffer
	if err := r.Write(&out, false, true); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"OUTAGE    CODEC    WORKFLOWS  RIGHT  LOST  HELD  BACK P50     P99     MAX  WITHOUT QUEUE  ACTIVITIES\n",
		"blackout  waxseal         10     10     0     6     4.0 s  17.0 s  17.0 s          7.0 s       4.0 s\n",
		// One of the control is open still: it may be late, and is not lost.
		"blackout  plain           10      3     6     0         -       -       -              -       4.0 s\n",
		"blackout: 10 workflows, KMS unreachable from 0:20 to 1:00\n",
		"  outage        ▁▁▁▁▁▁▁▁▁▁▁▁▁█████",
		"  tasks held    ▁▁▁▁▁▁▁▁▁▁▁▁▁█████",
		"most 6\n", "  completed     ", "0:00 to 1:29\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		if n := len([]rune(line)); n > 100 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	r.Lanes[1].Untold = 3
	out.Reset()
	if err := r.Write(&out, false, true); err != nil || !strings.Contains(out.String(), "blackout  plain           10      3     ?") {
		t.Errorf("%v where nobody looked:\n%s", err, &out)
	}
	for room := range 3 {
		if err := r.Write(&full{room}, false, false); err == nil {
			t.Errorf("written where there is room for %d writes", room)
		}
	}
}

// full takes so many writes and no more.
type full struct{ room int }

func (f *full) Write(b []byte) (int, error) {
	if f.room--; f.room < 0 {
		return 0, errors.New("full")
	}
	return len(b), nil
}
