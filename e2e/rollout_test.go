package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/payloads"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/policy"
)

const shop = "shop" // the task queue of the application that runs already

// The application: what a program without encryption has open on the day that it
// gets some.

// orderWorkflow keeps something of every kind in its history, then waits for three
// signals and for its child, and ends with all that it received.
func orderWorkflow(ctx workflow.Context, customer string) ([]string, error) {
	told := []string{customer}
	var one string
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return "side effect" }).Get(&one); err != nil {
		return nil, err
	}
	told = append(told, one)
	if v := workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 1); v != 1 {
		return nil, fmt.Errorf("version %d", v)
	}
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
	if err := workflow.ExecuteLocalActivity(local, shout, "local").Get(ctx, &one); err != nil {
		return nil, err
	}
	told = append(told, one)
	if err := workflow.UpsertMemo(ctx, map[string]any{"customer": customer}); err != nil {
		return nil, err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	if err := workflow.ExecuteActivity(ctx, shout, "before").Get(ctx, &one); err != nil {
		return nil, err
	}
	told = append(told, one)
	child := workflow.ExecuteChildWorkflow(ctx, "Waits", "child of "+customer)
	if err := workflow.SetQueryHandler(ctx, "told", func() ([]string, error) { return told, nil }); err != nil {
		return nil, err
	}
	for range 3 {
		workflow.GetSignalChannel(ctx, "note").Receive(ctx, &one)
		told = append(told, one)
	}
	if err := child.Get(ctx, &one); err != nil {
		return nil, err
	}
	told = append(told, one)
	if err := workflow.ExecuteActivity(ctx, shout, "after").Get(ctx, &one); err != nil {
		return nil, err
	}
	return append(told, one), nil
}

// waitsWorkflow waits for one signal.
func waitsWorkflow(ctx workflow.Context, who string) (string, error) {
	var what string
	workflow.GetSignalChannel(ctx, "go on").Receive(ctx, &what)
	return who + " " + what, nil
}

// sleepsWorkflow sleeps on a timer.
func sleepsWorkflow(ctx workflow.Context, who string) (string, error) {
	return who + " slept", workflow.Sleep(ctx, time.Second)
}

// loopsWorkflow continues as new once, on a signal.
func loopsWorkflow(ctx workflow.Context, round int) (int, error) {
	if round > 0 {
		return round, nil
	}
	workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
	return 0, workflow.NewContinueAsNewError(ctx, "Loops", round+1)
}

// callsWorkflow has an activity run on another task queue.
func callsWorkflow(ctx workflow.Context, queue string) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, StartToCloseTimeout: time.Minute})
	var out string
	return out, workflow.ExecuteActivity(ctx, shout, "called").Get(ctx, &out)
}

// beatsWorkflow has an activity that is in the middle of its work.
func beatsWorkflow(ctx workflow.Context) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: 10 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Millisecond},
	})
	var out string
	return out, workflow.ExecuteActivity(ctx, "beats").Get(ctx, &out)
}

// beats stops half way through when its worker does, and goes on from there.
func beats(ctx context.Context) (string, error) {
	if activity.HasHeartbeatDetails(ctx) {
		var done string
		err := activity.GetHeartbeatDetails(ctx, &done)
		return done + ", then the rest", err
	}
	activity.RecordHeartbeat(ctx, "half")
	<-activity.GetWorkerStopChannel(ctx)
	return "", errors.New("the worker stops")
}

func shout(_ context.Context, text string) (string, error) { return strings.ToUpper(text), nil }

// rollout is the application's server, and the key that it is to get.
type rollout struct {
	server  *servers.Temporal
	keyring string
}

func newRollout(t *testing.T) *rollout {
	t.Helper()
	return &rollout{server: servers.StartTemporal(t, servers.TemporalOptions{}), keyring: filepath.Join(t.TempDir(), "keyring")}
}

// plugin returns the plugin with a policy of one rule; more holds further fields of it.
func (r *rollout) plugin(t *testing.T, more string) client.Plugin {
	t.Helper()
	text := fmt.Sprintf("keys: {shop: {uri: %q}}\nseal:\n  - {match: {namespace: default}, keys: [shop]%s}\n", localkms.URI(r.keyring, "shop"), more)
	p, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(localkms.Backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return codec.NewPlugin(c)
}

func (r *rollout) dial(t *testing.T, plugins ...client.Plugin) client.Client {
	t.Helper()
	cl, err := client.DialContext(t.Context(), client.Options{
		HostPort: r.server.HostPort, Plugins: plugins, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// work starts a worker with a client of its own. It ends with the test, or when
// it is stopped.
func (r *rollout) work(t *testing.T, queue string, plugins ...client.Plugin) (stop func()) {
	t.Helper()
	w := worker.New(r.dial(t, plugins...), queue, worker.Options{WorkerStopTimeout: 10 * time.Second})
	for name, f := range map[string]any{
		"Order": orderWorkflow, "Waits": waitsWorkflow, "Sleeps": sleepsWorkflow, "Loops": loopsWorkflow, "Calls": callsWorkflow, "Beats": beatsWorkflow,
	} {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	w.RegisterActivity(shout)
	w.RegisterActivityWithOptions(beats, activity.RegisterOptions{Name: "beats"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		w.Stop()
		// The workers of one process share it, later ones too. So tests with such workers run
		// alone: beside them, other workflows would be replayed and lose tasks under way.
		worker.PurgeStickyWorkflowCache()
	})
	t.Cleanup(stop)
	return stop
}

func start(t *testing.T, cl client.Client, queue, workflowType, id string, args ...any) client.WorkflowRun {
	t.Helper()
	run, err := cl.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: queue, Memo: map[string]any{"note": "about " + id}}, workflowType, args...)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func signal(t *testing.T, cl client.Client, id, name string, arg any) {
	t.Helper()
	if err := cl.SignalWorkflow(t.Context(), id, "", name, arg); err != nil {
		t.Fatal(err)
	}
}

// history returns the events of the latest run as the server has them.
func (r *rollout) history(t *testing.T, id string) []*historypb.HistoryEvent {
	t.Helper()
	var events []*historypb.HistoryEvent
	bare := r.dial(t)
	all := bare.GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for all.HasNext() {
		e, err := all.Next()
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// awaitEvent waits until the history has n events of a type.
func (r *rollout) awaitEvent(t *testing.T, id string, kind enumspb.EventType, n int) {
	t.Helper()
	if err := eventually(t.Context(), fmt.Sprintf("%s has %d of %v", id, n, kind), func() (bool, error) {
		found := 0
		for _, e := range r.history(t, id) {
			if e.GetEventType() == kind {
				found++
			}
		}
		return found >= n, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// awaitStatus waits until the workflow has a status.
func (r *rollout) awaitStatus(t *testing.T, cl client.Client, id string, want enumspb.WorkflowExecutionStatus) {
	t.Helper()
	if err := eventually(t.Context(), fmt.Sprintf("%s is %v", id, want), func() (bool, error) {
		d, err := describe(t.Context(), cl, id, "")
		return d.GetWorkflowExecutionInfo().GetStatus() == want, err
	}); err != nil {
		t.Fatal(err)
	}
}

// inPlaintext returns where events have payloads that are not sealed, but for
// search attributes, which never are.
func inPlaintext(t *testing.T, events ...*historypb.HistoryEvent) (places []string) {
	t.Helper()
	for _, e := range events {
		found, err := payloads.Walk(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if string(f.Payload.GetMetadata()["encoding"]) != codec.Encoding && !strings.HasPrefix(f.Field, "temporal.api.common.v1.SearchAttributes.") {
				places = append(places, fmt.Sprintf("event %d: %s", e.GetEventId(), f.Path))
			}
		}
	}
	return places
}

// wantResult waits for a workflow's result.
func wantResult[T any](t *testing.T, run client.WorkflowRun, want T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got T
	if err := run.Get(ctx, &got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s ended with %v, %v; want %v", run.GetID(), got, err, want)
	}
}

// scheduled returns the schedule that starts one more workflow, paused.
func scheduled(t *testing.T, cl client.Client, arg string) client.ScheduleHandle {
	t.Helper()
	s, err := cl.ScheduleClient().Create(t.Context(), client.ScheduleOptions{
		ID: "nightly", Paused: true, Action: &client.ScheduleWorkflowAction{ID: "nightly", TaskQueue: shop, Workflow: "Sleeps", Args: []any{arg}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// trigger has a schedule start its workflow now and returns that workflow.
func trigger(t *testing.T, cl client.Client, s client.ScheduleHandle, nth int) client.WorkflowRun {
	t.Helper()
	if err := s.Trigger(t.Context(), client.ScheduleTriggerOptions{}); err != nil {
		t.Fatal(err)
	}
	var found client.WorkflowRun
	if err := eventually(t.Context(), "the schedule has started its workflow", func() (bool, error) {
		d, err := s.Describe(t.Context())
		if err != nil || len(d.Info.RecentActions) < nth {
			return false, err
		}
		a := d.Info.RecentActions[nth-1].StartWorkflowResult
		found = cl.GetWorkflow(t.Context(), a.WorkflowID, a.FirstExecutionRunID)
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestRollout goes the way of docs/worker.md, "An application that runs already":
// an application without encryption has workflows open; its workers are replaced,
// then its clients, and then requireSealed is said.
func TestRollout(t *testing.T) {
	r := newRollout(t)
	oldClient := r.dial(t)
	stopOld := r.work(t, shop)

	// What is open, and what is done, on that day.
	order := start(t, oldClient, shop, "Order", "order", "Jane")
	loops := start(t, oldClient, shop, "Loops", "loops", 0)
	beating := start(t, oldClient, shop, "Beats", "beats")
	done := start(t, oldClient, shop, "Sleeps", "done", "long ago")
	nightly := scheduled(t, oldClient, "nightly")
	r.awaitEvent(t, "order", enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, 1)
	signal(t, oldClient, "order", "note", "first")
	if err := eventually(t.Context(), "the workflow was told, and the activity is half done", func() (bool, error) {
		var told []string
		answer, err := oldClient.QueryWorkflow(t.Context(), "order", "", "told")
		if err == nil {
			err = answer.Get(&told)
		}
		d, err2 := describe(t.Context(), oldClient, "beats", "")
		return slices.Contains(told, "first") && len(d.GetPendingActivities()) == 1 && d.GetPendingActivities()[0].GetHeartbeatDetails() != nil, errors.Join(err, err2)
	}); err != nil {
		t.Fatal(err)
	}
	wantResult(t, done, "long ago slept")
	sleeps := start(t, oldClient, shop, "Sleeps", "sleeps", "sleeper")
	r.awaitEvent(t, "sleeps", enumspb.EVENT_TYPE_TIMER_STARTED, 1)

	// The old workers stop. Nothing is lost meanwhile: the server accepts signals and
	// starts, and timers fire. Only calls to a worker get no answer.
	stopOld()
	signal(t, oldClient, "order", "note", "second")
	meanwhile := start(t, oldClient, shop, "Waits", "meanwhile", "meanwhile")
	r.awaitEvent(t, "sleeps", enumspb.EVENT_TYPE_TIMER_FIRED, 1)
	asking, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := oldClient.QueryWorkflow(asking, "order", "", "told"); err == nil {
		t.Error("a query was answered, and no worker runs")
	}
	before := r.history(t, "order")
	if len(inPlaintext(t, before...)) < 10 {
		t.Fatalf("the application said too little: %v", inPlaintext(t, before...))
	}

	// The new ones start. What is open goes on, and seals from then on.
	plugin := r.plugin(t, "")
	stopNew := r.work(t, shop, plugin)
	newClient := r.dial(t, plugin)
	sleeps = newClient.GetWorkflow(t.Context(), "sleeps", sleeps.GetRunID())
	wantResult(t, sleeps, "sleeper slept")
	wantResult(t, newClient.GetWorkflow(t.Context(), "beats", beating.GetRunID()), "half, then the rest")
	wantResult(t, newClient.GetWorkflow(t.Context(), "done", ""), "long ago slept")
	for _, id := range []string{"sleeps", "beats"} {
		ended := last(r.history(t, id))
		if ended.GetWorkflowExecutionCompletedEventAttributes().GetResult() == nil || len(inPlaintext(t, ended)) > 0 {
			t.Errorf("%s ended with %v", id, ended)
		}
	}

	// A client that is still without the plugin sends plaintext, which is read, and
	// cannot read results.
	signal(t, oldClient, "meanwhile", "go on", "went on")
	wantResult(t, newClient.GetWorkflow(t.Context(), "meanwhile", meanwhile.GetRunID()), "meanwhile went on")
	var text string
	if err := meanwhile.Get(t.Context(), &text); err == nil || !strings.Contains(err.Error(), "payload encoding is not supported") {
		t.Errorf("a client without the plugin read a sealed result: %q, %v", text, err)
	}

	// Then the clients: all that they say is sealed.
	signal(t, newClient, "order", "note", "third")
	signal(t, newClient, childOf(before), "go on", "went on")
	order = newClient.GetWorkflow(t.Context(), "order", order.GetRunID())
	wantResult(t, order, []string{"Jane", "side effect", "LOCAL", "BEFORE", "first", "second", "third", "child of Jane went on", "AFTER"})
	if places := inPlaintext(t, r.history(t, "order")[len(before):]...); len(places) > 0 {
		t.Errorf("after the change a workflow from before says in plaintext: %v", places)
	}
	signal(t, newClient, "loops", "go on", nil)
	wantResult(t, newClient.GetWorkflow(t.Context(), "loops", loops.GetRunID()), 1)
	fresh := start(t, newClient, shop, "Order", "fresh", "Zoë")
	for _, note := range []string{"one", "two", "three"} {
		signal(t, newClient, "fresh", "note", note)
	}
	r.awaitEvent(t, "fresh", enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, 1)
	signal(t, newClient, childOf(r.history(t, "fresh")), "go on", "went on")
	wantResult(t, fresh, []string{"Zoë", "side effect", "LOCAL", "BEFORE", "one", "two", "three", "child of Zoë went on", "AFTER"})
	for _, id := range []string{"fresh", childOf(r.history(t, "fresh")), "loops"} {
		if places := inPlaintext(t, r.history(t, id)...); len(places) > 0 {
			t.Errorf("%s says in plaintext: %v", id, places)
		}
	}

	// A schedule from before goes on starting workflows with what it was given then,
	// until it is given it anew.
	run := trigger(t, newClient, nightly, 1)
	wantResult(t, run, "nightly slept")
	if len(inPlaintext(t, r.history(t, run.GetID())[0])) == 0 {
		t.Error("a schedule from before has sealed arguments")
	}
	nightly = newClient.ScheduleClient().GetHandle(t.Context(), "nightly")
	if err := nightly.Update(t.Context(), client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		in.Description.Schedule.Action.(*client.ScheduleWorkflowAction).Args = []any{"nightly"}
		return &client.ScheduleUpdate{Schedule: &in.Description.Schedule}, nil
	}}); err != nil {
		t.Fatal(err)
	}
	run = trigger(t, newClient, nightly, 2)
	wantResult(t, run, "nightly slept")
	if places := inPlaintext(t, r.history(t, run.GetID())...); len(places) > 0 {
		t.Errorf("a schedule with arguments of a new client says in plaintext: %v", places)
	}

	// No plaintext is left that anything open needs. From now on it is required.
	stopNew()
	strict := r.plugin(t, ", requireSealed: true")
	r.work(t, shop, strict)
	strictClient := r.dial(t, strict)
	wantResult(t, start(t, strictClient, shop, "Sleeps", "strict", "strict"), "strict slept")
	wantResult(t, trigger(t, strictClient, nightly, 3), "nightly slept")
	slipped, err := oldClient.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "slipped in", TaskQueue: shop}, "Sleeps", "slipped in")
	if err != nil {
		t.Fatal(err)
	}
	if err := strictClient.GetWorkflow(t.Context(), "slipped in", slipped.GetRunID()).Get(t.Context(), &text); err == nil || !strings.Contains(err.Error(), "requires it to be") {
		t.Errorf("plaintext that was slipped in: %q, %v", text, err)
	}
	// A memo never meets the data converter: the guard fails the task, and says why.
	start(t, oldClient, shop, "Sleeps", "memo slipped in", "slipped in")
	r.awaitEvent(t, "memo slipped in", enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, 1)
	for _, e := range r.history(t, "memo slipped in") {
		if failed := e.GetWorkflowTaskFailedEventAttributes(); failed != nil && !strings.Contains(failed.GetFailure().GetMessage(), "a memo is not sealed") {
			t.Errorf("the task of a workflow with a plaintext memo fails with %q", failed.GetFailure().GetMessage())
		}
	}
	if err := strictClient.TerminateWorkflow(t.Context(), "memo slipped in", "", "it would be tried for ever"); err != nil {
		t.Error(err)
	}
}

// TestRolloutWithoutOrder does what docs/worker.md warns of. A worker without the
// plugin that gets what is sealed fails workflows for good; with the plugin they
// can be reset, which is why it stays when one goes back.
func TestRolloutWithoutOrder(t *testing.T) {
	r := newRollout(t)
	plugin := r.plugin(t, "")
	newClient, oldClient := r.dial(t, plugin), r.dial(t)
	stopOld := r.work(t, shop)

	// The input is sealed.
	start(t, newClient, shop, "Sleeps", "input", "sealed")
	r.awaitStatus(t, oldClient, "input", enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	if f := last(r.history(t, "input")).GetWorkflowExecutionFailedEventAttributes().GetFailure(); !strings.Contains(f.GetMessage(), "payload encoding is not supported") {
		t.Errorf("it failed with %v", f)
	}
	// The result of an activity is, for its worker has the plugin already.
	stopNew := r.work(t, "activities", plugin)
	start(t, oldClient, shop, "Calls", "result", "activities")
	r.awaitStatus(t, oldClient, "result", enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	stopNew()
	// A signal is, to a workflow that waits for it: it is passed over.
	waits := start(t, oldClient, shop, "Waits", "signal", "patient")
	r.awaitEvent(t, "signal", enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 1)
	signal(t, newClient, "signal", "go on", "went on")
	r.awaitEvent(t, "signal", enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2)
	stopOld()

	// With the plugin it is read, once anything else gives the workflow a task.
	stopNew = r.work(t, shop, plugin)
	r.awaitStatus(t, oldClient, "signal", enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING)
	signal(t, newClient, "signal", "another", nil)
	wantResult(t, newClient.GetWorkflow(t.Context(), "signal", waits.GetRunID()), "patient went on")

	// What workflow code of a new worker noted is sealed, and an old worker replays
	// it: the task fails, and is done by the next worker with the plugin.
	order := start(t, oldClient, shop, "Order", "order", "Jane")
	r.awaitEvent(t, "order", enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, 1)
	child := childOf(r.history(t, "order"))
	r.awaitEvent(t, child, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 1) // it has read its input
	stopNew()
	stopOld = r.work(t, shop)
	for _, note := range []string{"one", "two", "three"} {
		signal(t, oldClient, "order", "note", note)
	}
	r.awaitEvent(t, "order", enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, 1)
	stopOld()
	r.work(t, shop, plugin)
	signal(t, newClient, child, "go on", "went on")
	wantResult(t, newClient.GetWorkflow(t.Context(), "order", order.GetRunID()),
		[]string{"Jane", "side effect", "LOCAL", "BEFORE", "one", "two", "three", "child of Jane went on", "AFTER"})

	// What failed can be had back, too.
	wantResult(t, r.reset(t, newClient, "input"), "sealed slept")
}

// TestRolloutRequiresSealedTooEarly sets requireSealed while workflows from before are
// open. One with a memo is held, and goes on once plaintext may pass again. One with
// plaintext that reaches the data converter first fails, and can be reset then.
func TestRolloutRequiresSealedTooEarly(t *testing.T) {
	r := newRollout(t)
	oldClient := r.dial(t)
	stopOld := r.work(t, shop)
	held := start(t, oldClient, shop, "Waits", "straggler", "straggler")
	if _, err := oldClient.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "without memo", TaskQueue: shop}, "Waits", "straggler"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"straggler", "without memo"} {
		r.awaitEvent(t, id, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 1)
	}
	stopOld()
	strict := r.plugin(t, ", requireSealed: true")
	stopStrict := r.work(t, shop, strict)
	for _, id := range []string{"straggler", "without memo"} {
		signal(t, r.dial(t, strict), id, "go on", "went on")
	}
	r.awaitEvent(t, "straggler", enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, 1)
	r.awaitStatus(t, oldClient, "without memo", enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	stopStrict()
	plugin := r.plugin(t, "")
	r.work(t, shop, plugin)
	newClient := r.dial(t, plugin)
	wantResult(t, newClient.GetWorkflow(t.Context(), "straggler", held.GetRunID()), "straggler went on")
	wantResult(t, r.reset(t, newClient, "without memo"), "straggler went on")
}

func last(events []*historypb.HistoryEvent) *historypb.HistoryEvent { return events[len(events)-1] }

// childOf returns the ID of the child that a workflow has started.
func childOf(events []*historypb.HistoryEvent) string {
	for _, e := range events {
		if a := e.GetChildWorkflowExecutionStartedEventAttributes(); a != nil {
			return a.GetWorkflowExecution().GetWorkflowId()
		}
	}
	return ""
}

// reset has a workflow begin again after its first task.
func (r *rollout) reset(t *testing.T, cl client.Client, id string) client.WorkflowRun {
	t.Helper()
	history := r.history(t, id)
	first := slices.IndexFunc(history, func(e *historypb.HistoryEvent) bool {
		return e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
	})
	if first < 0 {
		t.Fatalf("no workflow task of %s completed", id)
	}
	reset, err := cl.ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: client.DefaultNamespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id},
		Reason: "it can be read now", WorkflowTaskFinishEventId: history[first].GetEventId(), RequestId: "reset " + id,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cl.GetWorkflow(t.Context(), id, reset.GetRunId())
}
