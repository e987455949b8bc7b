package codec_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nexus-rpc/sdk-go/nexus"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waxseal/waxseal/codec"
)

var (
	// errHeld: the worker answered that the task failed.
	errHeld = errors.New("the task failed")
	// errSilent: no task should end like this.
	errSilent = errors.New("the task was neither answered nor dropped")
	// errLost: the SDK dropped the task.
	errLost = errors.New("the task was dropped")
)

// workerCalls are the tasks of a worker, by kind.
func workerCalls() map[string]func(context.Context, *call) error {
	return map[string]func(context.Context, *call) error{
		"workflow task": func(ctx context.Context, c *call) error { return c.workflowTask(ctx, nil) },
		"workflow task with a query": func(ctx context.Context, c *call) error {
			return c.workflowTask(ctx, func(task *workflowservice.PollWorkflowTaskQueueResponse) error {
				arg, err := c.input(ctx, "query-argument")
				task.Queries = map[string]*querypb.WorkflowQuery{"q": {QueryType: "query", QueryArgs: payloads(arg)}}
				return err
			})
		},
		"workflow task with an update": func(ctx context.Context, c *call) error {
			return c.workflowTask(ctx, func(task *workflowservice.PollWorkflowTaskQueueResponse) error {
				arg, err := c.input(ctx, "update-argument")
				if err != nil {
					return err
				}
				body, err := anypb.New(&updatepb.Request{Meta: &updatepb.Meta{UpdateId: "u"}, Input: &updatepb.Input{Name: "update", Args: payloads(arg)}})
				task.Messages = []*protocolpb.Message{{Id: "u/request", ProtocolInstanceId: "u", Body: body, SequencingId: &protocolpb.Message_EventId{EventId: 2}}}
				return err
			})
		},
		"query task": func(ctx context.Context, c *call) error {
			return c.workflowTask(ctx, func(task *workflowservice.PollWorkflowTaskQueueResponse) error {
				arg, err := c.input(ctx, "query-argument")
				task.Query = &querypb.WorkflowQuery{QueryType: "query", QueryArgs: payloads(arg)}
				task.PreviousStartedEventId, task.StartedEventId = 3, 0
				task.History.Events = append(task.GetHistory().GetEvents(),
					&historypb.HistoryEvent{EventId: 4, EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, EventTime: timestamppb.Now(), Attributes: &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{
						WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{ScheduledEventId: 2, StartedEventId: 3},
					}},
					&historypb.HistoryEvent{EventId: 5, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, EventTime: timestamppb.Now(), Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
						WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{WorkflowTaskCompletedEventId: 4},
					}})
				return err
			})
		},
		"activity task":   func(ctx context.Context, c *call) error { return c.activityTask(ctx) },
		"Nexus operation": func(ctx context.Context, c *call) error { return c.nexusTask(ctx) },
	}
}

func (l *lane) taskQueue() string { return fmt.Sprint("tasks-", l.n) }

func (l *lane) startWorker(t *testing.T) {
	t.Helper()
	w := worker.New(l.client, l.taskQueue(), worker.Options{
		MaxConcurrentWorkflowTaskPollers: 2, MaxConcurrentActivityTaskPollers: 1, MaxConcurrentNexusTaskPollers: 1,
		// Sealing a failure while an update is rejected counts as workflow code. If it takes a
		// second, as it may with 32 lanes and the race detector, the SDK gives up the task but
		// not its coroutine, and the two race.
		DeadlockDetectionTimeout: time.Minute,
	})
	w.RegisterWorkflowWithOptions(l.workflow, workflow.RegisterOptions{Name: "Wire"})
	w.RegisterActivityWithOptions(l.activity, activity.RegisterOptions{Name: "Activity"})
	service := nexus.NewService("service")
	if err := service.Register(nexus.NewSyncOperation("operation", l.operation)); err != nil {
		t.Fatal(err)
	}
	w.RegisterNexusService(service)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

// input is a payload that was sealed while the KMS was healthy.
func (c *call) input(ctx context.Context, value any) (*commonpb.Payload, error) {
	defer c.failing.Store(c.failing.Swap(0))
	p, err := plainConverter().ToPayload(value)
	if err != nil {
		return nil, err
	}
	sealed, err := c.codec.Encode(ctx, codec.EncodeOptions{Namespace: c.namespace}, []*commonpb.Payload{p})
	if err != nil {
		return nil, err
	}
	return sealed[0], nil
}

func (c *call) token() string { return fmt.Sprint("task-", c.n) }

// give hands the worker a task, and waits for its answer. failed is the answer for a failed
// task.
func (c *call) give(kind string, task proto.Message) error {
	c.server.queue(kind, c.taskQueue()) <- task
	deadline := time.NewTimer(time.Minute) // the test proves nothing about time, and machines are slow
	defer deadline.Stop()
	for {
		select {
		case r := <-c.responded:
			if r.token != c.token() {
				continue
			}
			if r.err == nil && r.failed && !c.fails.Load() {
				return errHeld
			}
			return r.err
		case <-deadline.C:
			return errSilent
		}
	}
}

func (c *call) workflowTask(ctx context.Context, change func(*workflowservice.PollWorkflowTaskQueueResponse) error) error {
	execution := &commonpb.WorkflowExecution{WorkflowId: c.id(), RunId: fmt.Sprintf("run-%d", c.n)}
	queue := &taskqueuepb.TaskQueue{Name: c.taskQueue(), Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
	event := func(id int64, kind enumspb.EventType) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{EventId: id, EventType: kind, EventTime: timestamppb.Now()}
	}
	started, scheduled, begun := event(1, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED), event(2, enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED), event(3, enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED)
	started.Attributes = &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowType: &commonpb.WorkflowType{Name: "Wire"}, TaskQueue: queue, Attempt: 1, FirstExecutionRunId: execution.GetRunId(), OriginalExecutionRunId: execution.GetRunId(),
		WorkflowRunTimeout: durationpb.New(time.Hour), WorkflowTaskTimeout: durationpb.New(10 * time.Second),
	}}
	scheduled.Attributes = &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{TaskQueue: queue, Attempt: 1}}
	begun.Attributes = &historypb.HistoryEvent_WorkflowTaskStartedEventAttributes{WorkflowTaskStartedEventAttributes: &historypb.WorkflowTaskStartedEventAttributes{ScheduledEventId: 2}}
	task := &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: []byte(c.token()), WorkflowExecution: execution, WorkflowType: &commonpb.WorkflowType{Name: "Wire"}, StartedEventId: 3, Attempt: 1,
		ScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(), History: &historypb.History{Events: []*historypb.HistoryEvent{started, scheduled, begun}},
	}
	if change != nil {
		if err := change(task); err != nil {
			return err
		}
	}
	return c.give("workflow", task)
}

// workflow uses some of the features of workflows, all in one task.
func (l *lane) workflow(ctx workflow.Context) (string, error) {
	c := l.current.Load()
	if c == nil {
		return "", errLost
	}
	ctx = c.workflowContext(ctx)
	updated := false
	query := func(string) (string, error) {
		if c.n%2 == 0 {
			return "", errors.New(c.perhaps("query-failure"))
		}
		return c.perhaps("query-result"), nil
	}
	update := func(workflow.Context, string) (string, error) {
		updated = true
		if c.n%3 == 0 {
			return "", c.detailed()
		}
		return c.perhaps("update-result"), nil
	}
	validate := func(string) error {
		if c.n%5 == 0 {
			updated = true
			return c.detailed()
		}
		return nil
	}
	if err := errors.Join(
		workflow.SetQueryHandler(ctx, "query", query),
		workflow.SetUpdateHandlerWithOptions(ctx, "update", update, workflow.UpdateHandlerOptions{Validator: validate, Description: "describes"}),
	); err != nil {
		return "", err
	}
	if c.kind == "workflow task with an update" {
		return c.perhaps("result"), workflow.Await(ctx, func() bool { return updated })
	}
	if c.kind == "query task" {
		return "", nil
	}
	steps := workflowSteps()
	for range 1 + c.r.IntN(4) {
		if err := steps[c.r.IntN(len(steps))](ctx, c); err != nil {
			return "", err
		}
	}
	return c.end(ctx)
}

func (c *call) workflowContext(ctx workflow.Context) workflow.Context {
	if c.r.IntN(6) == 0 {
		ctx = workflow.WithValue(ctx, headerKey{}, c.perhaps("header"))
	}
	return ctx
}

// detailed is an error with details, which are left out if they cannot be sealed.
func (c *call) detailed() error {
	return temporal.NewApplicationErrorWithCause(c.perhaps("message"), "Type", c.failure(), c.perhaps("details"))
}

func workflowSteps() []func(workflow.Context, *call) error {
	n := func(c *call, what string) string { return c.perhaps(fmt.Sprintf("%s-%d", what, len(c.may))) }
	once := &temporal.RetryPolicy{MaximumAttempts: 1}
	return []func(workflow.Context, *call) error{
		func(ctx workflow.Context, c *call) error {
			return workflow.UpsertMemo(ctx, map[string]any{"m": n(c, "memo")})
		},
		func(ctx workflow.Context, c *call) error {
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{Memo: c.childMemo(n), StaticSummary: n(c, "summary"), StaticDetails: n(c, "details")})
			workflow.ExecuteChildWorkflow(ctx, "Child", n(c, "input"))
			return nil
		},
		func(ctx workflow.Context, c *call) error {
			group := workflow.NewEventGroupWithOptions("group", workflow.EventGroupOptions{Label: n(c, "label")})
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, Summary: n(c, "summary"), EventGroups: []workflow.EventGroup{group}})
			workflow.ExecuteActivity(ctx, "Elsewhere", n(c, "input"))
			return nil
		},
		func(ctx workflow.Context, c *call) error {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute, Summary: n(c, "summary"), RetryPolicy: once})
			result := n(c, "local-result")
			return workflow.ExecuteLocalActivity(ctx, func(context.Context) (string, error) { return result, nil }).Get(ctx, nil)
		},
		func(ctx workflow.Context, c *call) error {
			message := c.perhaps(fmt.Sprintf("local-message-%d", len(c.may)))
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute, RetryPolicy: once})
			_ = workflow.ExecuteLocalActivity(ctx, func(context.Context) error { return errors.New(message) }).Get(ctx, nil) // it should fail
			return nil
		},
		func(ctx workflow.Context, c *call) error {
			value, summary := n(c, "side-effect"), n(c, "summary")
			return workflow.SideEffectWithOptions(ctx, workflow.SideEffectOptions{Summary: summary}, func(workflow.Context) any { return value }).Get(new(string))
		},
		func(ctx workflow.Context, c *call) error {
			id, value := n(c, "id"), c.hidden("mutable")
			return workflow.MutableSideEffect(ctx, id, func(workflow.Context) any { return value }, func(a, b any) bool { return a == b }).Get(new(string))
		},
		func(ctx workflow.Context, c *call) error {
			workflow.SignalExternalWorkflow(ctx, "other", "", "signal", n(c, "signal"))
			return nil
		},
		func(ctx workflow.Context, c *call) error {
			workflow.NewTimerWithOptions(ctx, time.Hour, workflow.TimerOptions{Summary: n(c, "summary")})
			return nil
		},
		func(ctx workflow.Context, c *call) error {
			workflow.NewNexusClient("e", "s").ExecuteOperation(ctx, "o", n(c, "input"), workflow.NexusOperationOptions{Summary: n(c, "summary")})
			return nil
		},
	}
}

func (c *call) childMemo(n func(*call, string) string) map[string]any {
	return map[string]any{"a": n(c, "child-memo"), "b": n(c, "child-memo")}
}

// end ends a workflow in one of many ways.
func (c *call) end(ctx workflow.Context) (string, error) {
	switch c.r.IntN(6) {
	case 0:
		return "", workflow.NewContinueAsNewError(ctx, "Wire", c.perhaps("next-input"))
	case 1:
		return "", c.detailed()
	case 2:
		return "", temporal.NewCanceledError(c.perhaps("canceled-details"))
	case 3:
		panic(c.meant(errors.New(c.perhaps("panic"))))
	default:
		return c.perhaps("result"), nil
	}
}

func (c *call) activityTask(ctx context.Context) error {
	in, err := c.input(ctx, "input")
	if err != nil {
		return err
	}
	return c.give("activity", &workflowservice.PollActivityTaskQueueResponse{
		TaskToken: []byte(c.token()), WorkflowNamespace: c.namespace, WorkflowType: &commonpb.WorkflowType{Name: "Wire"},
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: c.id(), RunId: "run"}, ActivityType: &commonpb.ActivityType{Name: "Activity"}, ActivityId: "a",
		Input: payloads(in), Attempt: 1, ScheduledTime: timestamppb.Now(), CurrentAttemptScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(),
		ScheduleToCloseTimeout: durationpb.New(time.Minute), StartToCloseTimeout: durationpb.New(time.Minute), HeartbeatTimeout: durationpb.New(time.Minute),
	})
}

func (l *lane) activity(ctx context.Context, _ string) (string, error) {
	c := l.current.Load()
	if c == nil {
		return "", errLost
	}
	if c.sometimes() {
		activity.RecordHeartbeat(ctx, c.perhaps("heartbeat"))
	}
	switch c.r.IntN(6) {
	case 0:
		return "", c.meant(c.failure())
	case 1:
		return "", c.meant(c.detailed())
	case 2:
		return "", temporal.NewCanceledError(c.perhaps("canceled-details"))
	case 3:
		panic(c.meant(errors.New(c.perhaps("panic"))))
	default:
		return c.perhaps("result"), nil
	}
}

func (c *call) nexusTask(ctx context.Context) error {
	in, err := c.input(ctx, "input")
	if err != nil {
		return err
	}
	return c.give("nexus", &workflowservice.PollNexusTaskQueueResponse{TaskToken: []byte(c.token()), Request: &nexuspb.Request{
		ScheduledTime: timestamppb.Now(), Endpoint: "e", Capabilities: &nexuspb.Request_Capabilities{TemporalFailureResponses: c.sometimes()},
		Variant: &nexuspb.Request_StartOperation{StartOperation: &nexuspb.StartOperationRequest{Service: "service", Operation: "operation", RequestId: c.id(), Payload: in}},
	}})
}

func (l *lane) operation(context.Context, string, nexus.StartOperationOptions) (string, error) {
	c := l.current.Load()
	if c == nil {
		return "", errLost
	}
	switch c.r.IntN(7) {
	case 0:
		return "", c.meant(nexus.NewOperationFailedErrorf("%s", c.perhaps("message")))
	case 1:
		return "", c.meant(&nexus.OperationError{State: nexus.OperationStateCanceled, Message: c.perhaps("message"), Cause: c.detailed()})
	case 2:
		return "", c.meant(&nexus.HandlerError{Type: nexus.HandlerErrorTypeBadRequest, Message: c.perhaps("message"), StackTrace: c.perhaps("trace"), Cause: c.detailed()})
	case 3: // a failure of another service, passed on
		return "", c.meant(&nexus.HandlerError{Type: nexus.HandlerErrorTypeInternal, Cause: &nexus.HandlerError{
			Type: nexus.HandlerErrorTypeInternal, OriginalFailure: &nexus.Failure{
				Message: c.perhaps("message"), StackTrace: c.perhaps("trace"), Metadata: map[string]string{"of": c.perhaps("metadata")}, Details: []byte(`"` + c.perhaps("details") + `"`),
			},
		}})
	case 4:
		return "", c.meant(c.failure())
	default:
		return c.perhaps("result"), nil
	}
}
