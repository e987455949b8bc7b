package servers

import (
	"os/exec"
	"strings"
	"testing"
)

func TestProgram(t *testing.T) {
	run := func(script string) (string, *Program) {
		t.Helper()
		var out tail
		p, err := RunProgram("the script", exec.CommandContext(t.Context(), "sh", "-c", script), &out)
		if err != nil {
			t.Fatal(err)
		}
		<-p.Ended()
		return out.String(), p
	}
	if out, p := run("echo hello"); out != "hello\n" || p.Err() != nil {
		t.Errorf("said %q and ended with %v", out, p.Err())
	}
	if _, p := run("echo oh no >&2; exit 3"); p.Err() == nil || !strings.Contains(p.Err().Error(), "exit status 3") || !strings.Contains(p.Err().Error(), "oh no") {
		t.Errorf("ended with %v", p.Err())
	}
	if _, err := RunProgram("nothing", exec.CommandContext(t.Context(), "/nonexistent"), nil); err == nil {
		t.Error("started what is not there")
	}
	p, err := RunProgram("the sleeper", exec.CommandContext(t.Context(), "sleep", "1000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil || p.Err() == nil {
		t.Errorf("stopped with %v, %v", err, p.Err())
	}
}
