package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/waxseal/waxseal/e2e/blackout"
)

const (
	// finish bounds how long workflows may take to end when the KMS is back.
	finish = 3 * time.Minute
	// blackoutRest is what a blackout takes besides the outage, roughly.
	blackoutRest = 2 * time.Minute
)

func blackoutStage(s settings) stage {
	return stage{name: "blackout", about: s.blackout + blackoutRest, run: func(ctx context.Context, c *console, dir string) outcome {
		others := max(s.workflows/5, 10)
		report, err := blackout.Run(ctx, blackout.Config{
			Arms: blackout.Arms(s.blackout, finish, blackout.Size{Main: s.workflows, Others: others, MainControl: max(s.workflows/8, 10), OtherControl: max(others/5, 10)}),
			Progress: func(p blackout.Progress) {
				c.say(blackoutLine(p))
			},
		})
		o := outcome{Verdict: passed}
		o.fail(ctx, err)
		if report != nil {
			o.tellBlackout(report, dir)
		}
		if err != nil || len(o.Problems) > 0 {
			o.Verdict = broke
		}
		return o
	}}
}

// blackoutLine says how far a blackout is.
func blackoutLine(p blackout.Progress) string {
	if len(p.Lanes) == 0 {
		return p.Phase
	}
	var open, held, done int
	for _, l := range p.Lanes {
		if !l.Control {
			open, held, done = open+l.Sample.Open, held+l.Held, done+l.Done
		}
	}
	return fmt.Sprintf("%s: %d open, %d held, %d done", p.Phase, open, held, done)
}

// tellBlackout fills in what a report says, and writes its files.
func (o *outcome) tellBlackout(report *blackout.Report, dir string) {
	o.text = report.Write
	o.Problems = append(o.Problems, report.Problems()...)
	var workflows, right, held, lost, controls int
	var worst blackout.Seconds
	save := func(name string, data []byte, err error) bool {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			o.Problems = append(o.Problems, fmt.Sprintf("write %s: %v", name, err))
		}
		return err == nil
	}
	for _, l := range report.Lanes {
		if l.Control {
			controls, lost = controls+l.Workflows, lost+l.Lost()
			continue
		}
		workflows, right, held = workflows+l.Workflows, right+l.Right, held+l.Tasks.N
		worst = max(worst, l.Tasks.Max, l.Activity.Max)
		if name := "blackout-" + l.Arm + ".svg"; save(name, report.Timeline(l.Arm), nil) {
			o.Pictures = append(o.Pictures, name)
		}
	}
	if !report.Interrupted {
		o.Facts = fmt.Sprintf("%d of %d workflows right, %d held, all went on within %.1f s; plain codec lost %d of %d", right, workflows, held, worst, lost, controls)
	}
	const file = "blackout.json"
	data, err := json.MarshalIndent(report, "", " ")
	if save(file, data, err) {
		o.Files = append(o.Files, file)
	}
}
