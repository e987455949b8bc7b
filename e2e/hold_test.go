package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

const (
	holdQueue    = "hold"
	holdWorkflow = "Branchy"
	holdPlain    = `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`
	failRefusals = `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], onDenied: fail}]}`
	// branches is what the workflow returns if it took all the branches that it
	// took the first time.
	branches = "in version=1 side=7 mutable=8 local=9 failed=CANARY refused detail=13 activity=12 updates=10 signal=11"
)

// branchy goes one way or the other by everything that a history can hold.
func branchy(ctx workflow.Context, input string) (string, error) {
	out := input
	updates := 0
	if err := workflow.SetUpdateHandler(ctx, "add", func(_ workflow.Context, n int) (int, error) {
		updates += n
		return updates, nil
	}); err != nil {
		return "", err
	}
	if err := workflow.SetQueryHandler(ctx, "state", func(prefix string) (string, error) { return prefix + out, nil }); err != nil {
		return "", err
	}
	version := workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 1)
	out += fmt.Sprintf(" version=%d", version)
	if version == workflow.DefaultVersion {
		// The old branch: no commands, so that a wrong turn shows in the result
		// wherever the SDK does not notice that it is one.
		workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
		return out, nil
	}
	var side, mutable, local, done int
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return 7 }).Get(&side); err != nil {
		return "", err
	}
	if err := workflow.MutableSideEffect(ctx, "mutable", func(workflow.Context) any { return 8 }, func(a, b any) bool { return a == b }).Get(&mutable); err != nil {
		return "", err
	}
	locally := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute})
	if err := workflow.ExecuteLocalActivity(locally, func(context.Context) (int, error) { return 9, nil }).Get(ctx, &local); err != nil {
		return "", err
	}
	out += fmt.Sprintf(" side=%d mutable=%d local=%d", side, mutable, local)

	far := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	var refused *temporal.ApplicationError
	var detail int
	if err := workflow.ExecuteActivity(far, "Refuse").Get(ctx, nil); errors.As(err, &refused) {
		derr := refused.Details(&detail)
		out += fmt.Sprintf(" failed=%s detail=%d", refused.Message(), detail)
		if derr != nil {
			out += " without details"
		}
	}
	if err := workflow.ExecuteActivity(far, "Do").Get(ctx, &done); err != nil {
		return "", err
	}
	out += fmt.Sprintf(" activity=%d", done)
	var signal int
	workflow.GetSignalChannel(ctx, "go on").Receive(ctx, &signal)
	return out + fmt.Sprintf(" updates=%d signal=%d", updates, signal), nil
}

// holding is a server with a KMS that fails on command, and workers that come and go.
type holding struct {
	server  *servers.Temporal
	backend *kmstest.Backend
	policy  string
	bare    client.Client
	logs    *lines
	told    *told
}

func newHolding(t *testing.T, yaml string) *holding {
	t.Helper()
	h := &holding{server: servers.StartTemporal(t, servers.TemporalOptions{}), backend: kmstest.NewBackend(kmstest.NewFake("a")), policy: yaml, logs: new(lines), told: newTold()}
	h.bare = h.dial(t, client.Options{})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the SDK's log ends:\n%s", h.logs)
		}
	})
	return h
}

func (h *holding) dial(t *testing.T, o client.Options) client.Client {
	t.Helper()
	o.HostPort = h.server.HostPort
	o.ConnectionOptions.DialOptions = append(o.ConnectionOptions.DialOptions, grpc.WithStatsHandler(h.told))
	o.Logger = log.NewStructuredLogger(slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelWarn})))
	c, err := client.DialContext(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// codec returns one with a cold cache.
func (h *holding) codec(t *testing.T) *codec.Codec {
	t.Helper()
	return h.codecOf(t, h.backend)
}

// codecOf returns one with KMSs of its own.
func (h *holding) codecOf(t *testing.T, backend *kmstest.Backend) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(h.policy))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (h *holding) sealing(t *testing.T) client.Client {
	t.Helper()
	return h.dial(t, client.Options{Plugins: []client.Plugin{codec.NewPlugin(h.codec(t))}})
}

// unguarded is a client with the converters and without the guard.
func (h *holding) unguarded(t *testing.T) client.Client {
	t.Helper()
	dc := codec.NewDataConverter(h.codec(t), client.DefaultNamespace, nil)
	return h.dial(t, client.Options{DataConverter: dc, FailureConverter: codec.NewFailureConverter(dc)})
}

// work starts a worker that knows nothing of what came before, until stop.
func (h *holding) work(t *testing.T, c client.Client) (stop func()) {
	t.Helper()
	w := worker.New(c, holdQueue, worker.Options{})
	w.RegisterWorkflowWithOptions(branchy, workflow.RegisterOptions{Name: holdWorkflow})
	w.RegisterActivityWithOptions(func(context.Context) error {
		return temporal.NewNonRetryableApplicationError("CANARY refused", "Refused", nil, 13)
	}, activity.RegisterOptions{Name: "Refuse"})
	w.RegisterActivityWithOptions(func(context.Context) (int, error) { return 12, nil }, activity.RegisterOptions{Name: "Do"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w.Stop
}

// begin runs the workflow up to where it waits for its signal.
func (h *holding) begin(t *testing.T, c client.Client) client.WorkflowRun {
	t.Helper()
	defer h.work(t, c)()
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: "branchy", TaskQueue: holdQueue, WorkflowTaskTimeout: 2 * time.Second,
	}, holdWorkflow, "in")
	if err != nil {
		t.Fatal(err)
	}
	u, err := c.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), UpdateName: "add", Args: []any{10}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		t.Fatal(err)
	}
	var sum int
	if err := u.Get(t.Context(), &sum); err != nil || sum != 10 {
		t.Fatalf("the update said %d, %v", sum, err)
	}
	if err := eventually(t.Context(), "its activities are done", func() (bool, error) {
		done, err := h.events(t.Context(), run, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
		if err != nil || len(done) == 0 {
			return false, err
		}
		tasks, err := h.events(t.Context(), run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
		return len(tasks) > 0 && tasks[len(tasks)-1].GetEventId() > done[0].GetEventId(), err
	}); err != nil {
		t.Fatal(err)
	}
	// The server forgets which worker has the workflow in its cache.
	if _, err := h.bare.WorkflowService().ResetStickyTaskQueue(t.Context(), &workflowservice.ResetStickyTaskQueueRequest{
		Namespace: client.DefaultNamespace, Execution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
	}); err != nil {
		t.Fatal(err)
	}
	return run
}

func (h *holding) events(ctx context.Context, run client.WorkflowRun, kind enumspb.EventType) (found []*historypb.HistoryEvent, err error) {
	return eventsOf(ctx, h.bare, run, kind)
}

func (h *holding) status(t *testing.T, run client.WorkflowRun) enumspb.WorkflowExecutionStatus {
	t.Helper()
	d, err := describe(t.Context(), h.bare, run.GetID(), run.GetRunID())
	if err != nil {
		t.Fatal(err)
	}
	return d.GetWorkflowExecutionInfo().GetStatus()
}

// TestReplayInAnOutage restarts the worker with a cold cache while the KMS fails,
// so that all of the history must be opened again, and then heals it.
func TestReplayInAnOutage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		class kms.Class
	}{
		{"unavailable", kms.Unavailable},
		{"throttled", kms.Throttled},
		{"denied", kms.Denied},
		{"disabled", kms.Disabled},
		{"not found", kms.NotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHolding(t, holdPlain)
			first := h.sealing(t)
			run := h.begin(t, first)
			if err := first.SignalWorkflow(t.Context(), run.GetID(), "", "go on", 11); err != nil {
				t.Fatal(err)
			}
			h.backend.Fake("a").Always(kmstest.Fail(tc.class))
			t.Cleanup(h.work(t, h.sealing(t)))
			h.waitHeld(t, run, tc.class)
			if _, err := first.QueryWorkflow(t.Context(), run.GetID(), "", "state", "now: "); err == nil {
				t.Error("a query is answered")
			}
			if got := h.status(t, run); got != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
				t.Fatalf("the workflow is %v", got)
			}
			h.backend.Fake("a").Heal()
			var got string
			if err := run.Get(t.Context(), &got); err != nil || got != branches {
				t.Errorf("the workflow ended with %q, %v", got, err)
			}
			answer, err := first.QueryWorkflow(t.Context(), run.GetID(), "", "state", "now: ")
			if err != nil {
				t.Fatal(err)
			}
			if err := answer.Get(&got); err != nil || len(got) < len("now: in") {
				t.Errorf("the query said %q, %v", got, err)
			}
		})
	}
}

// waitHeld waits until a worker reported why the workflow's task failed for want of the
// KMS, and the server scheduled it several times more. The server also schedules a task
// again that timed out without a report.
func (h *holding) waitHeld(t *testing.T, run client.WorkflowRun, class kms.Class) {
	t.Helper()
	if err := eventually(t.Context(), "a workflow task was held", func() (bool, error) {
		d, err := describe(t.Context(), h.bare, run.GetID(), run.GetRunID())
		return h.backend.Fake("a").Counts().FailedUnwraps > 0 && d.GetPendingWorkflowTask().GetAttempt() > 2 && len(h.told.of(run.GetRunID())) > 0, err
	}); err != nil {
		t.Fatal(err)
	}
	h.saysWhy(t, run, class)
}

// saysWhy checks the reported reasons of a workflow's failed tasks, of which there is at
// least one.
func (h *holding) saysWhy(t *testing.T, run client.WorkflowRun, class kms.Class) {
	t.Helper()
	failed := h.told.of(run.GetRunID())
	if len(failed) == 0 {
		t.Error("the server was not told that a task failed")
	}
	for _, f := range failed {
		said := f.GetMessage()
		for _, want := range []string{"waxseal: workflow task held", "fake://a", class.String()} {
			if !strings.Contains(said, want) {
				t.Errorf("the failed task says %q, without %q", said, want)
			}
		}
		if strings.Contains(said, "CANARY") {
			t.Errorf("it tells a secret: %q", said)
		}
	}
}

// TestMarkerThatDoesNotOpen has the KMS fail for the first three payloads that a
// cold worker opens, which are those of the version marker. The control, with the
// converters and without the guard, goes astray.
func TestMarkerThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	const onlyOnce = `{keys: {a: {uri: "fake://a", resilience: {attempts: 1}}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`
	start := func(t *testing.T) (*holding, client.WorkflowRun) {
		h := newHolding(t, onlyOnce)
		first := h.sealing(t)
		run := h.begin(t, first)
		if err := first.SignalWorkflow(t.Context(), run.GetID(), "", "go on", 11); err != nil {
			t.Fatal(err)
		}
		asked := h.backend.Fake("a").Counts().Unwraps
		h.backend.Fake("a").Each(func(c kmstest.Call) (f kmstest.Fault) {
			if c.Op == kmstest.OpUnwrap && c.N <= asked+3 {
				f = kmstest.Fail(kms.Unavailable)
			}
			return f
		})
		return h, run
	}
	t.Run("with the guard", func(t *testing.T) {
		h, run := start(t)
		t.Cleanup(h.work(t, h.sealing(t)))
		var got string
		if err := run.Get(t.Context(), &got); err != nil || got != branches {
			t.Errorf("the workflow ended with %q, %v", got, err)
		}
		if h.backend.Fake("a").Counts().FailedUnwraps == 0 {
			t.Error("nothing failed to open")
		}
	})
	t.Run("without", func(t *testing.T) {
		h, run := start(t)
		t.Cleanup(h.work(t, h.unguarded(t)))
		if err := eventually(t.Context(), "a workflow task failed", func() (bool, error) {
			failed, err := h.events(t.Context(), run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
			if len(failed) > 0 && failed[0].GetWorkflowTaskFailedEventAttributes().GetCause() != enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR {
				t.Fatalf("the task failed with %v", failed[0])
			}
			return len(failed) > 0, err
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRefusalFailsTheWorkflow: with onDenied: fail, denied is final.
func TestRefusalFailsTheWorkflow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, policy string
		want         enumspb.WorkflowExecutionStatus
	}{
		{"by default", holdPlain, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
		{"onDenied: fail", failRefusals, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHolding(t, tc.policy)
			run, err := h.sealing(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
				ID: "branchy", TaskQueue: holdQueue, WorkflowTaskTimeout: 2 * time.Second,
			}, holdWorkflow, "in")
			if err != nil {
				t.Fatal(err)
			}
			h.backend.Fake("a").Always(kmstest.Fail(kms.Denied))
			t.Cleanup(h.work(t, h.sealing(t)))
			if err := eventually(t.Context(), "a workflow task is done", func() (bool, error) {
				failed, err := h.events(t.Context(), run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
				return len(failed) > 0 || h.status(t, run) != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, err
			}); err != nil {
				t.Fatal(err)
			}
			if got := h.status(t, run); got != tc.want {
				t.Errorf("the workflow is %v, want %v", got, tc.want)
			}
		})
	}
}
