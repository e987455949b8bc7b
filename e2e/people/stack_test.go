package people

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
)

// Every secret begins with this, so that one search finds any.
const canary = "CANARY"

// stack is a Temporal server, the codec server as its own process, and a client
// and worker with the plugin on the codec server's keyring.
type stack struct {
	temporal *servers.Temporal
	endpoint string
	keyring  string
	codec    *codec.Codec
	client   client.Client
}

func newStack(t *testing.T, o servers.TemporalOptions) *stack {
	t.Helper()
	dir := t.TempDir()
	s := &stack{keyring: filepath.Join(dir, "keyring")}
	s.endpoint = serve(t, dir)
	s.temporal = servers.StartTemporal(t, o)
	s.codec = openCodec(t, s.keyring)
	s.client = s.dial(t, s.options())
	startWorker(t, s.client)
	return s
}

// options are those of clients with the plugin.
func (s *stack) options() client.Options {
	return client.Options{Plugins: []client.Plugin{codec.NewPlugin(s.codec)}, ContextPropagators: []workflow.ContextPropagator{tenant{}}}
}

func openCodec(t *testing.T, keyring string) *codec.Codec {
	t.Helper()
	file := filepath.Join(t.TempDir(), "waxseal.yaml")
	yaml := fmt.Sprintf("keys:\n  k: {uri: %q}\nseal:\n  - match: {namespace: \"*\"}\n    keys: [k]\n    sealHeaders: true\n", localkms.URI(keyring, "default"))
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := codec.Open(t.Context(), file, kms.NewRegistry(localkms.Backend))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve builds and runs `waxseal serve` with its data in dir, and returns its URL.
func serve(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "waxseal")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/waxseal")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), bin, "serve", "--listen", "127.0.0.1:0", "--data-dir", dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if found := url.FindString(lines.Text()); found != "" && strings.Contains(lines.Text(), "listening") {
			go func() { // keeps the pipe from filling up
				for lines.Scan() {
				}
			}()
			return found
		}
	}
	t.Fatal("the codec server did not say where it listens")
	return ""
}

func (s *stack) dial(t *testing.T, o client.Options) client.Client {
	t.Helper()
	o.HostPort, o.Logger = s.temporal.HostPort, log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	cl, err := client.DialContext(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

const queue = "people"

func startWorker(t *testing.T, cl client.Client) {
	t.Helper()
	w := worker.New(cl, queue, worker.Options{})
	register(w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

func register(r worker.Registry) {
	r.RegisterWorkflow(Order)
	r.RegisterWorkflow(Fail)
	r.RegisterActivity(Charge)
}

// Order has an activity, a side effect and a query, waits for a signal, and
// returns what it learned.
func Order(ctx workflow.Context, card string) (string, error) {
	state := canary + "-state"
	if err := workflow.SetQueryHandler(ctx, "echo", func(asked string) (string, error) { return asked + " " + state, nil }); err != nil {
		return "", err
	}
	var charge, random, signal string
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return canary + "-side-effect" }).Get(&random); err != nil {
		return "", err
	}
	actx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	if err := workflow.ExecuteActivity(actx, Charge, card).Get(ctx, &charge); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "approve").Receive(ctx, &signal)
	return strings.Join([]string{canary + "-result", charge, random, signal}, " "), nil
}

// Charge is an activity.
func Charge(_ context.Context, card string) (string, error) { return canary + "-charged-" + card, nil }

// Fail fails with a message and a detail.
func Fail(_ workflow.Context) error {
	return temporal.NewApplicationError(canary+"-failure", "Declined", canary+"-detail")
}

// tenant propagates a header that holds a canary.
type tenant struct{}

func (tenant) Inject(_ context.Context, w workflow.HeaderWriter) error {
	p, err := converter.GetDefaultDataConverter().ToPayload(canary + "-header")
	w.Set("tenant", p)
	return err
}

func (h tenant) InjectFromWorkflow(_ workflow.Context, w workflow.HeaderWriter) error {
	return h.Inject(context.Background(), w)
}

func (tenant) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	return ctx, readTenant(r)
}

func (tenant) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	return ctx, readTenant(r)
}

// readTenant fails if the header is there and cannot be read: the guard opens it.
func readTenant(r workflow.HeaderReader) error {
	p, ok := r.Get("tenant")
	if !ok {
		return nil
	}
	var s string
	return converter.GetDefaultDataConverter().FromPayload(p, &s)
}

// startOrder starts an Order and returns once it waits for its signal.
func (s *stack) startOrder(t *testing.T, id string) client.WorkflowRun {
	t.Helper()
	run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: id, TaskQueue: queue, Memo: map[string]any{"note": canary + "-memo"}, StaticSummary: canary + "-summary",
	}, Order, canary+"-card")
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func (s *stack) approve(t *testing.T, run client.WorkflowRun) {
	t.Helper()
	if err := s.client.SignalWorkflow(t.Context(), run.GetID(), "", "approve", canary+"-signal"); err != nil {
		t.Fatal(err)
	}
	var result string
	if err := run.Get(t.Context(), &result); err != nil || !strings.Contains(result, canary+"-signal") {
		t.Fatalf("%q, %v", result, err)
	}
}
