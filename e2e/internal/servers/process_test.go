package servers

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestProcessStop(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		grace        time.Duration
		want         string
	}{
		{"ends when asked", "echo up; exec sleep 600", stopGrace, ""},
		{"ended before", "echo up", stopGrace, ""},
		{"must be killed", `trap "" TERM; echo up; while :; do sleep 1; done`, 50 * time.Millisecond, "was killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first := newFirstLine()
			p, err := startProcess("a server", exec.CommandContext(t.Context(), "sh", "-c", tc.script), first)
			if err != nil {
				t.Fatal(err)
			}
			if got := <-first.line; got != "up" {
				t.Errorf("first line %q", got)
			}
			p.grace = tc.grace
			err = p.Stop()
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Stop = %v, want an error with %q", err, tc.want)
			}
			<-p.exited
			if err := p.Stop(); err != nil {
				t.Errorf("second Stop: %v", err)
			}
		})
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	_, err := startProcess("a server", exec.CommandContext(t.Context(), t.TempDir()+"/absent"), nil)
	if err == nil || !strings.Contains(err.Error(), "servers: start a server: ") {
		t.Errorf("got %v", err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var log tail
	for range 3 {
		_, _ = log.Write([]byte(strings.Repeat("x", tailSize/2)))
	}
	_, _ = log.Write([]byte("the end"))
	if got := log.String(); len(got) != tailSize || !strings.HasSuffix(got, "xthe end") {
		t.Errorf("kept %d bytes, ending %q", len(got), got[len(got)-10:])
	}
}

func TestFirstLineInPieces(t *testing.T) {
	f := newFirstLine()
	for _, piece := range []string{"on", "e\ntw", "o\nthree\n"} {
		if n, err := f.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", piece, n, err)
		}
	}
	if got := <-f.line; got != "one" {
		t.Errorf("got %q", got)
	}
}
