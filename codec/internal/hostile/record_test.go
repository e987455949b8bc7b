package hostile

import (
	"context"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// recorder plays an honest server with the lane's own worker, and keeps the tasks of a
// workflow: they are altered later.
type recorder struct {
	l     *lane
	h     *history
	scene int
	sc    converter.WorkflowSerializationContext
}

// record runs a workflow to its end, and returns its tasks in order, and its history.
func (l *lane) record(ctx context.Context, n int, kind string) (tasks []*workflowservice.PollWorkflowTaskQueueResponse, events []*historypb.HistoryEvent, err error) {
	id := fmt.Sprintf("workflow-%d-%d", l.n, n)
	l.scenes = append(l.scenes, &scene{n: n, name: "recording " + kind, workflow: id})
	r := &recorder{
		l: l, scene: n, sc: converter.WorkflowSerializationContext{Namespace: l.namespace(), WorkflowID: id},
		h: &history{id: id, kind: kind, taskQueue: &taskqueuepb.TaskQueue{Name: l.taskQueue(), Kind: enumspb.TASK_QUEUE_KIND_NORMAL}},
	}
	r.start()
	r.stumble()
	for step := 1; step <= 20; step++ {
		if kind == "Talks" && step == 2 {
			r.h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED, nil, attributes{"request": r.update("admitted")})
		}
		r.h.begin()
		task := r.h.task()
		r.talk(task, step)
		tasks = append(tasks, proto.CloneOf(task))
		token := fmt.Sprintf("record-%d-%d", n, step)
		l.giveTask(task, token, fmt.Sprintf("record-%d-%d", l.n, n))
		a := l.wait(ctx, token, honestLimit)
		done, ok := a.req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
		if !ok {
			return nil, nil, fmt.Errorf("%s: an honest task ended with %s: %s", kind, a.method, r.l.opened(a.req))
		}
		if !r.resolve(r.h.complete(done)) {
			for _, task := range tasks {
				r.furnish(task.GetHistory())
			}
			r.furnish(&historypb.History{Events: r.h.events})
			return tasks, r.h.events, nil
		}
	}
	return nil, nil, fmt.Errorf("%s does not end", kind)
}

// stumble makes the first attempt of the first task fail, and changes the memo as an operator
// does.
func (r *recorder) stumble() {
	r.h.begin()
	last := int64(len(r.h.events))
	r.h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, nil, attributes{
		"scheduled_event_id": last - 1, "started_event_id": last, "cause": enumspb.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE, "failure": r.applicationFailure(r.sc, "task-failure"),
	})
	r.h.add(enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED_EXTERNALLY, nil, nil).WorkerMayIgnore = true
}

// furnish fills the places of a history that the program leaves empty.
func (r *recorder) furnish(h *historypb.History) {
	f := filler{l: r.l, scene: r.scene, sc: r.sc}
	for _, e := range h.GetEvents() {
		f.fill(e)
		if o := e.GetWorkflowExecutionUpdateCompletedEventAttributes().GetOutcome(); o.GetFailure() != nil {
			o.Value = &updatepb.Outcome_Failure{Failure: r.applicationFailure(r.sc, "update-failure")}
		}
	}
}

func (r *recorder) c(what string) string { return r.l.canary(r.scene, what) }

// start begins the history with everything that a workflow can be started with.
func (r *recorder) start() {
	memo := &commonpb.Memo{Fields: map[string]*commonpb.Payload{"memo": r.l.sealOne(r.sc, r.c("memo"))}}
	public, err := converter.GetDefaultDataConverter().ToPayload("public")
	if err != nil {
		panic(err)
	}
	e := r.h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, nil, attributes{
		"workflow_type": &commonpb.WorkflowType{Name: r.h.kind}, "task_queue": r.h.taskQueue, "attempt": int32(1),
		"input": r.l.seal(r.sc, r.c("input"), r.c("input-2")), "header": r.l.header(r.scene, "header"), "memo": memo,
		"search_attributes":      &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{attributeName: public}},
		"last_completion_result": r.l.seal(r.sc, r.c("last-result")),
		"continued_failure":      r.applicationFailure(r.sc, "last-failure"),
		"workflow_run_timeout":   durationpb.New(time.Hour), "workflow_task_timeout": durationpb.New(taskTimeout),
		"original_execution_run_id": "run", "first_execution_run_id": "run",
	})
	e.UserMetadata = &sdkpb.UserMetadata{Summary: r.l.sealOne(r.sc, r.c("static-summary")), Details: r.l.sealOne(r.sc, r.c("static-details"))}
}

// talk adds queries and updates to a task of the workflow that answers them.
func (r *recorder) talk(task *workflowservice.PollWorkflowTaskQueueResponse, step int) {
	if r.h.kind != "Talks" {
		return
	}
	id := fmt.Sprint("update-", step)
	body, err := anypb.New(r.update(id))
	if err != nil {
		panic(err)
	}
	task.Messages = []*protocolpb.Message{{Id: id + "/request", ProtocolInstanceId: id, Body: body, SequencingId: &protocolpb.Message_EventId{EventId: int64(len(r.h.events)) - 1}}}
	task.Queries = map[string]*querypb.WorkflowQuery{"q": r.query()}
}

// update is a request that a client sent.
func (r *recorder) update(id string) *updatepb.Request {
	request := &updatepb.Request{
		Meta: &updatepb.Meta{UpdateId: id}, Input: &updatepb.Input{Name: "update", Args: r.l.seal(r.sc, r.c("update")), Header: r.l.header(r.scene, "header-update")},
	}
	if r.h.updates == nil {
		r.h.updates = make(map[string]*updatepb.Request)
	}
	r.h.updates[id] = request
	return request
}

func (r *recorder) query() *querypb.WorkflowQuery {
	return &querypb.WorkflowQuery{QueryType: "query", QueryArgs: r.l.seal(r.sc, r.c("query")), Header: r.l.header(r.scene, "header-query")}
}

// resolve makes the event happen that a workflow waits for; false if the workflow is over.
func (r *recorder) resolve(pending []*historypb.HistoryEvent) bool {
	before := len(r.h.events)
	for _, e := range pending {
		switch a := e.GetAttributes().(type) {
		case *historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes, *historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes,
			*historypb.HistoryEvent_WorkflowExecutionCanceledEventAttributes, *historypb.HistoryEvent_WorkflowExecutionContinuedAsNewEventAttributes:
			return false
		case *historypb.HistoryEvent_ActivityTaskScheduledEventAttributes:
			r.activity(e.GetEventId(), a.ActivityTaskScheduledEventAttributes)
		case *historypb.HistoryEvent_ActivityTaskCancelRequestedEventAttributes:
			id := a.ActivityTaskCancelRequestedEventAttributes.GetScheduledEventId()
			r.h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED, nil, attributes{
				"scheduled_event_id": id, "latest_cancel_requested_event_id": e.GetEventId(), "details": r.l.seal(r.activityContext("Cancels"), r.c("canceled-details")),
			})
		case *historypb.HistoryEvent_TimerStartedEventAttributes:
			r.h.add(enumspb.EVENT_TYPE_TIMER_FIRED, a.TimerStartedEventAttributes, attributes{"started_event_id": e.GetEventId()})
		case *historypb.HistoryEvent_StartChildWorkflowExecutionInitiatedEventAttributes:
			r.child(e.GetEventId(), a.StartChildWorkflowExecutionInitiatedEventAttributes)
		case *historypb.HistoryEvent_SignalExternalWorkflowExecutionInitiatedEventAttributes:
			r.h.add(enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED, a.SignalExternalWorkflowExecutionInitiatedEventAttributes, attributes{"initiated_event_id": e.GetEventId()})
		case *historypb.HistoryEvent_NexusOperationScheduledEventAttributes:
			r.operation(e.GetEventId(), a.NexusOperationScheduledEventAttributes)
		case *historypb.HistoryEvent_NexusOperationCancelRequestedEventAttributes:
			id := a.NexusOperationCancelRequestedEventAttributes.GetScheduledEventId()
			r.h.add(enumspb.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED, nil, attributes{
				"scheduled_event_id": id, "requested_event_id": e.GetEventId(), "failure": r.applicationFailure(nil, "cancel-failure"),
			})
			r.h.add(enumspb.EVENT_TYPE_NEXUS_OPERATION_CANCELED, nil, attributes{"scheduled_event_id": id, "failure": r.operationFailure("canceled")})
		}
	}
	if len(r.h.events) == before {
		r.h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, nil, attributes{
			"signal_name": signalName, "input": r.l.seal(r.sc, r.c("signal")), "header": r.l.header(r.scene, "header-signal"),
		})
	}
	return true
}

func (r *recorder) activityContext(kind string) converter.ActivitySerializationContext {
	return converter.ActivitySerializationContext{Namespace: r.l.namespace(), WorkflowID: r.h.id, WorkflowType: r.h.kind, ActivityType: kind, TaskQueue: r.l.taskQueue()}
}

func (r *recorder) activity(id int64, a *historypb.ActivityTaskScheduledEventAttributes) {
	kind := a.GetActivityType().GetName()
	if kind == "Cancels" { // after the workflow has requested it
		return
	}
	sc := r.activityContext(kind)
	started := r.h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, nil, attributes{
		"scheduled_event_id": id, "attempt": int32(2), "last_failure": r.applicationFailure(sc, "first-failure"),
	}).GetEventId()
	done := attributes{"scheduled_event_id": id, "started_event_id": started}
	switch kind {
	case "Completes":
		done["result"] = r.l.seal(sc, r.c("activity-result"))
		r.h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, nil, done)
	case "TimesOut":
		done["failure"] = r.timeout(sc)
		r.h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, nil, done)
	case "FailsAlone":
		done["failure"] = r.l.failure(sc, temporal.NewApplicationErrorWithCause(r.c("activity-failure"), "Type", errors.New(r.c("activity-failure-cause")), r.c("activity-failure-details")))
		r.h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, nil, done)
	default:
		done["failure"] = r.applicationFailure(sc, "activity-failure")
		r.h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, nil, done)
	}
}

// applicationFailure is an error with causes of all kinds that carry payloads.
func (r *recorder) applicationFailure(sc converter.SerializationContext, what string) *failurepb.Failure {
	chain := []*failurepb.Failure{
		r.l.failure(sc, temporal.NewApplicationError(r.c(what), "Type", r.c(what+"-details"))),
		r.l.failure(sc, temporal.NewCanceledError(r.c(what+"-canceled-details"))),
		{Message: "activity Heartbeat timeout", Source: "Server", FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{
			TimeoutType: enumspb.TIMEOUT_TYPE_HEARTBEAT, LastHeartbeatDetails: r.l.seal(sc, r.c(what+"-heartbeat")),
		}}},
		{Source: "Server", FailureInfo: &failurepb.Failure_ResetWorkflowFailureInfo{ResetWorkflowFailureInfo: &failurepb.ResetWorkflowFailureInfo{LastHeartbeatDetails: r.l.seal(sc, r.c(what+"-reset"))}}},
		r.l.failure(sc, temporal.NewApplicationErrorWithCause(r.c(what+"-root"), "Type", errors.New(r.c(what+"-bare")), r.c(what+"-root-details"))),
	}
	for i := range chain[1:] {
		chain[i].Cause = chain[i+1]
	}
	return chain[0]
}

// timeout is the failure that the server makes when an activity with heartbeats is lost.
func (r *recorder) timeout(sc converter.SerializationContext) *failurepb.Failure {
	return &failurepb.Failure{
		Message: "activity Heartbeat timeout", Source: "Server",
		FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{
			TimeoutType: enumspb.TIMEOUT_TYPE_HEARTBEAT, LastHeartbeatDetails: r.l.seal(sc, r.c("heartbeat")),
		}},
		Cause: r.applicationFailure(sc, "failure-before-the-timeout"),
	}
}

func (r *recorder) child(id int64, a *historypb.StartChildWorkflowExecutionInitiatedEventAttributes) {
	execution := &commonpb.WorkflowExecution{WorkflowId: a.GetWorkflowId(), RunId: "child"}
	started := r.h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, a, attributes{"initiated_event_id": id, "workflow_execution": execution}).GetEventId()
	sc := converter.WorkflowSerializationContext{Namespace: r.l.namespace(), WorkflowID: a.GetWorkflowId()}
	done := attributes{"initiated_event_id": id, "started_event_id": started, "workflow_execution": execution}
	if a.GetNamespace() == r.l.foreignNamespace() {
		p, err := converter.WithDataConverterSerializationContext(r.l.far, converter.WorkflowSerializationContext{Namespace: a.GetNamespace(), WorkflowID: a.GetWorkflowId()}).ToPayloads(r.l.canary(foreignScene, "child-result"))
		if err != nil {
			panic(err)
		}
		done["result"] = p
		r.h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, a, done)
		return
	}
	switch a.GetWorkflowType().GetName() {
	case "Completes":
		done["result"] = r.l.seal(sc, r.c("child-result"))
		r.h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, a, done)
	case "Cancels":
		done["details"] = r.l.seal(sc, r.c("child-canceled-details"))
		r.h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED, a, done)
	case "TimesOut":
		r.h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT, a, done)
	case "Terminates":
		r.h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED, a, done)
	default:
		done["failure"] = r.applicationFailure(sc, "child-failure")
		r.h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED, a, done)
	}
}

func (r *recorder) operation(id int64, a *historypb.NexusOperationScheduledEventAttributes) {
	done := attributes{"scheduled_event_id": id}
	switch a.GetOperation() {
	case "Completes":
		done["result"] = r.l.sealOne(nil, r.c("nexus-result"))
		r.h.add(enumspb.EVENT_TYPE_NEXUS_OPERATION_COMPLETED, nil, done)
	case "TimesOut":
		done["failure"] = r.operationFailure("timed out")
		r.h.add(enumspb.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT, nil, done)
	case "Cancels":
		done["failure"] = r.operationFailure("canceled")
		r.h.add(enumspb.EVENT_TYPE_NEXUS_OPERATION_CANCELED, nil, done)
	case "Lasts":
		r.h.add(enumspb.EVENT_TYPE_NEXUS_OPERATION_STARTED, nil, attributes{"scheduled_event_id": id, "operation_token": "token", "request_id": a.GetRequestId()})
	default:
		done["failure"] = r.operationFailure("failed")
		r.h.add(enumspb.EVENT_TYPE_NEXUS_OPERATION_FAILED, nil, done)
	}
}

// operationFailure is the failure that the server makes of an operation's failure.
func (r *recorder) operationFailure(how string) *failurepb.Failure {
	cause := r.applicationFailure(nil, "nexus-failure")
	if how == "canceled" {
		cause = cause.GetCause()
	}
	return &failurepb.Failure{
		Message: "nexus operation completed unsuccessfully", Cause: cause,
		FailureInfo: &failurepb.Failure_NexusOperationExecutionFailureInfo{NexusOperationExecutionFailureInfo: &failurepb.NexusOperationFailureInfo{
			Endpoint: "endpoint", Service: "service", Operation: how, OperationToken: "token",
		}},
	}
}
