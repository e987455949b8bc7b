package blackout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.temporal.io/sdk/worker"
)

// workerEnv makes a process that calls IsWorker a worker. It holds a target.
const workerEnv = "WAXSEAL_BLACKOUT_WORKER"

// sampleEvery is how often workers report their counts, and how often the test
// records them.
const sampleEvery = time.Second

// pollers is how many workflow tasks a worker fetches at a time. Of the SDK's two one
// fetches those that were held: 25 a second here, so that hundreds would go on ten
// seconds later for that alone.
const pollers = 10

// noDeadlock is how long workflow code may compute. The SDK takes a second for a
// deadlock, which is not much on a machine that does a lot else, and then races with
// the code itself.
const noDeadlock = 10 * time.Second

// IsWorker makes this process a worker if a Run started it to be one, and says so
// when that is over; the caller ends then. It is the first thing that a program
// does that calls Run, and TestMain in a test: Run starts workers from the program
// that it runs in.
func IsWorker() (code int, was bool) {
	config, was := os.LookupEnv(workerEnv)
	if !was {
		return 0, false
	}
	// A Ctrl-C is for our parent, which then closes our standard input.
	signal.Ignore(os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := runWorker(ctx, config, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "blackout: worker: %v\n", err)
		return 1, true
	}
	return 0, true
}

// said is what a worker process says every second.
type said struct {
	Counts
	Resumed []Resumed `json:"resumed,omitempty"` // since it last said something
}

// runWorker works until in ends, which it does when the parent does. It says what it
// counts on out, one JSON object a line; the first says that it works.
func runWorker(ctx context.Context, config string, in io.Reader, out, log io.Writer) error {
	var to target
	if err := json.Unmarshal([]byte(config), &to); err != nil {
		return fmt.Errorf("read %s: %w", workerEnv, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	o := newObserver()
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))
	conn, err := connect(ctx, to, o, logger)
	if err != nil {
		return err
	}
	defer conn.Close()
	w := worker.New(conn.Client, taskQueue, worker.Options{
		MaxConcurrentWorkflowTaskPollers: pollers,
		DeadlockDetectionTimeout:         noDeadlock,
	})
	register(w)
	if err := w.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer w.Stop()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	lines := json.NewEncoder(out)
	for {
		if err := lines.Encode(said{o.Counts(), o.Resumed()}); err != nil {
			return errors.Join(errors.New("nobody reads what it counts"), err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
