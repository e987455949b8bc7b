package blackout

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

const (
	// crewStart bounds the start of a worker process, on a machine that does a lot else.
	crewStart = time.Minute
	// crewGrace is how long a worker may take to end before it is killed.
	crewGrace = 10 * time.Second
	// crewLine bounds a line that a worker says: a thousand runs that went on at once.
	crewLine = 1 << 20
	// crewLog is how much is kept of the end of what a worker logs, in bytes.
	crewLog = 8 << 10
)

// crew is one worker, in a process of its own that may be killed and started again.
type crew struct {
	to      target
	program string // this one

	mu     sync.Mutex
	hand   *hand
	before Counts // of processes that are gone
	// resumed are the runs that went on, as all processes said.
	resumed []Resumed
}

// hand is one process of a crew.
type hand struct {
	cmd    *exec.Cmd
	leash  io.Closer // its standard input: when that ends, so does it
	ready  chan struct{}
	exited chan struct{}
	log    end

	mu   sync.Mutex
	seen Counts
}

func newCrew(to target) (*crew, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("blackout: find this program: %w", err)
	}
	return &crew{to: to, program: program}, nil
}

// start starts a process and returns when it works.
func (c *crew) start(ctx context.Context) error {
	config, err := json.Marshal(c.to)
	if err != nil {
		return fmt.Errorf("blackout: start a worker: %w", err)
	}
	h := &hand{ready: make(chan struct{}), exited: make(chan struct{})}
	h.cmd = exec.Command(c.program) //nolint:gosec,noctx // ourselves; it outlives ctx, which is for the start
	h.cmd.Env = append(os.Environ(), workerEnv+"="+string(config))
	h.cmd.Stderr = &h.log
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("blackout: start a worker: %w", err)
	}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("blackout: start a worker: %w", err)
	}
	if err := h.cmd.Start(); err != nil {
		return fmt.Errorf("blackout: start a worker: %w", err)
	}
	h.leash = stdin
	go h.listen(stdout, c.wentOn)
	c.mu.Lock()
	c.hand = h
	c.mu.Unlock()
	late := time.NewTimer(crewStart)
	defer late.Stop()
	select {
	case <-h.ready:
		return nil
	case <-h.exited:
		return fmt.Errorf("blackout: start a worker: it ended: %v\n%s", h.cmd.ProcessState, h.log.String())
	case <-late.C:
		return errors.Join(fmt.Errorf("blackout: start a worker: not ready after %s\n%s", crewStart, h.log.String()), c.kill())
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), c.kill())
	}
}

// wentOn notes runs that went on.
func (c *crew) wentOn(runs []Resumed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumed = append(c.resumed, runs...)
}

// resumedAfter returns for each run when it first went on after a moment.
func (c *crew) resumedAfter(moment time.Time) map[string]Resumed {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := make(map[string]Resumed)
	for _, r := range c.resumed {
		if before, ok := first[r.Run]; r.Done.After(moment) && (!ok || r.Done.Before(before.Done)) {
			first[r.Run] = r
		}
	}
	return first
}

// listen takes in what the process says until it is gone.
func (h *hand) listen(stdout io.Reader, wentOn func([]Resumed)) {
	defer close(h.exited)
	first := sync.OnceFunc(func() { close(h.ready) })
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, crewLine)
	for lines.Scan() {
		var now said
		if json.Unmarshal(lines.Bytes(), &now) != nil {
			continue // cut off when it was killed
		}
		h.mu.Lock()
		h.seen = now.Counts
		h.mu.Unlock()
		wentOn(now.Resumed)
		first()
	}
	_ = h.cmd.Wait() // ProcessState says how it ended
}

func (h *hand) counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

// Counts returns what all processes of the crew counted until now.
func (c *crew) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hand == nil {
		return c.before
	}
	return c.hand.counts().plus(c.before)
}

// take returns the process, which the crew has no more.
func (c *crew) take() *hand {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hand
	if h != nil {
		c.before = h.counts().plus(c.before)
		c.hand = nil
	}
	return h
}

// kill ends the process with SIGKILL: it has no time to say anything to anybody.
// The caches in its memory are gone with it.
func (c *crew) kill() error {
	h := c.take()
	if h == nil {
		return nil
	}
	err := h.cmd.Process.Kill()
	<-h.exited
	_ = h.leash.Close() // it may be closed already
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("blackout: kill a worker: %w", err)
	}
	return nil
}

// stop lets the process end in order, and kills it when it takes too long. What it
// had to say against itself is an error.
func (c *crew) stop() error {
	h := c.take()
	if h == nil {
		return nil
	}
	_ = h.leash.Close() // fails only when it is gone
	late := time.NewTimer(crewGrace)
	defer late.Stop()
	select {
	case <-h.exited:
		if !h.cmd.ProcessState.Success() {
			return fmt.Errorf("blackout: a worker ended with %v\n%s", h.cmd.ProcessState, h.log.String())
		}
	case <-late.C:
		_ = h.cmd.Process.Kill() // fails only when it is gone
		<-h.exited
	}
	return nil
}

// end keeps the end of what is written to it. Safe for concurrent use.
type end struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer.
func (e *end) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf = append(e.buf, b...)
	if over := len(e.buf) - crewLog; over > 0 {
		e.buf = append(e.buf[:0], e.buf[over:]...)
	}
	return len(b), nil
}

func (e *end) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.buf)
}
