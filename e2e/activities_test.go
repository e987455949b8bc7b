package e2e

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-rpc/sdk-go/nexus"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

const (
	// blackout is how long the KMS is out: longer than the heartbeat timeouts, workflow
	// task timeouts and retries of these tests.
	blackout = 8 * time.Second
	// resumed is how long after that at the latest activities go on.
	resumed = 10 * time.Second
)

// ward is a KMS of its own, with workers on task queues of their own.
type ward struct {
	server  *servers.Temporal
	queue   string
	policy  *policy.Policy
	backend *kmstest.Backend
	bare    client.Client
	logs    *lines
	healed  atomic.Int64 // when the KMS answered again, in Unix nanoseconds
}

func newWard(t *testing.T, server *servers.Temporal) *ward {
	t.Helper()
	w := &ward{server: server, queue: t.Name(), backend: kmstest.NewBackend(), logs: new(lines)}
	var err error
	if w.policy, err = policy.Parse("test.yaml", []byte(`{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], sealHeaders: true}]}`)); err != nil {
		t.Fatal(err)
	}
	w.bare = w.dial(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the SDK's log ends:\n%s", w.logs)
		}
	})
	return w
}

func (w *ward) dial(t *testing.T, plugins ...client.Plugin) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: w.server.HostPort, Plugins: plugins, ContextPropagators: []workflow.ContextPropagator{propagator{key: "tenant"}},
		Logger: log.NewStructuredLogger(slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelWarn}))),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// sealing returns a client with a cold data-key cache. wait is codec.Config.ActivityWait.
func (w *ward) sealing(t *testing.T, wait time.Duration) client.Client {
	t.Helper()
	c, err := codec.New(t.Context(), codec.Config{Policy: w.policy, Registry: kms.NewRegistry(w.backend), ActivityWait: wait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return w.dial(t, codec.NewPlugin(c))
}

// work starts a worker that is cold: what it is given it cannot open without the KMS.
func (w *ward) work(t *testing.T, queue string, wait time.Duration, register func(worker.Worker)) (stop func()) {
	t.Helper()
	k := worker.New(w.sealing(t, wait), queue, worker.Options{WorkerStopTimeout: time.Minute, DisableEagerActivities: true})
	register(k)
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	return k.Stop
}

// out has the KMS fail from now on for as long as a blackout takes.
func (w *ward) out() {
	w.backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	time.AfterFunc(blackout, func() {
		w.healed.Store(time.Now().UnixNano())
		w.backend.Fake("a").Heal()
	})
}

// begin starts a workflow that calls the activity "Do" on a queue without a worker, with
// the retry policy, and returns once the activity is scheduled.
func (w *ward) begin(t *testing.T, o workflow.ActivityOptions) client.WorkflowRun {
	t.Helper()
	o.TaskQueue = w.queue + " activities"
	if o.StartToCloseTimeout == 0 {
		o.StartToCloseTimeout = time.Minute
	}
	stop := w.work(t, w.queue, 0, func(k worker.Worker) {
		k.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (out string, err error) {
			err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), "Do", in).Get(ctx, &out)
			return out, err
		}, workflow.RegisterOptions{Name: "Call"})
	})
	t.Cleanup(stop)
	starter := w.sealing(t, 0)
	run, err := starter.ExecuteWorkflow(context.WithValue(t.Context(), headerContext{}, "CANARY tenant"),
		client.StartWorkflowOptions{TaskQueue: w.queue, WorkflowTaskTimeout: 5 * time.Second}, "Call", "CANARY in")
	if err != nil {
		t.Fatal(err)
	}
	w.await(t, run, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
	return run
}

func (w *ward) await(t *testing.T, run client.WorkflowRun, kind enumspb.EventType) {
	t.Helper()
	if err := eventually(t.Context(), kind.String(), func() (bool, error) {
		found, err := w.events(t.Context(), run, kind)
		return len(found) > 0, err
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *ward) events(ctx context.Context, run client.WorkflowRun, kind enumspb.EventType) (found []*historypb.HistoryEvent, err error) {
	return eventsOf(ctx, w.bare, run, kind)
}

// done is the activity "Do". It counts how often it ran, and remembers when last.
type done struct {
	ran  atomic.Int64
	last atomic.Int64
}

func (d *done) now() int64 {
	d.last.Store(time.Now().UnixNano())
	return d.ran.Add(1)
}

// ends checks how the workflow ended and that the activity ran once, soon after the
// KMS was back.
func (w *ward) ends(t *testing.T, run client.WorkflowRun, d *done, want string) {
	t.Helper()
	var got string
	if err := run.Get(t.Context(), &got); err != nil || got != want {
		t.Fatalf("the workflow ended with %q, %v, want %q", got, err, want)
	}
	took := time.Since(time.Unix(0, w.healed.Load()))
	if n := d.ran.Load(); n != 1 {
		t.Errorf("the activity ran %d times", n)
	}
	if c := w.backend.Fake("a").Counts(); c.FailedUnwraps+c.FailedWraps == 0 {
		t.Error("the KMS was not asked while it was out")
	}
	// The workflow goes on as well, within a time of its own.
	if took > 2*resumed {
		t.Errorf("the workflow ended %v after the KMS was back", took)
	}
}

var oneAttempt = &temporal.RetryPolicy{MaximumAttempts: 1}

// TestActivitiesSurviveAnOutage takes the KMS away from activities that have one
// attempt, or one more.
func TestActivitiesSurviveAnOutage(t *testing.T) {
	t.Parallel()
	server := servers.StartTemporal(t, servers.TemporalOptions{})
	for name, test := range map[string]func(*testing.T, *ward){
		"input": inputInTheDark, "without waiting": inputWithoutWaiting, "result": resultInTheDark, "local activity": localInTheDark,
		"heartbeat details": heartbeatsInTheDark, "last words": lastWordsInTheDark, "stop": stopInTheDark, "nexus": nexusInTheDark,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWard(t, server))
		})
	}
}

// inputInTheDark has neither input nor header open while the KMS is out.
func inputInTheDark(t *testing.T, w *ward) {
	run := w.begin(t, workflow.ActivityOptions{RetryPolicy: oneAttempt})
	var d done
	w.out()
	t.Cleanup(w.work(t, w.queue+" activities", 0, func(k worker.Worker) {
		k.RegisterActivityWithOptions(func(ctx context.Context, in string) (string, error) {
			d.now()
			tenant, _ := ctx.Value(headerContext{}).(string)
			return in + " for " + tenant, nil
		}, activity.RegisterOptions{Name: "Do"})
	}))
	w.ends(t, run, &d, "CANARY in for CANARY tenant")
	if late := time.Duration(d.last.Load() - w.healed.Load()); late < 0 || late > resumed {
		t.Errorf("the activity ran %v after the KMS was back", late)
	}
}

// inputWithoutWaiting is the control: the workflow is lost.
func inputWithoutWaiting(t *testing.T, w *ward) {
	run := w.begin(t, workflow.ActivityOptions{RetryPolicy: oneAttempt})
	var d done
	w.out()
	t.Cleanup(w.work(t, w.queue+" activities", -1, func(k worker.Worker) {
		k.RegisterActivityWithOptions(func(_ context.Context, in string) (string, error) {
			d.now()
			return in, nil
		}, activity.RegisterOptions{Name: "Do"})
	}))
	if err := run.Get(t.Context(), nil); err == nil || d.ran.Load() > 0 {
		t.Errorf("ran %d times, the workflow ended with %v", d.ran.Load(), err)
	}
}

// resultInTheDark has an activity end while the KMS is out, for longer than its heartbeat
// timeout.
func resultInTheDark(t *testing.T, w *ward) {
	run := w.begin(t, workflow.ActivityOptions{RetryPolicy: oneAttempt, HeartbeatTimeout: 2 * time.Second})
	var d done
	t.Cleanup(w.work(t, w.queue+" activities", 0, func(k worker.Worker) {
		k.RegisterActivityWithOptions(func(_ context.Context, in string) (string, error) {
			d.now()
			w.out()
			return in + " out", nil
		}, activity.RegisterOptions{Name: "Do"})
	}))
	w.ends(t, run, &d, "CANARY in out")
}

// lastWordsInTheDark has an activity fail for good while the KMS is out: the workflow
// reads why.
func lastWordsInTheDark(t *testing.T, w *ward) {
	run := w.begin(t, workflow.ActivityOptions{})
	var d done
	t.Cleanup(w.work(t, w.queue+" activities", 0, func(k worker.Worker) {
		k.RegisterActivityWithOptions(func(context.Context, string) (string, error) {
			d.now()
			w.out()
			return "", temporal.NewNonRetryableApplicationError("CANARY refused", "Refused", nil, 13)
		}, activity.RegisterOptions{Name: "Do"})
	}))
	var refused *temporal.ApplicationError
	if err := run.Get(t.Context(), nil); !errors.As(err, &refused) {
		t.Fatalf("the workflow ended with %v", err)
	}
	var detail int
	if err := refused.Details(&detail); err != nil || refused.Message() != "CANARY refused" || detail != 13 || d.ran.Load() != 1 {
		t.Errorf("ran %d times: %v, detail %d, %v", d.ran.Load(), refused, detail, err)
	}
}

// heartbeatsInTheDark has a second attempt wait in another worker, for longer than the
// heartbeat timeout, and then read where the first one was.
func heartbeatsInTheDark(t *testing.T, w *ward) {
	run := w.begin(t, workflow.ActivityOptions{HeartbeatTimeout: 2 * time.Second, RetryPolicy: &temporal.RetryPolicy{
		MaximumAttempts: 2, InitialInterval: time.Second,
	}})
	failed := make(chan struct{})
	var d done
	stop := w.work(t, w.queue+" activities", 0, func(k worker.Worker) {
		k.RegisterActivityWithOptions(func(ctx context.Context, _ string) (string, error) {
			activity.RecordHeartbeat(ctx, "CANARY step 1")
			close(failed)
			return "", errors.New("CANARY again")
		}, activity.RegisterOptions{Name: "Do"})
	})
	<-failed
	stop()
	w.out()
	t.Cleanup(w.work(t, w.queue+" activities", 0, func(k worker.Worker) {
		k.RegisterActivityWithOptions(func(ctx context.Context, _ string) (step string, err error) {
			d.now()
			return step, activity.GetHeartbeatDetails(ctx, &step)
		}, activity.RegisterOptions{Name: "Do"})
	}))
	w.ends(t, run, &d, "CANARY step 1")
}

// localInTheDark has a local activity end while the KMS is out, for longer than a
// workflow task may take.
func localInTheDark(t *testing.T, w *ward) {
	var d done
	t.Cleanup(w.work(t, w.queue, 0, func(k worker.Worker) {
		k.RegisterWorkflowWithOptions(func(ctx workflow.Context) (out string, err error) {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute, RetryPolicy: oneAttempt})
			err = workflow.ExecuteLocalActivity(ctx, func(context.Context) (string, error) {
				d.now()
				w.out()
				return "CANARY", nil
			}).Get(ctx, &out)
			return out, err
		}, workflow.RegisterOptions{Name: "Local"})
	}))
	run, err := w.sealing(t, 0).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: w.queue, WorkflowTaskTimeout: 2 * time.Second}, "Local")
	if err != nil {
		t.Fatal(err)
	}
	w.ends(t, run, &d, "CANARY")
	tasks, err := w.events(t.Context(), run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
	if err != nil || len(tasks) < 3 {
		t.Errorf("%d workflow tasks, %v", len(tasks), err)
	}
	for _, kind := range []enumspb.EventType{enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT} {
		if bad, err := w.events(t.Context(), run, kind); err != nil || len(bad) > 0 {
			t.Errorf("%v, %v", bad, err)
		}
	}
}

// stopInTheDark stops a worker that waits: the attempt is reported, and another worker
// takes the next one.
func stopInTheDark(t *testing.T, w *ward) {
	run := w.begin(t, workflow.ActivityOptions{RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2, InitialInterval: time.Second}})
	var d done
	do := func(k worker.Worker) {
		k.RegisterActivityWithOptions(func(_ context.Context, in string) (string, error) {
			d.now()
			return in, nil
		}, activity.RegisterOptions{Name: "Do"})
	}
	w.backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	stop := w.work(t, w.queue+" activities", 0, do)
	if err := eventually(t.Context(), "the activity waits", func() (bool, error) {
		return w.backend.Fake("a").Counts().FailedUnwraps > 0, nil
	}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	d2, err := describe(t.Context(), w.bare, run.GetID(), run.GetRunID())
	if err != nil || len(d2.GetPendingActivities()) != 1 || d2.GetPendingActivities()[0].GetAttempt() != 2 {
		t.Errorf("pending: %v, %v", d2.GetPendingActivities(), err)
	}
	w.healed.Store(time.Now().UnixNano())
	w.backend.Fake("a").Heal()
	t.Cleanup(w.work(t, w.queue+" activities", 0, do))
	w.ends(t, run, &d, "CANARY in")
}

// nexusInTheDark starts an operation with an input that does not open while the KMS is out.
func nexusInTheDark(t *testing.T, w *ward) {
	if _, err := w.bare.OperatorService().CreateNexusEndpoint(t.Context(), &operatorservice.CreateNexusEndpointRequest{Spec: &nexuspb.EndpointSpec{
		Name: "dark", Target: &nexuspb.EndpointTarget{Variant: &nexuspb.EndpointTarget_Worker_{
			Worker: &nexuspb.EndpointTarget_Worker{Namespace: client.DefaultNamespace, TaskQueue: w.queue + " nexus"},
		}},
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.work(t, w.queue, 0, func(k worker.Worker) {
		k.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (out string, err error) {
			err = workflow.NewNexusClient("dark", "service").ExecuteOperation(ctx, "do", in, workflow.NexusOperationOptions{}).Get(ctx, &out)
			return out, err
		}, workflow.RegisterOptions{Name: "Operate"})
	}))
	run, err := w.sealing(t, 0).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: w.queue, WorkflowTaskTimeout: 5 * time.Second}, "Operate", "CANARY in")
	if err != nil {
		t.Fatal(err)
	}
	w.await(t, run, enumspb.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED)
	var d done
	w.out()
	t.Cleanup(w.work(t, w.queue+" nexus", 0, func(k worker.Worker) {
		service := nexus.NewService("service")
		if err := service.Register(nexus.NewSyncOperation("do", func(_ context.Context, in string, _ nexus.StartOperationOptions) (string, error) {
			d.now()
			return in + " out", nil
		})); err != nil {
			t.Error(err)
		}
		k.RegisterNexusService(service)
	}))
	w.ends(t, run, &d, "CANARY in out")
}
