package codec

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/policy"
)

// The SDK opens some of a workflow task outside workflow code, and goes on as if
// nothing were there when that fails: a version marker that does not open sends the
// workflow down a branch that it never took. So the guard has the data keys of
// a task in the cache before the SDK sees it, and when that fails for a reason
// that is to hold the workflow, it fails the task itself and the SDK sees a poll
// that timed out. docs/what-holds-a-workflow.md lists the places.

// openTasks opens ahead what an answer holds for a worker to open. A task that is
// to be held is taken out of the answer; a page of a history is an error then.
func (g *guard) openTasks(ctx context.Context, req, reply proto.Message, send hold.Send) error {
	switch in := reply.(type) {
	case *workflowservice.PollWorkflowTaskQueueResponse:
		if g.holdTask(ctx, req, in, send) {
			empty := &workflowservice.PollWorkflowTaskQueueResponse{
				BacklogCountHint: in.GetBacklogCountHint(), PollerScalingDecision: in.GetPollerScalingDecision(),
				PollerGroupId: in.GetPollerGroupId(), PollerGroupsInfo: in.GetPollerGroupsInfo(),
			}
			proto.Reset(in)
			proto.Merge(in, empty)
		}
	case *workflowservice.RespondWorkflowTaskCompletedResponse:
		if g.holdTask(ctx, req, in.GetWorkflowTask(), send) {
			in.WorkflowTask = nil
		}
	case *workflowservice.StartWorkflowExecutionResponse:
		if g.holdTask(ctx, req, in.GetEagerWorkflowTask(), send) {
			in.EagerWorkflowTask = nil
		}
	case *workflowservice.GetWorkflowExecutionHistoryResponse:
		if r, ok := req.(*workflowservice.GetWorkflowExecutionHistoryRequest); ok {
			return g.openPage(ctx, r, in)
		}
	}
	return nil
}

// holdTask opens a task ahead, and reports whether it is held; then the server
// knows, or is going to.
func (g *guard) holdTask(ctx context.Context, req proto.Message, in *workflowservice.PollWorkflowTaskQueueResponse, send hold.Send) bool {
	if len(in.GetTaskToken()) == 0 {
		return false
	}
	// The poll may have waited for most of its time, and the task is ours now.
	ctx = context.WithoutCancel(ctx)
	namespace := g.namespaceOf(req)
	timeout, base := hold.TimeoutsOf(in)
	t := &hold.Task{
		Via: g.via.Root(), Run: in.GetWorkflowExecution().GetRunId(), Token: in.GetTaskToken(), Attempt: in.GetAttempt(), Query: in.GetQuery() != nil,
		Until: time.Now().Add(timeout), Base: base, Worker: g.workerOf(req),
		Facts: policy.Facts{
			Namespace: namespace, WorkflowID: in.GetWorkflowExecution().GetWorkflowId(),
			WorkflowType: in.GetWorkflowType().GetName(), TaskQueue: in.GetWorkflowExecutionTaskQueue().GetName(),
		},
	}
	if t.Query {
		t.Report = hold.ReportQuery(ctx, namespace, in, send)
	} else {
		t.Report = hold.ReportTask(ctx, namespace, t.Token, req, send)
	}
	g.codec.waits.Begin(t.RunKey())
	g.codec.tasks.Begin(t)
	g.codec.tasks.Remember(hold.ByPage, in.GetNextPageToken(), t)
	// An error in place of the answer would lose the task, and what else is in the answer.
	why := g.openTask(ctx, t, in)
	if why == nil {
		return false
	}
	g.codec.tasks.Fail(t, why)
	return true
}

// workerOf returns the instance of the worker that asks for a task, or completes the
// one before; empty if it does not say.
func (g *guard) workerOf(req proto.Message) string {
	switch r := req.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest:
		return r.GetWorkerInstanceKey()
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		if before, ok := g.codec.tasks.Recall(g.via.Root(), hold.ByTask, r.GetTaskToken()); ok {
			return before.Worker
		}
	}
	return ""
}

// openPage opens a page of a history ahead that a worker fetched for a task. What
// a client reads is none of our business: it may not need to open it.
func (g *guard) openPage(ctx context.Context, req *workflowservice.GetWorkflowExecutionHistoryRequest, in *workflowservice.GetWorkflowExecutionHistoryResponse) error {
	var of []*hold.Task // more than one if a query is asked meanwhile
	if t, ok := g.codec.tasks.Recall(g.via.Root(), hold.ByPage, req.GetNextPageToken()); ok {
		of = []*hold.Task{t}
	}
	if len(req.GetNextPageToken()) == 0 && asWorkersFetch(req) {
		of = slices.DeleteFunc(g.codec.tasks.Of(g.via, g.namespaceOf(req), req.GetExecution().GetWorkflowId()), func(t *hold.Task) bool {
			return t.Run != req.GetExecution().GetRunId()
		})
	}
	if len(of) == 0 {
		return g.openStray(ctx, req, in)
	}
	t := of[0]
	g.codec.tasks.Remember(hold.ByPage, in.GetNextPageToken(), t)
	why := g.openTask(ctx, t, in)
	if why == nil {
		return nil
	}
	// The SDK does not ask again. It fails the task, or with the first page drops it.
	for _, t := range of {
		g.codec.tasks.Hold(t, why, t.Delay(), true)
	}
	return status.Error(codes.FailedPrecondition, hold.PlainReason(why))
}

// asWorkersFetch reports whether a request has the shape of those with which a worker
// of the SDK fetches a history. Clients ask for a kind of events.
func asWorkersFetch(req *workflowservice.GetWorkflowExecutionHistoryRequest) bool {
	return !req.GetWaitNewEvent() && !req.GetSkipArchival() && req.GetMaximumPageSize() == 0 &&
		req.GetHistoryEventFilterType() == enumspb.HISTORY_EVENT_FILTER_TYPE_UNSPECIFIED
}

// answer checks the SDK's answer to a task before it is sent, and the error with which the
// guard refuses to send it; it returns what to send. The task fails instead if
//
//   - the guard refuses the answer: the SDK would leave the task to time out;
//   - the answer completes the task, and a failure in it was withheld for a reason that
//     holds the workflow: its text would be lost for good;
//   - the answer completes the task, and the task met such a reason: the code recovered the
//     panic, or the SDK dropped the error.
//
// The error makes the SDK forget what it thinks is done, and not send it again.
func (g *guard) answer(ctx context.Context, req proto.Message, refused error, send hold.Send) (proto.Message, error) {
	r, ok := req.(interface{ GetTaskToken() []byte })
	if !ok {
		return req, refused
	}
	t, known := g.codec.tasks.Recall(g.via.Root(), hold.ByTask, r.GetTaskToken())
	completes, _ := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	switch {
	case known && refused != nil:
		why := error(hold.OwnText(status.Convert(refused).Message()))
		if wire, ok := errors.AsType[*wireError](refused); ok {
			why = wire.why // and which KEK the task waits for
		}
		g.codec.tasks.Fail(t, why)
		return nil, status.Error(codes.FailedPrecondition, why.Error())
	case refused != nil:
		return nil, refused // a request of another program, or of an activity
	case completes != nil && !known:
		namespace := g.namespaceOf(req)
		t = &hold.Task{Via: g.via.Root(), Facts: policy.Facts{Namespace: namespace}, Attempt: 1, Report: hold.ReportTask(context.WithoutCancel(ctx), namespace, r.GetTaskToken(), req, send)}
	}
	if completes != nil {
		if why := g.holdsCompletion(t, completes); why != nil {
			g.codec.tasks.Fail(t, why)
			return nil, status.Errorf(codes.FailedPrecondition, "waxseal: refused to send %s: %s", path.Base(workflowservice.WorkflowService_RespondWorkflowTaskCompleted_FullMethodName), why.Error())
		}
	}
	if failed, ok := req.(*workflowservice.RespondWorkflowTaskFailedRequest); ok && known {
		req = g.explain(t, failed)
	}
	g.codec.tasks.Answer(g.via.Root(), r.GetTaskToken())
	return req, nil
}

// holdsCompletion returns why a task is not to be completed, or nil.
func (g *guard) holdsCompletion(t *hold.Task, r *workflowservice.RespondWorkflowTaskCompletedRequest) error {
	if final, why := g.codec.tasks.Reason(t); final {
		return why
	}
	if held := g.withheldIn(t.Facts, r); held != nil {
		return held
	}
	return nil
}

// withheldIn returns why a failure in a completion was withheld, if that is to hold
// the workflow of these facts.
func (g *guard) withheldIn(facts policy.Facts, r *workflowservice.RespondWorkflowTaskCompletedRequest) (held *HeldError) {
	find := payloadwalk.Walker{
		Payload: func(proto.Message, *commonpb.Payload) error { return nil },
		Failure: func(_ proto.Message, f *failurepb.Failure) error {
			for link := f; link != nil; link = link.GetCause() {
				if err := failure.Withheld(link); err != nil && g.codec.holds(facts, err) {
					held = &HeldError{Err: err}
				}
			}
			return nil
		},
	}
	for _, command := range r.GetCommands() {
		_ = find.Walk(command) // check comes to what cannot be looked into
	}
	for _, message := range r.GetMessages() {
		_ = find.Walk(message)
	}
	return held
}

// explain has the failure of a task say what it met. The SDK's own holds no more
// than the class where it could not be sealed, for the same reason.
func (g *guard) explain(t *hold.Task, r *workflowservice.RespondWorkflowTaskFailedRequest) *workflowservice.RespondWorkflowTaskFailedRequest {
	_, why := g.codec.tasks.Reason(t)
	if why == nil || failure.Withheld(r.GetFailure()) == nil {
		return r
	}
	r = proto.CloneOf(r)
	r.Failure = hold.PlainFailure(why)
	return r
}
