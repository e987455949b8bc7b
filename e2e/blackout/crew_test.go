package blackout

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/e2e/internal/servers"
)

// TestCrew starts a worker process, kills it, and starts another. The counts of the
// second continue those of the first.
func TestCrew(t *testing.T) {
	temporal := servers.StartTemporal(t, servers.TemporalOptions{})
	c, err := newCrew(target{HostPort: temporal.HostPort, Namespace: "default", VaultAddr: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{c.kill, c.stop} {
		if err := c.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		h := c.hand
		c.mu.Unlock()
		h.mu.Lock()
		h.seen.KMSCalls += 5
		h.mu.Unlock()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := h.cmd.Process.Signal(os.Interrupt); !errors.Is(err, os.ErrProcessDone) {
			t.Error("the process is there still")
		}
		if err := end(); err != nil {
			t.Errorf("ending it again: %v", err)
		}
	}
	if got := c.Counts().KMSCalls; got < 5 {
		t.Errorf("counted %d calls", got)
	}
}

func TestCrewThatCannotStart(t *testing.T) {
	c, err := newCrew(target{HostPort: "127.0.0.1:1", Namespace: "default", VaultAddr: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.start(t.Context()); err == nil || !strings.Contains(err.Error(), "dial the Temporal server") {
		t.Errorf("a worker without a server: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := c.start(ctx); !errors.Is(err, enough) {
		t.Errorf("a start that is ended: %v", err)
	}
	c.program = "/nonexistent"
	if err := c.start(t.Context()); err == nil {
		t.Error("starts a program that is not there")
	}
}

func TestRunWorkerErrors(t *testing.T) {
	var out bytes.Buffer
	if err := runWorker(t.Context(), "nonsense", strings.NewReader(""), &out, &out); err == nil || !strings.Contains(err.Error(), workerEnv) {
		t.Errorf("a worker without a target: %v", err)
	}
	temporal := servers.StartTemporal(t, servers.TemporalOptions{})
	config := `{"HostPort": "` + temporal.HostPort + `", "Namespace": "default", "VaultAddr": "http://127.0.0.1:1"}`
	in, parent := io.Pipe()
	defer parent.Close()
	if err := runWorker(t.Context(), config, in, &full{}, &out); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("a worker to which nobody listens: %v", err)
	}
	// Its standard input ends: so does it.
	in, parent = io.Pipe()
	if err := runWorker(t.Context(), config, in, writer(func(b []byte) (int, error) {
		parent.Close()
		return out.Write(b)
	}), io.Discard); err != nil || !strings.HasPrefix(out.String(), `{"held":0`) {
		t.Errorf("ended with %v and said %s", err, &out)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestEnd(t *testing.T) {
	var e end
	for range 10 {
		if n, err := e.Write(bytes.Repeat([]byte("x"), crewLog/4)); n != crewLog/4 || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := e.Write([]byte("last words")); err != nil || len(e.String()) != crewLog || !strings.HasSuffix(e.String(), "last words") {
		t.Errorf("keeps %d bytes", len(e.String()))
	}
}
