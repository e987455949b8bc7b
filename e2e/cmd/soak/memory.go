package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/waxseal/waxseal/e2e/internal/chart"
)

const (
	memoryReport  = "memory.jsonl"
	memoryPicture = "memory.svg"
	mebibyte      = 1 << 20
	// memoryRest is for what the test does before and after.
	memoryRest = 5 * time.Minute
)

// memorySample is one line that the test of memory writes.
type memorySample struct {
	T          float64 `json:"t"` // seconds since its start
	Heap       float64 `json:"heap_bytes"`
	RSS        float64 `json:"rss_bytes"`
	Goroutines float64 `json:"goroutines"`
	Seals      float64 `json:"seals"` // so far, as are the next two
	Opens      float64 `json:"opens"`
	Errors     float64 `json:"errors"`
}

func memoryStage(s settings) stage {
	return stage{name: "memory", about: s.memory, run: func(ctx context.Context, c *console, dir string) outcome {
		report := filepath.Join(dir, memoryReport)
		o := outcome{Verdict: passed}
		if err := os.Remove(report); err != nil && !os.IsNotExist(err) {
			o.fail(ctx, err)
		}
		err := goTest{
			pkg: "codec", run: "^TestMemoryStaysFlat$", within: s.memory + memoryRest,
			env: []string{"WAXSEAL_SOAK=1", "WAXSEAL_SOAK_TIME=" + s.memory.String(), "WAXSEAL_SOAK_REPORT=" + report},
		}.follow(ctx, s.root, dir, func() {
			if samples, err := readMemory(report); err == nil && len(samples) > 0 {
				last := samples[len(samples)-1]
				c.say(fmt.Sprintf("heap %.0f MiB, resident %.0f MiB", last.Heap/mebibyte, last.RSS/mebibyte))
			}
		})
		o.fail(ctx, err)
		o.tellMemory(dir)
		if err != nil || len(o.Problems) > 0 {
			o.Verdict = broke
		}
		return o
	}}
}

// readMemory reads what the test has written so far; a line that is not whole yet
// is left out.
func readMemory(file string) ([]memorySample, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var samples []memorySample
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var s memorySample
		if json.Unmarshal(lines.Bytes(), &s) == nil {
			samples = append(samples, s)
		}
	}
	return samples, nil
}

// tellMemory fills in what the test wrote, and draws it.
func (o *outcome) tellMemory(dir string) {
	samples, err := readMemory(filepath.Join(dir, memoryReport))
	if err != nil || len(samples) == 0 {
		o.Problems = append(o.Problems, fmt.Sprintf("the test of memory left no samples: %v", err))
		return
	}
	o.Files = append(o.Files, memoryReport)
	o.Facts = fmt.Sprintf("%s; heap %.1f MiB in the first third, %.1f MiB in the last (medians)", operations(samples), medianHeap(samples[:(len(samples)+2)/3]), medianHeap(samples[len(samples)*2/3:]))
	if err := os.WriteFile(filepath.Join(dir, memoryPicture), drawMemory(samples), 0o600); err != nil {
		o.Problems = append(o.Problems, err.Error())
		return
	}
	o.Pictures = append(o.Pictures, memoryPicture)
}

// operations says what was done until the last sample.
func operations(samples []memorySample) string {
	last := samples[len(samples)-1]
	return fmt.Sprintf("%.2f million seals, %.2f million opens, %.4f million refused by a KMS that fails on purpose", last.Seals/1e6, last.Opens/1e6, last.Errors/1e6)
}

// medianHeap returns the median of the heap, in MiB.
func medianHeap(samples []memorySample) float64 {
	heaps := make([]float64, len(samples))
	for i, s := range samples {
		heaps[i] = s.Heap / mebibyte
	}
	slices.Sort(heaps)
	return heaps[len(heaps)/2]
}

func drawMemory(samples []memorySample) []byte {
	line := func(name, color string, value func(s, before memorySample) float64) chart.Series {
		out := chart.Series{Name: name, Color: color}
		before := samples[0]
		for _, s := range samples {
			out.Points = append(out.Points, chart.Point{T: s.T, V: max(value(s, before), 0)})
			before = s
		}
		return out
	}
	perSecond := func(now, before, t float64) float64 {
		if t <= 0 {
			return 0
		}
		return (now - before) / t
	}
	heap := line("heap", chart.Blue, func(s, _ memorySample) float64 { return s.Heap / mebibyte })
	heap.Fill = true
	return chart.Chart{
		Title:    "Memory while 64 goroutines seal and open",
		Subtitle: operations(samples),
		Panels: []chart.Panel{
			{Title: "Memory, MiB", Series: []chart.Series{heap, line("resident", chart.Purple, func(s, _ memorySample) float64 { return s.RSS / mebibyte })}},
			{Title: "Operations per second", Series: []chart.Series{
				line("seals", chart.Green, func(s, b memorySample) float64 { return perSecond(s.Seals, b.Seals, s.T-b.T) }),
				line("opens", chart.Yellow, func(s, b memorySample) float64 { return perSecond(s.Opens, b.Opens, s.T-b.T) }),
			}},
			{Title: "Goroutines", Series: []chart.Series{line("goroutines", chart.Grey, func(s, _ memorySample) float64 { return s.Goroutines })}},
		},
	}.SVG()
}
