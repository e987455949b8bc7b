package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
)

// startTimeout bounds how long the servers and the orders may take.
const startTimeout = 2 * time.Minute

func run(ctx context.Context, s settings, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "waxseal-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	fmt.Fprintf(out, "The keyring and the policy file are in %s until the demo ends.\nStarting the codec server, the Temporal server and its Web UI …\n", dir)
	endpoint, stopCodec, err := startCodecServer(starting, s, dir)
	if err != nil {
		return err
	}
	defer stopCodec()
	temporal, err := servers.RunTemporal(starting, servers.TemporalOptions{Port: s.temporalPort, UI: true, UIPort: s.uiPort, UICodecEndpoint: endpoint})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temporal.Stop()) }()

	c, err := openCodec(starting, dir)
	if err != nil {
		return err
	}
	defer c.Close()
	cl, err := client.DialContext(starting, client.Options{
		HostPort: temporal.HostPort, Logger: quiet{}, Plugins: []client.Plugin{codec.NewPlugin(c)},
	})
	if err != nil {
		return err
	}
	defer cl.Close()
	w := worker.New(cl, taskQueue, worker.Options{})
	w.RegisterWorkflow(PlaceOrder)
	w.RegisterActivity(Charge)
	w.RegisterActivity(Ship)
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()

	if err := runOrders(starting, cl, temporal.UIURL, out); err != nil {
		return err
	}
	if err := showStored(starting, temporal.HostPort, out); err != nil {
		return err
	}
	binary, err := filepath.Abs(s.waxseal)
	if err != nil {
		return err
	}
	suggest(out, findCLI(starting, exec.LookPath, servers.CLIPath), shellWord(binary), dir, temporal.HostPort, endpoint)
	if s.once {
		return nil
	}
	fmt.Fprintln(out, "\nCtrl-C ends the demo and removes everything it made.")
	<-ctx.Done()
	return nil
}

func keyring(dir string) string { return filepath.Join(dir, "keyring") }

// startCodecServer runs `waxseal serve` and returns its URL once it listens.
func startCodecServer(ctx context.Context, s settings, dir string) (endpoint string, stop func(), err error) {
	serve := exec.Command(s.waxseal, "serve", "--listen", fmt.Sprintf("127.0.0.1:%d", s.codecPort), "--data-dir", dir) //nolint:gosec,noctx // the user's own binary; stop ends it
	stderr, err := serve.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := serve.Start(); err != nil {
		return "", nil, fmt.Errorf("start the codec server (make build makes the binary): %w", err)
	}
	stop = func() {
		_ = serve.Process.Signal(os.Interrupt) // it may have ended already
		_ = serve.Wait()
	}
	told := make(chan string, 1)
	go func() {
		url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
		var said []string
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if found := url.FindString(lines.Text()); found != "" && strings.Contains(lines.Text(), "listening") {
				told <- found
			} else if len(told) == 0 {
				said = append(said, lines.Text())
			}
		}
		if len(told) == 0 {
			told <- "\n" + strings.Join(said, "\n")
		}
	}()
	select {
	case said := <-told:
		if strings.HasPrefix(said, "http") {
			return said, stop, nil
		}
		stop()
		return "", nil, fmt.Errorf("the codec server did not start:%s", said)
	case <-ctx.Done():
		stop()
		return "", nil, ctx.Err()
	}
}

// openCodec returns a codec with the codec server's key.
func openCodec(ctx context.Context, dir string) (*codec.Codec, error) {
	policy := fmt.Sprintf("keys:\n  orders: {uri: %q}\nseal:\n  - match: {namespace: \"*\"}\n    keys: [orders]\n    sealHeaders: true\n",
		localkms.URI(keyring(dir), "default"))
	file := filepath.Join(dir, "waxseal.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	return codec.Open(ctx, file, kms.NewRegistry(localkms.Backend))
}

// orders are what the demo runs, by workflow ID.
var orders = []struct {
	id    string
	order Order
}{
	{"order-1001", Order{"Jane Doe", "jane.doe@example.com", "4242424242424242", []string{"espresso machine", "descaler"}, 64_900}},
	{"order-1002", Order{"Ravi Patel", "ravi@example.org", "4000000000000002", []string{"standing desk"}, 48_000}},
	{"order-1003", Order{"Zoë Åström", "zoe@example.net", "5555555555554444", []string{"cargo bike", "child seat", "lock"}, 412_500}},
}

// runOrders runs the orders to where they end or wait, and prints a table.
func runOrders(ctx context.Context, cl client.Client, ui string, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\nWORKFLOW\tOUTCOME\tOPEN IN A BROWSER\n")
	for _, o := range orders {
		run, err := cl.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: o.id, TaskQueue: taskQueue, StaticSummary: "order of " + o.order.Customer, Memo: map[string]any{"email": o.order.Email},
		}, PlaceOrder, o.order)
		if err != nil {
			return err
		}
		outcome, err := outcomeOf(ctx, cl, run, o.order)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\t%s/namespaces/default/workflows/%s/%s/history\n", o.id, outcome, ui, o.id, run.GetRunID())
	}
	return table.Flush()
}

// outcomeOf waits until the order is done, has failed or waits for approval.
func outcomeOf(ctx context.Context, cl client.Client, run client.WorkflowRun, o Order) (string, error) {
	if o.Cents >= 100_000 {
		for again := time.NewTicker(50 * time.Millisecond); ; <-again.C {
			var state string
			answer, err := cl.QueryWorkflow(ctx, run.GetID(), run.GetRunID(), "state")
			if err != nil {
				return "", err
			}
			if err := answer.Get(&state); err != nil || strings.HasPrefix(state, "waiting") {
				return state, err
			}
		}
	}
	var receipt Receipt
	if err := run.Get(ctx, &receipt); err != nil {
		if declined, ok := errors.AsType[*sdktemporal.ApplicationError](err); ok {
			return "failed, " + declined.Type(), nil
		}
		return "", err
	}
	return "shipped, " + receipt.Tracking, nil
}

// showStored prints what the server holds of the first order.
func showStored(ctx context.Context, hostPort string, out io.Writer) error {
	bare, err := client.DialContext(ctx, client.Options{HostPort: hostPort, Logger: quiet{}})
	if err != nil {
		return err
	}
	defer bare.Close()
	reply, err := bare.WorkflowService().DescribeWorkflowExecution(ctx, describe(orders[0].id))
	if err != nil {
		return err
	}
	email := reply.GetWorkflowExecutionInfo().GetMemo().GetFields()["email"]
	fmt.Fprintf(out, "\nWhat the server stores of the memo of %s:\n  encoding           %s\n  encryption-key-id  %s\n  data               %.24x… (%d bytes)\n",
		orders[0].id, email.GetMetadata()["encoding"], email.GetMetadata()["encryption-key-id"], email.GetData(), len(email.GetData()))
	return nil
}

func describe(workflowID string) *workflowservice.DescribeWorkflowExecutionRequest {
	return &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: client.DefaultNamespace, Execution: &commonpb.WorkflowExecution{WorkflowId: workflowID},
	}
}

// quiet drops the SDK's log: a declined card is part of the show.
type quiet struct{}

var _ tlog.Logger = quiet{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
