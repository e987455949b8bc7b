package envelope_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// maskSize is the length of a mask in bytes: that of a key.
const maskSize = 32

// process is a child as its test sees it.
type process struct {
	cmd  *exec.Cmd
	mask []byte
	in   io.Writer
	out  *json.Decoder
}

// startChild starts this program again in the given role, with env, "NAME=value" each, added to
// its environment. The end of the test kills it.
func startChild(t testing.TB, role string, env ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{mask: make([]byte, maskSize)}
	_, _ = rand.Read(p.mask) // never fails: crypto/rand ends the program instead
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p.cmd = exec.CommandContext(ctx, self)
	p.cmd.Env = append(append(os.Environ(), env...), roleVariable+"="+role)
	p.cmd.Stderr = t.Output()
	in, err1 := p.cmd.StdinPipe()
	out, err2 := p.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, p.cmd.Start()); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = p.cmd.Wait() // killed, unless it has ended: End looks at that
	})
	p.in, p.out = in, json.NewDecoder(bufio.NewReader(out))
	config, err := json.Marshal(child{Mask: p.mask})
	if err != nil {
		t.Fatal(err)
	}
	p.send(t, string(config))
	return p
}

func (p *process) send(t testing.TB, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		t.Fatalf("write to the child: %v", err)
	}
}

// Await waits for the child to stop and reads what it sends into v.
func (p *process) Await(t testing.TB, v any) {
	t.Helper()
	if err := p.out.Decode(v); err != nil {
		t.Fatalf("read from the child: %v", err)
	}
}

// GoOn lets a stopped child continue.
func (p *process) GoOn(t testing.TB) {
	t.Helper()
	p.send(t, "")
}

// End waits for the end of a child, after GoOn from its last stop.
func (p *process) End(t testing.TB) {
	t.Helper()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the child failed: %v", err)
	}
}

// Unmask returns a secret that the child masked.
func (p *process) Unmask(secret []byte) []byte { return masked(secret, p.mask) }

// Scan looks for needles in the memory of the child while all its threads are stopped.
func (p *process) Scan(t testing.TB, needles []needle) tally {
	t.Helper()
	pid := p.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the child did not stop: status %x, %v", status, err)
	}
	found, err := scan(pid, needles)
	if err != nil {
		t.Fatalf("scan the child: %v (the test needs /proc, and the right to read its child's memory there)", err)
	}
	return found
}
