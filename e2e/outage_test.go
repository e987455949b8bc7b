package e2e

import (
	"log/slog"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// TestOutageKillsNoWorkflow takes the KMS away while a workflow runs: its task
// fails, it stays open, and goes on when the KMS is back.
func TestOutageKillsNoWorkflow(t *testing.T) {
	server := servers.StartTemporal(t, servers.TemporalOptions{})
	backend := kmstest.NewBackend()
	p, err := policy.Parse("test.yaml", []byte(`{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	dial := func(plugins ...client.Plugin) client.Client {
		cl, err := client.DialContext(t.Context(), client.Options{
			HostPort: server.HostPort, Plugins: plugins, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	sealing, bare := dial(codec.NewPlugin(c)), dial()

	// More payloads than there can be data keys wrapped ahead of need.
	const payloads = 300
	w := worker.New(sealing, "outage", worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (sum int, err error) {
		workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
		for range payloads {
			var one int
			if err := workflow.SideEffect(ctx, func(workflow.Context) any { return 1 }).Get(&one); err != nil {
				return sum, err
			}
			sum += one
		}
		return sum, nil
	}, workflow.RegisterOptions{Name: "Long"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)

	run, err := sealing.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: "long", TaskQueue: "outage",
		// The SDK reports the first failure of a task and lets later ones time out.
		WorkflowTaskTimeout: 2 * time.Second,
	}, "Long")
	if err != nil {
		t.Fatal(err)
	}
	backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	if err := bare.SignalWorkflow(t.Context(), "long", "", "go on", nil); err != nil {
		t.Fatal(err)
	}
	events := func(kind enumspb.EventType) (found []*historypb.HistoryEvent, err error) {
		return eventsOf(t.Context(), bare, run, kind)
	}
	if err := eventually(t.Context(), "a workflow task failed", func() (bool, error) {
		failed, err := events(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
		return len(failed) > 0, err
	}); err != nil {
		t.Fatal(err)
	}
	d, err := bare.DescribeWorkflowExecution(t.Context(), "long", "")
	if err != nil || d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Fatalf("the workflow is %v, %v", d.GetWorkflowExecutionInfo().GetStatus(), err)
	}

	backend.Fake("a").Heal()
	var sum int
	if err := run.Get(t.Context(), &sum); err != nil || sum != payloads {
		t.Errorf("the workflow ended with %d, %v", sum, err)
	}
	if markers, err := events(enumspb.EVENT_TYPE_MARKER_RECORDED); err != nil || len(markers) != payloads {
		t.Errorf("%d markers, %v", len(markers), err)
	}
}
