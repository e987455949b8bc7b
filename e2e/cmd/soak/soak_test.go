package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/e2e/blackout"
	"github.com/waxseal/waxseal/internal/terminal"
)

func TestMain(m *testing.M) {
	if code, was := blackout.IsWorker(); was {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

func TestParse(t *testing.T) {
	long, short := defaults(), rehearsal()
	long.root, short.root = "..", ".."
	for _, tc := range []struct {
		name, args string
		want       func(settings) settings
		from       settings
		problem    string
	}{
		{"nothing told", "", nil, long, ""},
		{"short", "-short", nil, short, ""},
		{"short, and told", "-short -blackout 1m -workflows 7 -memory 0 -seals 0 -hostile 9 -total 5m", func(s settings) settings {
			s.blackout, s.workflows, s.memory, s.seals, s.hostile, s.total = time.Minute, 7, 0, 0, 9, 5*time.Minute
			return s
		}, short, ""},
		{"long, and told", "-seals 10000000 -out o -root r", func(s settings) settings {
			s.seals, s.out, s.root = sealsSuite, "o", "r"
			return s
		}, long, ""},
		{"odd seals", "-seals 7", nil, long, "-seals 7 is none of"},
		{"no time", "-total 0", nil, long, "must not be"},
		{"less than nothing", "-memory -1m", nil, long, "must not be"},
		{"argument", "now", nil, long, `unexpected argument "now"`},
		{"unknown flag", "-x", nil, long, "not defined"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse(strings.Fields(tc.args), io.Discard)
			if tc.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tc.problem) {
					t.Errorf("got %v, want %q", err, tc.problem)
				}
				return
			}
			want := tc.from
			if tc.want != nil {
				want = tc.want(want)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(settings{})); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
	var help bytes.Buffer
	if _, err := parse([]string{"-help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-blackout long") {
		t.Errorf("help is %v:\n%s", err, &help)
	}
}

func TestCommandErrors(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-help"}, 0, "make soak"},
		{[]string{"-nonsense"}, 2, "not defined"},
		{[]string{"-root", t.TempDir()}, 1, "is not the repository"},
		{[]string{"-root", filepath.Join("..", "..", ".."), "-out", "/dev/null/x"}, 1, "make the folder"},
	} {
		var stderr bytes.Buffer
		if code := command(t.Context(), tc.args, io.Discard, &stderr); code != tc.code || !strings.Contains(stderr.String(), tc.want) {
			t.Errorf("%q: exit code %d, want %d\n%s", tc.args, code, tc.code, &stderr)
		}
	}
}

func TestStagesWanted(t *testing.T) {
	for _, tc := range []struct {
		s    settings
		want []string
	}{
		{defaults(), []string{"blackout", "memory", "seals", "hostile"}},
		{settings{memory: time.Minute}, []string{"memory"}},
		{settings{hostile: 1}, []string{"hostile"}},
		{settings{}, nil},
	} {
		var got []string
		for _, st := range tc.s.stages() {
			got = append(got, st.name)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func picture(dir, name string) string {
	if err := os.WriteFile(filepath.Join(dir, name), []byte("<svg>drawn</svg>"), 0o600); err != nil {
		panic(err)
	}
	return name
}

// TestRunStages runs stages that pass, fail and take too long.
func TestRunStages(t *testing.T) {
	good := stage{"good", time.Minute, func(_ context.Context, c *console, dir string) outcome {
		c.say("all is well")
		return outcome{Verdict: passed, Facts: "1 <figure>", Pictures: []string{picture(dir, "a.svg")}}
	}}
	bad := stage{"bad", time.Minute, func(context.Context, *console, string) outcome {
		return outcome{Verdict: broke, Problems: []string{"it <broke>"}, text: func(w io.Writer, _ terminal.Style, _ bool) error {
			_, err := io.WriteString(w, "details\n")
			return err
		}}
	}}
	long := stage{"long", time.Minute, func(ctx context.Context, _ *console, _ string) outcome {
		<-ctx.Done()
		return outcome{Verdict: broke}
	}}
	for _, tc := range []struct {
		name     string
		stages   []stage
		ok       bool
		verdicts []verdict
		says     []string
	}{
		{"all pass", []stage{good, good}, true, []verdict{passed, passed}, []string{"TEST", "good", "1 <figure>", "[2/2] good"}},
		{"one fails", []stage{bad, good}, false, []verdict{broke, passed}, []string{"details", "problem: bad: it <broke>", "problem: bad: it <broke>\n[2/2] good"}},
		{"time is up", []stage{good, long, good}, false, []verdict{passed, interrupted, notRun}, []string{"the time for it all is up", "not run"}},
		{"none", nil, false, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				ok, err := runStages(t.Context(), settings{total: time.Hour, out: dir}, tc.stages, &out)
				if ok != tc.ok || err != nil {
					t.Errorf("ended with %v, %v", ok, err)
				}
				for _, want := range append(tc.says, "Ctrl-C", filepath.Join(dir, reportFile)) {
					if !strings.Contains(out.String(), want) {
						t.Errorf("does not say %q:\n%s", want, &out)
					}
				}
			})
			var s summary
			data, err := os.ReadFile(filepath.Join(dir, summaryFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &s); err != nil {
				t.Fatal(err)
			}
			var got []verdict
			for _, o := range s.Stages {
				got = append(got, o.Verdict)
			}
			if diff := cmp.Diff(tc.verdicts, got); diff != "" {
				t.Error(diff)
			}
			html, err := os.ReadFile(filepath.Join(dir, reportFile))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range s.Stages {
				if len(o.Pictures) > 0 && !bytes.Contains(html, []byte("<svg>drawn</svg>")) || len(o.Problems) > 0 && bytes.Contains(html, []byte("<broke>")) {
					t.Errorf("the report lacks a picture, or takes text for HTML:\n%s", html)
				}
			}
		})
	}
}

// TestInterrupted ends a stage as Ctrl-C does.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	st := stage{"long", time.Minute, func(ctx context.Context, _ *console, _ string) outcome {
		cancel()
		<-ctx.Done()
		o := outcome{Verdict: broke, Facts: "half of it"}
		o.fail(ctx, nil)
		o.fail(ctx, fmt.Errorf("the stage: %w", context.Cause(ctx)))
		o.fail(ctx, errors.New("a server did not end"))
		return o
	}}
	var out bytes.Buffer
	if ok, err := runStages(ctx, settings{total: time.Hour, out: t.TempDir()}, []stage{st}, &out); ok || err != nil {
		t.Errorf("ended with %v, %v", ok, err)
	}
	if text := out.String(); !strings.Contains(text, "interrupted") || !strings.Contains(text, "half of it") ||
		!strings.Contains(text, "a server did not end") || strings.Count(text, "context canceled") != 1 {
		t.Errorf("says\n%s", &out)
	}
}

func TestSaveFails(t *testing.T) {
	if err := (summary{}).save(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("saved in a folder that is not there")
	}
	if err := (summary{Stages: []outcome{{Pictures: []string{"absent.svg"}}}}).save(t.TempDir()); err == nil || !strings.Contains(err.Error(), "absent.svg") {
		t.Errorf("a report without its picture: %v", err)
	}
}

func TestConsole(t *testing.T) {
	for _, tc := range []struct {
		name string
		tty  bool
		want string
	}{
		{"terminal", true, "\r[1/1] x  0:01, about 1:59 to go  doing\x1b[K" + "\r[1/1] x  0:02, about 1:58 to go  doing\x1b[K" + "\r\x1b[K" + "a word\n"},
		{"elsewhere", false, "[1/1] x  0:00, about 2:00 to go\na word\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				c := &console{w: &out, tty: tc.tty}
				stop := c.show()
				c.begin("[1/1] x", 2*time.Minute)
				c.say("doing")
				time.Sleep(2 * redraw) //nolint:forbidigo // in the bubble's time
				synctest.Wait()
				c.print("a word\n")
				stop()
				stop()
				if diff := cmp.Diff(tc.want, out.String()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
	c := &console{tty: true, stage: "s", about: time.Minute, detail: strings.Repeat("ä", 200)}
	if got := c.line(2 * time.Hour); len([]rune(got)) != lineWidth || !strings.HasPrefix(got, "s  2:00:00, longer than the usual 1:00  ää") {
		t.Errorf("the line is %q", got)
	}
}

// TestGoTest runs tests of a module made for it.
func TestGoTest(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module x\n\ngo 1.26\n",
		"p/p_test.go": `package p
import ("os"; "testing")
func TestGood(t *testing.T) { if os.Getenv("WANT") != "1" || !testing.Short() { t.Error("not told") } }
func TestBad(t *testing.T) { t.Error("it broke") }
func TestLong(t *testing.T) { select {} }
`,
		"q/q_test.go": "package q\nnonsense",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tick := func() {}
	if err := (goTest{pkg: "p", run: "^TestGood$", env: []string{"WANT=1"}, args: []string{"-test.short"}, within: time.Minute}).follow(t.Context(), root, dir, tick); err != nil {
		t.Error(err)
	}
	if err := (goTest{pkg: "p", run: "^TestBad$", within: time.Minute}).follow(t.Context(), root, dir, tick); err == nil || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("a test that fails: %v", err)
	}
	if err := (goTest{pkg: "q", run: ".", within: time.Minute}).follow(t.Context(), root, dir, tick); err == nil || !strings.Contains(err.Error(), "build the test") {
		t.Errorf("a test that does not compile: %v", err)
	}
	if err := (goTest{pkg: "p", run: "^TestAbsent$", within: time.Minute}).follow(t.Context(), root, dir, tick); err == nil || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("a test that is not there: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("enough")
	if err := (goTest{pkg: "p", run: "^TestLong$", within: time.Minute}).follow(ctx, root, dir, func() { cancel(over) }); !errors.Is(err, over) {
		t.Errorf("a test that is ended: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.test")); err != nil || len(left) > 0 {
		t.Errorf("leaves %v behind, %v", left, err)
	}
}

func TestTellMemory(t *testing.T) {
	dir := t.TempDir()
	var o outcome
	o.tellMemory(dir)
	if len(o.Problems) != 1 {
		t.Errorf("no samples are no problem: %+v", o)
	}
	var lines strings.Builder
	for i := range 100 {
		fmt.Fprintf(&lines, `{"t":%d,"heap_bytes":%d,"rss_bytes":104857600,"goroutines":80,"seals":%d,"opens":%d,"errors":0}`+"\n", i, 40<<20+i, i*50_000, i*80_000)
	}
	lines.WriteString(`{"t":100,"heap`) // being written
	if err := os.WriteFile(filepath.Join(dir, memoryReport), []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	o = outcome{}
	o.tellMemory(dir)
	if len(o.Problems) > 0 || !strings.Contains(o.Facts, "4.95 million seals") || !strings.Contains(o.Facts, "heap 40.0 MiB in the first third, 40.0 MiB in the last") {
		t.Errorf("got %+v", o)
	}
	if svg, err := os.ReadFile(filepath.Join(dir, memoryPicture)); err != nil || !bytes.Contains(svg, []byte("resident")) {
		t.Errorf("the picture is %v", err)
	}
}

func TestTellBlackout(t *testing.T) {
	dir := t.TempDir()
	r := &blackout.Report{Lanes: []*blackout.Lane{
		{Arm: "killed", Mode: "unreachable", Cut: 1, Healed: 3, Samples: []blackout.Sample{{T: 2, Counts: blackout.Counts{KMSErrors: 5}}}, Workflows: 10, InFlight: 10, Right: 9, Open: 1, Tasks: blackout.Spread{N: 3, Max: 4.5}, Activity: blackout.Spread{N: 1, Max: 6}, Examples: []string{"order-0003 is still open"}},
		{Arm: "killed", Control: true, Workflows: 6, Right: 1, Failed: 4, Open: 1},
	}}
	var o outcome
	o.tellBlackout(r, dir)
	if want := "9 of 10 workflows right, 3 held, all went on within 6.0 s; plain codec lost 4 of 6"; o.Facts != want || len(o.Problems) != 2 {
		t.Errorf("got %+v, want %q and two problems", o, want)
	}
	for _, name := range append(o.Pictures, o.Files...) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if len(o.Pictures) != 1 || len(o.Files) != 1 {
		t.Errorf("leaves %v and %v", o.Pictures, o.Files)
	}
	o = outcome{}
	o.tellBlackout(r, filepath.Join(dir, "absent"))
	if len(o.Problems) != 4 || len(o.Pictures) > 0 {
		t.Errorf("a folder that is not there: %+v", o)
	}
	got := blackoutLine(blackout.Progress{Phase: "outage", Lanes: []blackout.Standing{
		{Lane: r.Lanes[0], Sample: blackout.Sample{Open: 7, Done: 2, Counts: blackout.Counts{Held: 3}}},
		{Lane: r.Lanes[1], Sample: blackout.Sample{Open: 100}},
	}})
	if want := "outage: 7 open, 3 held, 2 done"; got != want {
		t.Errorf("the line is %q, want %q", got, want)
	}
}
