package blackout

import (
	"fmt"
	"io"
	"strconv"

	"github.com/waxseal/waxseal/internal/terminal"
)

// columns is how wide sparklines are.
const columns = 60

// Write writes the report for people: a table, and for each arm its timeline as
// sparklines, in ASCII unless utf8.
func (r *Report) Write(w io.Writer, style terminal.Style, utf8 bool) error {
	table := terminal.Table{Header: []string{"OUTAGE", "CODEC", ">WORKFLOWS", ">RIGHT", ">LOST", ">HELD", ">BACK P50", ">P99", ">MAX", ">WITHOUT QUEUE", ">ACTIVITIES"}}
	for _, l := range r.Lanes {
		name := "waxseal"
		if l.Control {
			name = "plain"
		}
		lost := strconv.Itoa(l.Lost())
		if l.Untold > 0 {
			lost = "?"
		}
		table.Row(l.Arm, name, strconv.Itoa(l.Workflows), strconv.Itoa(l.Right), lost, strconv.Itoa(l.Tasks.N),
			span(l.Tasks, l.Tasks.P50), span(l.Tasks, l.Tasks.P99), span(l.Tasks, l.Tasks.Max), span(l.Ours, l.Ours.Max), span(l.Activity, l.Activity.Max))
	}
	if err := table.Write(w, style); err != nil {
		return err
	}
	for _, l := range r.Lanes {
		if err := l.sparklines(w, style, utf8); err != nil {
			return err
		}
	}
	return nil
}

// span writes one number of a Spread, nothing if there was nothing to measure.
func span(of Spread, s Seconds) string {
	if of.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f s", s)
}

func (l *Lane) sparklines(w io.Writer, style terminal.Style, utf8 bool) error {
	if l.Control || len(l.Samples) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", style.Bold(fmt.Sprintf("%s: %d workflows, KMS %s from %s to %s", l.Arm, l.Workflows, l.Mode, clock(l.Cut), clock(l.Healed)))); err != nil {
		return err
	}
	last := l.Samples[len(l.Samples)-1].T
	outage := make([]int, len(l.Samples))
	for i, s := range l.Samples {
		if s.T >= l.Cut && s.T < l.Healed {
			outage[i] = 1
		}
	}
	lines := []struct {
		name   string
		values []int
	}{
		{"outage", outage},
		{"in flight", l.each(func(s, _ Sample) int { return s.Open })},
		{"tasks held", l.each(func(s, _ Sample) int { return s.Held })},
		{"KMS errors/s", l.each(func(s, before Sample) int {
			return int(s.KMSErrors + s.KMSRejected - before.KMSErrors - before.KMSRejected)
		})},
		{"completed", l.each(func(s, _ Sample) int { return s.Done })},
	}
	for _, line := range lines {
		most := 0
		for i, v := range line.values {
			line.values[i] = max(v, 0)
			most = max(most, v)
		}
		right := fmt.Sprintf("most %d", most)
		if line.name == "outage" {
			right = "0:00 to " + clock(last)
		}
		if _, err := fmt.Fprintf(w, "  %-13s %s  %s\n", line.name, terminal.Sparkline(line.values, columns, utf8), right); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lane) each(value func(s, before Sample) int) []int {
	out := make([]int, len(l.Samples))
	var before Sample
	for i, s := range l.Samples {
		out[i], before = value(s, before), s
	}
	return out
}

func clock(s Seconds) string { return fmt.Sprintf("%d:%02d", int(s)/60, int(s)%60) }
