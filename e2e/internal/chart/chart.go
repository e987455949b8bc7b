package chart

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Colours, after Okabe and Ito, "Color Universal Design" (2008).
const (
	Blue   = "#0072b2"
	Red    = "#d55e00"
	Green  = "#009e73"
	Yellow = "#e69f00"
	Purple = "#a0568a"
	Grey   = "#6b7280"
)

// Chart is panels above each other, on one time axis.
type Chart struct {
	Title    string
	Subtitle string // below, smaller; up to two lines
	Panels   []Panel
	Bands    []Band
}

// Panel is one scale with its lines.
type Panel struct {
	Title  string // what the scale counts, and its unit
	Series []Series
	// Format writes a number beside the scale; whole numbers in groups of three if nil.
	Format func(float64) string
	// Mark is a level that is drawn across, with its name; none if its name is empty.
	Mark     float64
	MarkName string
}

// Series is one line.
type Series struct {
	Name   string
	Color  string
	Fill   bool // the area below it too, lightly
	Points []Point
}

// Point is a value, T seconds after the start.
type Point struct{ T, V float64 }

// Band is a time in which something was so.
type Band struct {
	From, To float64 // seconds
	Name     string
}

// The layout, in pixels.
const (
	width       = 960
	left        = 76
	right       = 170 // for the names of lines, at their ends
	top         = 104
	panelHeight = 168
	panelGap    = 52
	bottom      = 52
	plotWidth   = width - left - right
	nameHeight  = 17
)

// scale maps values to pixels.
type scale struct {
	t0, t1 float64
	most   float64
	y      float64 // of zero
}

func (s scale) x(t float64) float64 { return left + (t-s.t0)/(s.t1-s.t0)*plotWidth }
func (s scale) h(v float64) float64 { return s.y - v/s.most*panelHeight }

// SVG returns the drawing.
func (c Chart) SVG() []byte {
	var b strings.Builder
	height := top + len(c.Panels)*(panelHeight+panelGap) - panelGap + bottom
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	text(&b, left, 34, 19, "#111827", "start", "600", c.Title)
	for i, line := range strings.Split(c.Subtitle, "\n") {
		text(&b, left, 56+18*float64(i), 13, Grey, "start", "400", line)
	}
	t0, t1 := c.span()
	for i, p := range c.Panels {
		s := scale{t0: t0, t1: t1, most: p.most(), y: float64(top + i*(panelHeight+panelGap) + panelHeight)}
		c.bands(&b, s, i == 0)
		p.draw(&b, s)
		times(&b, s, i == len(c.Panels)-1)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// span is the time that the panels show: from nothing to the last point.
func (c Chart) span() (from, to float64) {
	for _, p := range c.Panels {
		for _, s := range p.Series {
			for _, at := range s.Points {
				to = max(to, at.T)
			}
		}
	}
	return 0, max(to, 1)
}

func (c Chart) bands(b *strings.Builder, s scale, named bool) {
	for _, band := range c.Bands {
		x0, x1 := s.x(max(band.From, s.t0)), s.x(min(band.To, s.t1))
		if x1 <= x0 {
			continue
		}
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="#fde8d7"/>`+"\n", x0, s.y-panelHeight, x1-x0, panelHeight)
		for _, x := range []float64{x0, x1} {
			line(b, x, s.y-panelHeight, x, s.y, Red, 1, "3 3")
		}
		if named {
			text(b, (x0+x1)/2, s.y-panelHeight+14, 12, "#9a3f00", "middle", "600", band.Name)
		}
	}
}

// most is the top of the scale: a round number at or above all values.
func (p Panel) most() float64 {
	most := 0.0
	for _, s := range p.Series {
		for _, at := range s.Points {
			most = max(most, at.V)
		}
	}
	if p.MarkName != "" {
		most = max(most, p.Mark)
	}
	if most <= 0 {
		return 1
	}
	step := niceStep(most)
	return math.Ceil(most*1.02/step) * step
}

// niceStep is a distance between ticks that people count in: 1, 2 or 5 times a
// power of ten, for four to eight ticks below most.
func niceStep(most float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, m := range []float64{1, 2, 5} {
		if most/(m*power) <= 5 {
			return m * power
		}
	}
	return 10 * power
}

func (p Panel) draw(b *strings.Builder, s scale) {
	format := p.Format
	if format == nil {
		format = grouped
	}
	text(b, left, s.y-panelHeight-7, 12.5, "#374151", "start", "600", p.Title)
	for v, step := 0.0, niceStep(s.most); v <= s.most*1.001; v += step {
		line(b, left, s.h(v), left+plotWidth, s.h(v), "#d1d5db", 1, "")
		text(b, left-8, s.h(v)+4, 11.5, Grey, "end", "400", format(v))
	}
	if p.MarkName != "" {
		line(b, left, s.h(p.Mark), left+plotWidth, s.h(p.Mark), Purple, 1.2, "6 4")
		text(b, left+6, s.h(p.Mark)-5, 11.5, Purple, "start", "400", p.MarkName)
	}
	for _, series := range p.Series {
		series.draw(b, s)
	}
	p.names(b, s)
}

func (series Series) draw(b *strings.Builder, s scale) {
	if len(series.Points) == 0 {
		return
	}
	var path strings.Builder
	for _, at := range series.Points {
		fmt.Fprintf(&path, " %.1f,%.1f", s.x(at.T), s.h(at.V))
	}
	points := strings.TrimSpace(path.String())
	if series.Fill {
		first, last := series.Points[0], series.Points[len(series.Points)-1]
		fmt.Fprintf(b, `<polygon points="%.1f,%.1f %s %.1f,%.1f" fill="%s" fill-opacity="0.14"/>`+"\n", s.x(first.T), s.y, points, s.x(last.T), s.y, series.Color)
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round"/>`+"\n", points, series.Color)
}

// names writes the name of each line where it ends, as near as the others let it.
func (p Panel) names(b *strings.Builder, s scale) {
	type label struct {
		Series
		y float64
	}
	var labels []label
	for _, series := range p.Series {
		if n := len(series.Points); n > 0 {
			labels = append(labels, label{series, s.h(series.Points[n-1].V)})
		}
	}
	slices.SortStableFunc(labels, func(a, b label) int { return int(a.y - b.y) })
	at := make([]float64, len(labels))
	lowest := s.y
	for i := len(labels) - 1; i >= 0; i-- { // from the bottom up, none below the axis
		at[i] = min(labels[i].y, lowest)
		lowest = at[i] - nameHeight
	}
	if len(at) > 0 && at[0] < s.y-panelHeight+nameHeight/2 { // and none above the panel
		at[0] = s.y - panelHeight + nameHeight/2
		for i := 1; i < len(at); i++ {
			at[i] = max(at[i], at[i-1]+nameHeight)
		}
	}
	for i, l := range labels {
		x := float64(left + plotWidth)
		line(b, x+3, l.y, x+9, at[i], l.Color, 1, "")
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", s.x(l.Points[len(l.Points)-1].T), l.y, l.Color)
		text(b, x+13, at[i]+4, 12, l.Color, "start", "600", l.Name)
	}
}

// times draws the time axis; the last panel has the numbers.
func times(b *strings.Builder, s scale, numbers bool) {
	line(b, left, s.y, left+plotWidth, s.y, "#4b5563", 1.2, "")
	step := timeStep(s.t1 - s.t0)
	for t := s.t0; t <= s.t1; t += step {
		line(b, s.x(t), s.y, s.x(t), s.y+5, "#4b5563", 1.2, "")
		if numbers {
			text(b, s.x(t), s.y+20, 11.5, Grey, "middle", "400", clock(t))
		}
	}
	if numbers {
		unit := "minutes:seconds"
		if s.t1 >= 3600 {
			unit = "hours:minutes:seconds"
		}
		text(b, left+plotWidth/2, s.y+40, 12, Grey, "middle", "400", "time since the start, "+unit)
	}
}

// timeStep is a distance between ticks that clocks have, for up to ten of them.
func timeStep(span float64) float64 {
	steps := []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600}
	for _, step := range steps {
		if span/step <= 10 {
			return step
		}
	}
	return steps[len(steps)-1]
}

func clock(seconds float64) string {
	s := int(seconds)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// grouped writes a number in groups of three digits.
func grouped(v float64) string {
	if v != math.Trunc(v) {
		return fmt.Sprintf("%.3g", v)
	}
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func line(b *strings.Builder, x0, y0, x1, y1 float64, color string, wide float64, dashes string) {
	if dashes != "" {
		dashes = ` stroke-dasharray="` + dashes + `"`
	}
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"%s/>`+"\n", x0, y0, x1, y1, color, wide, dashes)
}

func text(b *strings.Builder, x, y, size float64, color, anchor, weight, what string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" font-size="%g" fill="%s" text-anchor="%s" font-weight="%s">%s</text>`+"\n", x, y, size, color, anchor, weight, html.EscapeString(what))
}
