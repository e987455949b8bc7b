package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/terminal"
)

// verdict is how a stage ended.
type verdict string

const (
	passed      verdict = "passed"
	broke       verdict = "FAILED"
	interrupted verdict = "interrupted"
	notRun      verdict = "not run"
)

// styled makes what is not well stand out.
func (v verdict) styled(style terminal.Style) string {
	switch v {
	case broke:
		return style.Error(string(v))
	case interrupted, notRun:
		return style.Warning(string(v))
	default:
		return string(v)
	}
}

// outcome is what became of a stage.
type outcome struct {
	Stage    string   `json:"stage"`
	Verdict  verdict  `json:"verdict"`
	Took     string   `json:"took"`
	Facts    string   `json:"facts,omitempty"` // in one line
	Problems []string `json:"problems,omitempty"`
	Pictures []string `json:"pictures,omitempty"` // files in the folder
	Files    []string `json:"files,omitempty"`    // further files in it

	text func(w io.Writer, style terminal.Style, utf8 bool) error // for the terminal
}

// fail notes an error, if there is one. The end of ctx is no error here: the code that
// ended it reports that.
func (o *outcome) fail(ctx context.Context, err error) {
	if err != nil && !errors.Is(err, context.Cause(ctx)) {
		o.Problems = append(o.Problems, err.Error())
	}
}

// stage is one of the tests.
type stage struct {
	name  string
	about time.Duration
	// run runs it and reports progress to c. It returns soon after ctx ends, with what
	// it knows by then.
	run func(ctx context.Context, c *console, dir string) outcome
}

// errTimeUp is why a stage ends when the total is used up.
var errTimeUp = errors.New("the time for it all is up")

// stages are those that the settings want.
func (s settings) stages() []stage {
	var all []stage
	if s.blackout > 0 {
		all = append(all, blackoutStage(s))
	}
	if s.memory > 0 {
		all = append(all, memoryStage(s))
	}
	if s.seals > 0 {
		all = append(all, sealsStage(s))
	}
	if s.hostile > 0 {
		all = append(all, hostileStage(s))
	}
	return all
}

// run runs all stages, one after the other, and writes the report. It reports
// whether all passed.
func run(ctx context.Context, s settings, out io.Writer) (ok bool, err error) {
	root, err := filepath.Abs(s.root)
	if err != nil {
		return false, fmt.Errorf("find the repository: %w", err)
	}
	if _, err := os.Stat(filepath.Join(root, "envelope")); err != nil {
		return false, fmt.Errorf("%s is not the repository (-root): %w", root, err)
	}
	s.root = root
	if s.out == "" {
		s.out = filepath.Join(root, "build", "soak")
	}
	if err := os.MkdirAll(s.out, 0o750); err != nil {
		return false, fmt.Errorf("make the folder for the report: %w", err)
	}
	return runStages(ctx, s, s.stages(), out)
}

func runStages(ctx context.Context, s settings, stages []stage, out io.Writer) (ok bool, err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, s.total, errTimeUp)
	defer cancel()
	c := &console{w: out, tty: terminal.Is(out), style: terminal.StyleFor(out, os.LookupEnv)}
	began := time.Now()
	c.print(plan(stages, s))
	stop := c.show()
	defer stop()
	var outcomes []outcome
	for i, st := range stages {
		o := outcome{Stage: st.name, Verdict: notRun}
		if bounded.Err() == nil {
			c.begin(fmt.Sprintf("[%d/%d] %s", i+1, len(stages), st.name), st.about)
			since := time.Now()
			o = st.run(bounded, c, s.out)
			o.Stage, o.Took = st.name, minutes(time.Since(since))
			if bounded.Err() != nil && o.Verdict != passed {
				o.Verdict = interrupted
				o.Problems = append(o.Problems, "ended before its time: "+context.Cause(bounded).Error())
			}
			c.print(fmt.Sprintf("%s: %s after %s\n", st.name, o.Verdict.styled(c.style), o.Took))
			if i+1 < len(stages) && bounded.Err() == nil {
				c.print(o.problemLines(c.style)) // the summary may be hours away
			}
		}
		outcomes = append(outcomes, o)
	}
	stop()
	sum := summary{Began: began.UTC(), Took: minutes(time.Since(began)), Machine: machine(), Stages: outcomes}
	err = errors.Join(sum.print(out, c.style, terminal.UTF8(os.LookupEnv)), sum.save(s.out))
	fmt.Fprintf(out, "\nReport: %s\n", filepath.Join(s.out, reportFile))
	return sum.passed(), err
}

// plan says what is going to happen.
func plan(stages []stage, s settings) string {
	var each []string
	var about time.Duration
	for _, st := range stages {
		each = append(each, st.name+" for about "+minutes(st.about))
		about += st.about
	}
	return fmt.Sprintf("soak: %s; %s in all, %s at most.\nCtrl-C ends it and reports what is known.\n", strings.Join(each, ", "), minutes(about), minutes(s.total))
}
