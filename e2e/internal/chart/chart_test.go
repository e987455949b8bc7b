package chart

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func sample() Chart {
	up := Series{Name: "up & <away>", Color: Blue, Fill: true}
	down := Series{Name: "down", Color: Red}
	for t := range 200 {
		up.Points = append(up.Points, Point{float64(t), float64(t * 10)})
		down.Points = append(down.Points, Point{float64(t), float64(1990 - t*10)})
	}
	return Chart{
		Title: `A "title"`, Subtitle: "and more\nand most",
		Panels: []Panel{{Title: "both", Series: []Series{up, down}, Mark: 1500, MarkName: "limit"}, {Title: "nothing"}},
		Bands:  []Band{{From: 50, To: 100, Name: "outage"}, {From: 300, To: 400, Name: "later"}},
	}
}

// texts returns what an SVG says, and fails unless it is XML.
func texts(t *testing.T, svg []byte) []string {
	t.Helper()
	var all []string
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			all = append(all, string(text))
		}
	}
}

func TestSVG(t *testing.T) {
	c := sample()
	svg := c.SVG()
	said := strings.Join(texts(t, svg), "|")
	for _, want := range []string{`A "title"`, "and more|and most", "up & <away>", "down", "both", "nothing", "outage", "limit", "0:00", "3:00", "2,000", "minutes:seconds"} {
		if !strings.Contains(said, want) {
			t.Errorf("does not say %q: %s", want, said)
		}
	}
	if strings.Contains(said, "later") {
		t.Error("names a band outside of the time shown")
	}
	// The line goes from the axis at the left to near the top at the right.
	points := regexp.MustCompile(`<polyline points="([^ ]+) .* ([^ ]+)" fill="none" stroke="#0072b2"`).FindStringSubmatch(string(svg))
	if want := fmt.Sprintf("%.1f,%.1f", float64(left), float64(top+panelHeight)); len(points) != 3 || points[1] != want {
		t.Fatalf("the line is %v, want it to begin at %s", points, want)
	}
	x, y, _ := strings.Cut(points[2], ",")
	if px, _ := strconv.ParseFloat(x, 64); px != left+plotWidth {
		t.Errorf("the line ends at x %s", x)
	}
	if py, _ := strconv.ParseFloat(y, 64); py < top || py > top+panelHeight/4 {
		t.Errorf("the line ends at y %s", y)
	}
}

func TestNothingToDraw(t *testing.T) {
	texts(t, Chart{}.SVG())
	texts(t, Chart{Panels: []Panel{{Series: []Series{{Name: "empty"}}}}}.SVG())
	texts(t, Chart{Panels: []Panel{{Series: []Series{{Name: "zero", Points: []Point{{0, 0}}}}}}}.SVG())
}

// TestNamesKeepApart has lines that end at one height: their names must not.
func TestNamesKeepApart(t *testing.T) {
	for _, at := range []float64{0, 50, 100} {
		var p Panel
		for i := range 5 {
			p.Series = append(p.Series, Series{Name: fmt.Sprintf("name-%d", i), Color: Grey, Points: []Point{{0, 100}, {1, at}}})
		}
		svg := string(Chart{Panels: []Panel{p}}.SVG())
		found := regexp.MustCompile(`y="([0-9.]+)"[^>]*>name-`).FindAllStringSubmatch(svg, -1)
		if len(found) != 5 {
			t.Fatalf("%d names", len(found))
		}
		before := -1.0
		for _, f := range found {
			y, err := strconv.ParseFloat(f[1], 64)
			if err != nil || before >= 0 && y-before < nameHeight || y < top-5 || y > top+panelHeight+10 {
				t.Errorf("at %g: a name at %g after one at %g", at, y, before)
			}
			before = y
		}
	}
}

func TestNiceStep(t *testing.T) {
	for most, want := range map[float64]float64{1: 0.2, 4: 1, 5: 1, 7: 2, 60: 20, 100: 20, 500: 100, 999: 200, 12_345: 5000} {
		if got := niceStep(most); got < want*0.999 || got > want*1.001 {
			t.Errorf("%g: %g, want %g", most, got, want)
		}
		if ticks := most / niceStep(most); ticks < 1 || ticks > 5.001 {
			t.Errorf("%g: %g ticks", most, ticks)
		}
	}
}

func TestTimes(t *testing.T) {
	for span, want := range map[float64]float64{5: 1, 100: 10, 200: 30, 2000: 300, 3600: 600, 1e6: 21600} {
		if got := timeStep(span); got != want {
			t.Errorf("%g s: a tick every %g s, want %g", span, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0:00", 61: "1:01", 3599: "59:59", 3661: "1:01:01"} {
		if got := clock(s); got != want {
			t.Errorf("%g: %s, want %s", s, got, want)
		}
	}
	if long := (Chart{Panels: []Panel{{Series: []Series{{Points: []Point{{7200, 1}}}}}}}).SVG(); !strings.Contains(string(long), "hours:minutes:seconds") {
		t.Error("two hours without hours")
	}
}

func TestGrouped(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", 0.25: "0.25"} {
		if got := grouped(v); got != want {
			t.Errorf("%g: %s, want %s", v, got, want)
		}
	}
}
