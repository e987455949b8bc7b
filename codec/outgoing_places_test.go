package codec_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nexus-rpc/sdk-go/nexus"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// outgoingPlaces are the places where the SDK, or the plugin, sends again a part of what it
// opened. Each receives a canary; none may leave in plaintext, in any byte of any request.
// docs/what-comes-back-out.md lists them.
func outgoingPlaces() []outgoingPlace {
	return []outgoingPlace{
		{"version-marker", versionMarkerPlace},
		{"inherited-changes", inheritedChangesPlace},
		{"session-id", sessionIDPlace},
		{"session-task-queue", sessionQueuePlace},
		{"local-activity-backoff", backoffPlace},
		{"marker-text", markerTextPlace},
		{"json-text", jsonTextPlace},
		{"query-text", queryTextPlace},
		{"failure-that-does-not-open", unopenedFailurePlace},
		{"failure-again", failureAgainPlace},
		{"cancellation-details", cancellationPlace},
		{"nexus-error", nexusErrorPlace},
		{"headers", headersPlace},
		{"update-accepted", updateAcceptedPlace},
		{"memo", memoPlace},
		{"raw-value", rawValuePlace},
		{"heartbeat", heartbeatPlace},
		{"schedule-update", scheduleUpdatePlace},
		{"workflow-metadata", workflowMetadataPlace},
		{"worker-heartbeat", workerHeartbeatPlace},
	}
}

type outgoingPlace struct {
	name string
	try  func(*outgoing)
}

func TestWhatComesBackOut(t *testing.T) {
	for _, p := range outgoingPlaces() {
		t.Run(p.name, func(t *testing.T) {
			o := newOutgoing(t)
			p.try(o)
		})
	}
}

// startWorkflow starts a worker with one workflow.
func (o *outgoing) startWorkflow(fn any) {
	o.Helper()
	o.start(func(w worker.Worker) { w.RegisterWorkflowWithOptions(fn, workflow.RegisterOptions{Name: "Workflow"}) })
}

// completed returns the commands of the next completion, by type.
func (o *outgoing) completed() []*commandpb.Command {
	o.Helper()
	return wait[*workflowservice.RespondWorkflowTaskCompletedRequest](o).GetCommands()
}

// eventsOf returns the history events of some commands.
func eventsOf(commands []*commandpb.Command) (events []*historypb.HistoryEvent) {
	for _, c := range commands {
		switch {
		case c.GetRecordMarkerCommandAttributes() != nil:
			a := c.GetRecordMarkerCommandAttributes()
			events = append(events, markerEvent(a.GetMarkerName(), a.GetDetails()))
		case c.GetScheduleActivityTaskCommandAttributes() != nil:
			a := c.GetScheduleActivityTaskCommandAttributes()
			events = append(events, &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
				ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{ActivityId: a.GetActivityId(), ActivityType: a.GetActivityType(), TaskQueue: a.GetTaskQueue(), WorkflowTaskCompletedEventId: 4},
			}})
		}
	}
	return events
}

// sealedIn fails the test unless an envelope of the place has the canary: otherwise the test
// did not reach the place.
func (o *outgoing) sealedIn(canary string) {
	o.Helper()
	if !o.server.hasOpened(canary) {
		o.Errorf("no envelope that left has %q: the place was not reached", canary)
	}
}

func versionMarkerPlace(o *outgoing) {
	o.startWorkflow(versioned)
	o.give("workflow", outgoingQueue, o.workflowTask(nil, versionMarker(o.sealed("first"), o.sealed(2)), upsertEvent(o, "first-2"),
		versionMarker(o.sealed(o.secret("iban")), o.sealed(secretNumber)), signalEvent("go on", nil)))
	if text := o.failed(); !strings.Contains(text, "denied") {
		o.Error(text)
	}
}

// inheritedChangesPlace: a workflow passes its search attributes to a child and to its next
// run.
func inheritedChangesPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context) error {
		workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
		ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{TypedSearchAttributes: workflow.GetTypedSearchAttributes(ctx)})
		workflow.ExecuteChildWorkflow(ctx, "Child")
		return workflow.NewContinueAsNewError(ctx, "Workflow")
	})
	o.give("workflow", outgoingQueue, o.workflowTask(nil, versionMarker(o.sealed("first"), o.sealed(2)), upsertEvent(o, "first-2"), signalEvent("go on", nil)))
	commands := o.completed()
	for _, c := range commands {
		if strings.Contains(c.String(), "TemporalChangeVersion") {
			o.Errorf("inherited: %v", c)
		}
	}
	if len(commands) < 2 {
		o.Errorf("sent: %v", commands)
	}
}

func (o *outgoing) activityTask(kind string, input *commonpb.Payloads) *workflowservice.PollActivityTaskQueueResponse {
	o.tasks++
	return &workflowservice.PollActivityTaskQueueResponse{
		TaskToken: []byte(o.run()), WorkflowNamespace: outgoingNamespace, WorkflowType: &commonpb.WorkflowType{Name: "Workflow"},
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "id", RunId: "run"}, ActivityType: &commonpb.ActivityType{Name: kind}, ActivityId: "a",
		Input: input, Attempt: 1, ScheduledTime: timestamppb.Now(), CurrentAttemptScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(),
		ScheduleToCloseTimeout: durationpb.New(time.Minute), StartToCloseTimeout: durationpb.New(time.Minute), HeartbeatTimeout: durationpb.New(time.Minute),
	}
}

// sessionIDPlace: the SDK's activity that creates a session signals its workflow, and takes the
// name of the signal from its input. It converts the signal without the plugin's data
// converter, so the guard refuses the request.
func sessionIDPlace(o *outgoing) {
	o.startWorkflow(func(workflow.Context) error { return nil })
	o.give("activity", outgoingQueue+"__internal_session_creation", o.activityTask("internalSessionCreationActivity", o.sealed(o.secret("name"))))
	if text := o.text(wait[*workflowservice.RespondActivityTaskFailedRequest](o).GetFailure()); !strings.Contains(text, "refused to send SignalWorkflowExecution") {
		o.Error(text)
	}
}

// sessionQueuePlace: that signal names the task queue for the activities of a session.
func sessionQueuePlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute})
		session, err := workflow.CreateSession(ctx, &workflow.SessionOptions{CreationTimeout: time.Minute, ExecutionTimeout: time.Minute})
		if err != nil {
			return err
		}
		return workflow.ExecuteActivity(session, "Elsewhere").Get(session, nil)
	})
	first := o.workflowTask(nil)
	o.give("workflow", outgoingQueue, first)
	events := eventsOf(o.completed())
	var id string
	if err := o.converter().FromPayloads(events[0].GetMarkerRecordedEventAttributes().GetDetails()["data"], &id); err != nil {
		o.Fatal(err)
	}
	type response struct{ Taskqueue, ResourceID, HostName string }
	for _, tc := range []struct {
		name  string
		input any
		queue string
	}{
		{"another object", map[string]any{"taskQueue": o.secret("queue")}, ""},
		{"an object with these fields", response{o.secret("queue"), "r", "h"}, ""},
		{"the SDK's", response{"r@h", "r", "h"}, "r@h"},
	} {
		events = append(events, signalEvent(id, o.sealed(tc.input)))
		task := o.workflowTask(nil, events...)
		o.give("workflow", outgoingQueue, task)
		queue := ""
		for _, c := range o.completed() {
			if a := c.GetScheduleActivityTaskCommandAttributes(); a.GetActivityType().GetName() == "Elsewhere" {
				queue = a.GetTaskQueue().GetName()
			}
		}
		if queue != tc.queue {
			o.Errorf("%s: task queue %q", tc.name, queue)
		}
	}
}

// localActivity is a workflow with a local activity that is retried.
func localActivity(ctx workflow.Context) error {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Hour})
	return workflow.ExecuteLocalActivity(ctx, func(context.Context) (string, error) { return "", errors.New("x") }).Get(ctx, nil)
}

type localMarker struct {
	ActivityID, ActivityType string
	ReplayTime               time.Time
	Attempt                  int
	Backoff                  time.Duration
}

func localActivityMarker(o *outgoing, data any) *historypb.HistoryEvent {
	e := markerEvent("LocalActivity", map[string]*commonpb.Payloads{"data": o.sealed(data)})
	e.GetMarkerRecordedEventAttributes().Failure = o.failures().ErrorToFailure(errors.New("x"))
	return e
}

// backoffPlace: the marker of a local activity states its retry delay, for which the SDK sets a
// timer. In a replay the SDK ignores a timer that the history lacks, and sends none that it
// has.
func backoffPlace(o *outgoing) {
	o.startWorkflow(localActivity)
	forged := localActivityMarker(o, map[string]any{"activityId": "1", "backoff": secretNumber})
	timer := &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_TIMER_STARTED, Attributes: &historypb.HistoryEvent_TimerStartedEventAttributes{
		TimerStartedEventAttributes: &historypb.TimerStartedEventAttributes{TimerId: "6", StartToFireTimeout: durationpb.New(time.Hour), WorkflowTaskCompletedEventId: 4},
	}}
	o.give("workflow", outgoingQueue, o.workflowTask(nil, signalEvent("s", nil), forged))
	if text := o.failed(); !strings.Contains(text, "nondeterministic") || !strings.Contains(text, "108154711") {
		o.Error(text)
	}
	o.give("workflow", outgoingQueue, o.workflowTask(nil, forged, timer))
	if commands := o.completed(); len(commands) > 0 {
		o.Errorf("sent: %v", commands)
	}
}

// markerTextPlace: if a marker does not match the code, the SDK's error texts quote its
// content.
func markerTextPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context, which string) error {
		switch which {
		case "version":
			workflow.GetVersion(ctx, "new-fees", workflow.DefaultVersion, 1)
		case "local":
			return localActivity(ctx)
		case "side":
			_ = workflow.SideEffect(ctx, func(workflow.Context) any { return 1 }).Get(new(int))
		case "mutable":
			_ = workflow.MutableSideEffect(ctx, "id", func(workflow.Context) any { return 1 }, func(a, b any) bool { return a == b }).Get(new(int))
		}
		return workflow.Await(ctx, func() bool { return false })
	})
	for which, tc := range map[string]struct {
		marker *historypb.HistoryEvent
		text   string
	}{
		"version": {versionMarker(o.sealed("new-fees"), o.sealed(secretNumber)), fmt.Sprint(secretNumber)},
		"local":   {localActivityMarker(o, localMarker{ActivityID: "1", ActivityType: o.secret("type"), ReplayTime: time.Now()}), o.secret("type")},
		"side":    {markerEvent("SideEffect", map[string]*commonpb.Payloads{"side-effect-id": o.sealed(secretNumber), "data": o.sealed(1)}), fmt.Sprint(secretNumber)},
		"mutable": {markerEvent("MutableSideEffect", map[string]*commonpb.Payloads{"side-effect-id": o.sealed(o.secret("id")), "data": o.sealed(o.secret("id"), payloads())}), "MutableSideEffect"},
	} {
		o.give("workflow", outgoingQueue, o.workflowTask(o.sealed(which), tc.marker))
		if text := o.failed(); !strings.Contains(text, tc.text) {
			o.Errorf("%s: %s", which, text)
		}
	}
}

// jsonTextPlace: encoding/json quotes a number of the wrong type.
func jsonTextPlace(o *outgoing) {
	o.start(func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ string) error {
			if err := workflow.SetUpdateHandler(ctx, "update", func(workflow.Context, string) error { return nil }); err != nil {
				return err
			}
			return workflow.Await(ctx, func() bool { return false })
		}, workflow.RegisterOptions{Name: "Workflow"})
		w.RegisterActivityWithOptions(func(context.Context, string) error { return nil }, activity.RegisterOptions{Name: "Activity"})
		registerNexus(w, func(context.Context, string, nexus.StartOperationOptions) (string, error) { return "", nil })
	})
	quoted := func(where string, f *failurepb.Failure) {
		o.Helper()
		if text := o.text(f); !strings.Contains(text, "cannot unmarshal number") {
			o.Errorf("%s: %s", where, text)
		}
	}
	o.give("workflow", outgoingQueue, o.workflowTask(o.sealed(secretNumber)))
	quoted("workflow", o.completed()[0].GetFailWorkflowExecutionCommandAttributes().GetFailure())

	o.give("activity", outgoingQueue, o.activityTask("Activity", o.sealed(secretNumber)))
	quoted("activity", wait[*workflowservice.RespondActivityTaskFailedRequest](o).GetFailure())

	o.give("workflow", outgoingQueue, o.updateTask(o.sealed("x"), &updatepb.Input{Name: "update", Args: o.sealed(secretNumber)}))
	for _, m := range wait[*workflowservice.RespondWorkflowTaskCompletedRequest](o).GetMessages() {
		rejected := new(updatepb.Rejection)
		if err := m.GetBody().UnmarshalTo(rejected); err != nil {
			o.Fatal(err)
		}
		quoted("update", rejected.GetFailure())
	}

	o.give("nexus", outgoingQueue, o.nexusTask(o.seal(secretNumber), true))
	quoted("Nexus operation", wait[*workflowservice.RespondNexusTaskFailedRequest](o).GetFailure())
	o.give("nexus", outgoingQueue, o.nexusTask(o.seal(secretNumber), false))
	wait[*workflowservice.RespondNexusTaskFailedRequest](o)
}

func (o *outgoing) updateTask(input *commonpb.Payloads, in *updatepb.Input) *workflowservice.PollWorkflowTaskQueueResponse {
	o.Helper()
	task := o.workflowTask(input)
	body, err := anypb.New(&updatepb.Request{Meta: &updatepb.Meta{UpdateId: "u"}, Input: in})
	if err != nil {
		o.Fatal(err)
	}
	task.Messages = []*protocolpb.Message{{Id: "u/request", ProtocolInstanceId: "u", Body: body, SequencingId: &protocolpb.Message_EventId{EventId: 2}}}
	return task
}

func (o *outgoing) nexusTask(input *commonpb.Payload, failures bool) *workflowservice.PollNexusTaskQueueResponse {
	o.tasks++
	return &workflowservice.PollNexusTaskQueueResponse{TaskToken: []byte(o.run()), Request: &nexuspb.Request{
		ScheduledTime: timestamppb.Now(), Endpoint: "e", Capabilities: &nexuspb.Request_Capabilities{TemporalFailureResponses: failures},
		Variant: &nexuspb.Request_StartOperation{StartOperation: &nexuspb.StartOperationRequest{Service: "service", Operation: "operation", RequestId: o.run(), Payload: input}},
	}}
}

func registerNexus(w worker.Worker, operation func(context.Context, string, nexus.StartOperationOptions) (string, error)) {
	service := nexus.NewService("service")
	service.MustRegister(nexus.NewSyncOperation("operation", operation))
	w.RegisterNexusService(service)
}

// queryTextPlace: the SDK sends the message of a failed query as a bare string.
func queryTextPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context, which string) error {
		if err := workflow.SetQueryHandler(ctx, "query", func(arg string) (string, error) { return "", errors.New(arg) }); err != nil {
			return err
		}
		if which == "version" {
			workflow.GetVersion(ctx, "new-fees", workflow.DefaultVersion, 1)
		}
		return workflow.Await(ctx, func() bool { return false })
	})
	query := func(args, input *commonpb.Payloads, events ...*historypb.HistoryEvent) {
		o.give("workflow", outgoingQueue, o.queryTask("query", args, input, events...))
		if r := wait[*workflowservice.RespondQueryTaskCompletedRequest](o); r.GetErrorMessage() != "Encoded failure" || r.GetFailure().GetEncodedAttributes() == nil {
			o.Errorf("answered: %v", r)
		}
	}
	query(o.sealed(secretNumber), o.sealed("x"))
	query(o.sealed(o.secret("query")), o.sealed("x"))
	o.sealedIn(o.secret("query"))
	query(o.sealed("x"), o.sealed("version"), versionMarker(o.sealed("new-fees"), o.sealed(secretNumber)))

	beside := o.workflowTask(o.sealed("x"))
	beside.Queries = map[string]*querypb.WorkflowQuery{"q": {QueryType: "query", QueryArgs: o.sealed(o.secret("beside"))}}
	o.give("workflow", outgoingQueue, beside)
	if q := wait[*workflowservice.RespondWorkflowTaskCompletedRequest](o).GetQueryResults()["q"]; q.GetErrorMessage() != "Encoded failure" {
		o.Errorf("answered: %v", q)
	}
	o.sealedIn(o.secret("beside"))
}

// failsToo is a workflow that fails with the error of its activity.
func failsToo(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	err := workflow.ExecuteActivity(ctx, "Elsewhere").Get(ctx, nil)
	if canceled, ok := errors.AsType[*temporal.CanceledError](err); ok {
		return canceled
	}
	return fmt.Errorf("failed: %w", err)
}

// ends gives a workflow the end of its activity.
func (o *outgoing) ends(attributes *historypb.HistoryEvent) []*commandpb.Command {
	o.Helper()
	o.give("workflow", outgoingQueue, o.workflowTask(nil))
	events := eventsOf(o.completed())
	begun := &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, Attributes: &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{
		ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{ScheduledEventId: 5, Attempt: 1},
	}}
	o.give("workflow", outgoingQueue, o.workflowTask(nil, append(events, begun, attributes)...))
	return o.completed()
}

func activityFailedWith(f *failurepb.Failure) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, Attributes: &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{
		ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{Failure: f, ScheduledEventId: 5, StartedEventId: 6},
	}}
}

// unopenedFailurePlace: the message of a failure that does not open says why.
func unopenedFailurePlace(o *outgoing) {
	o.startWorkflow(failsToo)
	f := &failurepb.Failure{Message: "Encoded failure", EncodedAttributes: o.seal(secretNumber), FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "T"}}}
	sent := o.ends(activityFailedWith(f))[0].GetFailWorkflowExecutionCommandAttributes().GetFailure()
	if text := o.text(sent); !strings.Contains(text, "cannot unmarshal number") {
		o.Error(text)
	}
}

// failureAgainPlace: a workflow fails with a failure that it received, and with a wrapped one.
func failureAgainPlace(o *outgoing) {
	o.startWorkflow(failsToo)
	f := o.failures().ErrorToFailure(temporal.NewApplicationErrorWithCause(o.secret("message"), "T", errors.New(o.secret("cause")), o.secret("details")))
	handler := &failurepb.Failure{Cause: f, FailureInfo: &failurepb.Failure_NexusHandlerFailureInfo{NexusHandlerFailureInfo: &failurepb.NexusHandlerFailureInfo{Type: "INTERNAL"}}}
	operation := &failurepb.Failure{Cause: handler, FailureInfo: &failurepb.Failure_NexusOperationExecutionFailureInfo{NexusOperationExecutionFailureInfo: &failurepb.NexusOperationFailureInfo{OperationToken: "t"}}}
	for _, f := range []*failurepb.Failure{f, handler, operation} {
		if len(o.ends(activityFailedWith(f))) != 1 {
			o.Error("the workflow did not fail")
		}
	}
	for _, what := range []string{"message", "cause", "details"} {
		o.sealedIn(o.secret(what))
	}
}

// cancellationPlace: the details of a cancellation are passed on unchanged.
func cancellationPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute})
		err := workflow.ExecuteActivity(ctx, "Elsewhere").Get(ctx, nil)
		var details string
		if timeout, ok := errors.AsType[*temporal.TimeoutError](err); ok && timeout.LastHeartbeatDetails(&details) == nil {
			return temporal.NewCanceledError(details)
		}
		return err
	})
	o.ends(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, Attributes: &historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes{
		ActivityTaskTimedOutEventAttributes: &historypb.ActivityTaskTimedOutEventAttributes{ScheduledEventId: 5, StartedEventId: 6, Failure: &failurepb.Failure{
			FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: enumspb.TIMEOUT_TYPE_HEARTBEAT, LastHeartbeatDetails: o.sealed(o.secret("details"))}},
		}},
	}})
	o.sealedIn(o.secret("details"))
}

// nexusErrorPlace: an operation fails with its input.
func nexusErrorPlace(o *outgoing) {
	o.start(func(w worker.Worker) {
		registerNexus(w, func(_ context.Context, in string, _ nexus.StartOperationOptions) (string, error) {
			switch {
			case strings.HasSuffix(in, "operation"):
				return "", nexus.NewOperationFailedErrorf("%s", in)
			case strings.HasSuffix(in, "handler"):
				return "", nexus.NewHandlerErrorf(nexus.HandlerErrorTypeBadRequest, "%s", in)
			case strings.HasSuffix(in, "panic"):
				panic(in)
			}
			return "", temporal.NewNonRetryableApplicationError(in, "T", errors.New(in), in)
		})
	})
	for _, what := range []string{"operation", "handler", "panic", "other"} {
		for _, failures := range []bool{true, false} {
			o.give("nexus", outgoingQueue, o.nexusTask(o.seal(o.secret(what)), failures))
			if what == "operation" {
				wait[*workflowservice.RespondNexusTaskCompletedRequest](o)
			} else {
				wait[*workflowservice.RespondNexusTaskFailedRequest](o)
			}
		}
		if what != "handler" { // to a server that knows no failures the SDK sends only its type
			o.sealedIn(o.secret(what))
		}
	}
}

// docs/what-comes-back-out.md has a row for each place, in this order, with the name of its
// test.
func TestThePlacesAreDocumented(t *testing.T) {
	document, err := os.ReadFile("../docs/what-comes-back-out.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(document), "<!-- places: begin -->")
	table, _, closed := strings.Cut(table, "<!-- places: end -->")
	if !ok || !closed {
		t.Fatal("docs/what-comes-back-out.md has no table of places")
	}
	var documented, tested []string
	for _, row := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(strings.Trim(row, "| "), "|")
		documented = append(documented, strings.Trim(cells[len(cells)-1], " `"))
	}
	for _, p := range outgoingPlaces() {
		tested = append(tested, "TestWhatComesBackOut/"+p.name)
	}
	tested = append(tested, "TestTheGuardQuotesNothing")
	if diff := cmp.Diff(tested, documented); diff != "" {
		t.Errorf("tests (-) and documented places (+): %s", diff)
	}
}
