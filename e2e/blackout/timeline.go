package blackout

import (
	"fmt"

	"github.com/waxseal/waxseal/e2e/internal/chart"
)

// Timeline draws an arm: its workflows, the calls to its KMS, and its control.
func (r *Report) Timeline(arm string) []byte {
	var c chart.Chart
	for _, l := range r.Lanes {
		switch {
		case l.Arm != arm:
		case l.Control:
			c.Panels = append(c.Panels, chart.Panel{Title: fmt.Sprintf("The control: %d workflows with a plain codec that returns its errors", l.Workflows), Series: []chart.Series{
				l.series("in flight", chart.Blue, func(s, _ Sample) float64 { return float64(s.Open) }),
				l.series("completed", chart.Green, func(s, _ Sample) float64 { return float64(s.Done) }),
				l.series("failed", chart.Red, func(s, _ Sample) float64 { return float64(s.Failed) }),
			}})
		default:
			c.Title = fmt.Sprintf("%d workflows and a KMS that is %s for %.0f s", l.Workflows, l.Mode, l.Healed-l.Cut)
			if l.Killed > 0 {
				c.Title += ", their worker killed meanwhile"
			}
			c.Subtitle = l.headline()
			c.Bands = []chart.Band{{From: float64(l.Cut), To: float64(l.Healed), Name: "KMS " + l.Mode}}
			held := l.series("tasks held", chart.Red, func(s, _ Sample) float64 { return float64(s.Held) })
			held.Fill = true
			c.Panels = append([]chart.Panel{
				{Title: "Workflows sealed by Waxseal", Series: []chart.Series{
					held,
					l.series("in flight", chart.Blue, func(s, _ Sample) float64 { return float64(s.Open) }),
					l.series("completed", chart.Green, func(s, _ Sample) float64 { return float64(s.Done) }),
				}},
				{Title: "Their calls to the KMS per second; failed are also those not made, since it is known to be out", Series: []chart.Series{
					l.series("answered", chart.Green, func(s, before Sample) float64 {
						return float64(s.KMSCalls-s.KMSErrors) - float64(before.KMSCalls-before.KMSErrors)
					}),
					l.series("failed", chart.Red, func(s, before Sample) float64 {
						return float64(s.KMSErrors+s.KMSRejected) - float64(before.KMSErrors+before.KMSRejected)
					}),
				}},
			}, c.Panels...)
		}
	}
	return c.SVG()
}

// headline says in one line what became of the workflows.
func (l *Lane) headline() string {
	if l.Untold > 0 {
		return "interrupted: nobody looked what became of them"
	}
	text := fmt.Sprintf("%d of %d ended with the right result.\n%d were in flight when the KMS came back, %d of them held", l.Right, l.Workflows, l.InFlight, l.Tasks.N)
	if l.Tasks.N > 0 {
		text += fmt.Sprintf("; half went on within %.1f s, all within %.1f s", l.Tasks.P50, l.Tasks.Max)
	}
	return text
}

// series makes a line of a lane's samples; of each it gets the one before too.
func (l *Lane) series(name, color string, value func(s, before Sample) float64) chart.Series {
	out := chart.Series{Name: name, Color: color}
	var before Sample
	for _, s := range l.Samples {
		out.Points = append(out.Points, chart.Point{T: float64(s.T), V: max(value(s, before), 0)})
		before = s
	}
	return out
}
