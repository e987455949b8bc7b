package servers

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout suits a machine with two cores that compile something else.
	startTimeout = 2 * time.Minute
	// stopGrace is how long a server may take to end before it is killed.
	stopGrace = 20 * time.Second
	// tailSize is how much of a server's log is kept for a failed test.
	tailSize = 32 << 10
)

// process is a server that was started and is to be stopped.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    tail
	grace  time.Duration // between the request to end and the kill
	exited chan struct{} // closed when the process is gone
	stop   sync.Once
}

// startProcess starts a program in a process group of its own: an interrupt typed on a
// terminal reaches only the parent, which then stops the program in order.
func startProcess(name string, cmd *exec.Cmd, stdout io.Writer) (*process, error) {
	p := &process{name: name, cmd: cmd, grace: stopGrace, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.SysProcAttr = processAttributes()
	started := make(chan error)
	go func() {
		// Linux sends the child its death signal when the thread that made it
		// ends, so that thread stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // ProcessState says how it ended
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("servers: start %s: %w", name, err)
	}
	return p, nil
}

// Stop signals the server to end, and kills it when it takes too long. It is safe to
// call more than once and from several goroutines.
func (p *process) Stop() error {
	var err error
	p.stop.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it is gone already
		timeout := time.NewTimer(p.grace)
		defer timeout.Stop()
		select {
		case <-p.exited:
		case <-timeout.C:
			_ = p.cmd.Process.Kill()
			<-p.exited
			err = fmt.Errorf("servers: stop %s: it did not end within %v and was killed", p.name, p.grace)
		}
	})
	return err
}

// ended is the error of a server that ended by itself.
func (p *process) ended() error {
	return fmt.Errorf("it ended by itself: %v", p.cmd.ProcessState)
}

// failure is the error of a server that did not come up, with the end of what
// it said.
func (p *process) failure(err error) error {
	return fmt.Errorf("servers: start %s: %w; its log ends:\n%s", p.name, err, p.log.String())
}

// tail keeps the last tailSize bytes written to it. Safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// firstLine hands over the first line written to it and ignores the rest, so
// that the writer never waits for a reader. One writer only.
type firstLine struct {
	line chan string // gets the line, without its end
	buf  []byte
	done bool
}

func newFirstLine() *firstLine { return &firstLine{line: make(chan string, 1)} }

func (f *firstLine) Write(b []byte) (int, error) {
	if f.done {
		return len(b), nil
	}
	f.buf = append(f.buf, b...)
	if line, _, ok := bytes.Cut(f.buf, []byte{'\n'}); ok {
		f.line <- string(line)
		f.done, f.buf = true, nil
	}
	return len(b), nil
}
