package hold

import (
	"context"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/policy"
)

// The SDK opens some of a workflow task outside workflow code, and goes on as if nothing
// were there when that fails: a version marker that does not open sends the workflow down a
// branch that it never took. So a task is made ready before the SDK sees it. When that
// fails, the task fails, and the SDK sees a poll that timed out.
// docs/what-holds-a-workflow.md lists the places.

// Received is a response on its way to the SDK.
type Received struct {
	// Via is the client's connection, Namespace the one that the request names.
	Via       *Connection
	Namespace string
	// Request is what was sent, Response what came; AfterReceiving takes a held task out of it.
	Request, Response proto.Message
	// Send sends the report of a failure.
	Send Send
	// Ready makes a workflow task, or a page of its history, ready for the SDK, and returns
	// why the task must not reach it. t is nil for a page that a worker seems to have
	// fetched for a task that is not known: too many were handed out since, or the server
	// made it up.
	Ready func(ctx context.Context, t *Task) error
}

// AfterReceiving notes the task that a response holds, and makes it ready for the SDK, or
// takes it out of the response. An error stands in place of a page of a history.
func (ts *Tasks) AfterReceiving(ctx context.Context, r Received) error {
	switch in := r.Response.(type) {
	case *workflowservice.PollWorkflowTaskQueueResponse:
		if ts.holds(ctx, r, in) {
			empty := &workflowservice.PollWorkflowTaskQueueResponse{
				BacklogCountHint: in.GetBacklogCountHint(), PollerScalingDecision: in.GetPollerScalingDecision(),
				PollerGroupId: in.GetPollerGroupId(), PollerGroupsInfo: in.GetPollerGroupsInfo(),
			}
			proto.Reset(in)
			proto.Merge(in, empty)
		}
	case *workflowservice.RespondWorkflowTaskCompletedResponse:
		if ts.holds(ctx, r, in.GetWorkflowTask()) {
			in.WorkflowTask = nil
		}
	case *workflowservice.StartWorkflowExecutionResponse:
		if ts.holds(ctx, r, in.GetEagerWorkflowTask()) {
			in.EagerWorkflowTask = nil
		}
	case *workflowservice.GetWorkflowExecutionHistoryResponse:
		if req, ok := r.Request.(*workflowservice.GetWorkflowExecutionHistoryRequest); ok {
			return ts.page(ctx, r, req, in)
		}
	}
	return nil
}

// holds makes a task ready, and reports whether it is held; then the server knows, or is
// going to.
func (ts *Tasks) holds(ctx context.Context, r Received, in *workflowservice.PollWorkflowTaskQueueResponse) bool {
	if len(in.GetTaskToken()) == 0 {
		return false
	}
	// The poll may have waited for most of its time, and the task is the worker's now.
	ctx = context.WithoutCancel(ctx)
	timeout, base := timeoutsOf(in)
	t := &Task{
		Via: r.Via.Root(), Run: in.GetWorkflowExecution().GetRunId(), Token: in.GetTaskToken(), Attempt: in.GetAttempt(), Query: in.GetQuery() != nil,
		Until: time.Now().Add(timeout), Base: base, Worker: ts.workerOf(r),
		Facts: policy.Facts{
			Namespace: r.Namespace, WorkflowID: in.GetWorkflowExecution().GetWorkflowId(),
			WorkflowType: in.GetWorkflowType().GetName(), TaskQueue: in.GetWorkflowExecutionTaskQueue().GetName(),
		},
	}
	if t.Query {
		t.Report = reportQuery(ctx, r.Namespace, in, r.Send)
	} else {
		t.Report = reportTask(ctx, r.Namespace, t.Token, r.Request, r.Send)
	}
	ts.Waits.Begin(t.RunKey())
	ts.Begin(t)
	ts.remember(byPage, in.GetNextPageToken(), t)
	// An error in place of the response would lose the task, and what else is in the response.
	why := ts.ready(ctx, r, t)
	if why == nil {
		return false
	}
	ts.Fail(t, why)
	return true
}

// ready makes a task ready, within what its run may still wait.
func (ts *Tasks) ready(ctx context.Context, r Received, t *Task) error {
	ctx, done := ts.Waits.Bound(ctx, t.RunKey())
	defer done()
	return r.Ready(ctx, t)
}

// workerOf returns the instance of the worker that polls for a task, or completed the one
// before; empty if it does not say.
func (ts *Tasks) workerOf(r Received) string {
	switch req := r.Request.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest:
		return req.GetWorkerInstanceKey()
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		if before, ok := ts.recall(r.Via.Root(), byTask, req.GetTaskToken()); ok {
			return before.Worker
		}
	}
	return ""
}

// page makes a page of a history ready that a worker fetched for a task. What a client
// reads stays as it is: the client may not need to open it.
func (ts *Tasks) page(ctx context.Context, r Received, req *workflowservice.GetWorkflowExecutionHistoryRequest, in *workflowservice.GetWorkflowExecutionHistoryResponse) error {
	var of []*Task // more than one if the workflow is queried meanwhile
	asWorker := asWorkersFetch(req)
	if t, ok := ts.recall(r.Via.Root(), byPage, req.GetNextPageToken()); ok {
		of = []*Task{t}
	} else if len(req.GetNextPageToken()) == 0 && asWorker {
		of = slices.DeleteFunc(ts.Of(r.Via, r.Namespace, req.GetExecution().GetWorkflowId()), func(t *Task) bool {
			return t.Run != req.GetExecution().GetRunId()
		})
	}
	if len(of) == 0 {
		if !asWorker {
			return nil
		}
		return r.Ready(ctx, nil)
	}
	t := of[0]
	ts.remember(byPage, in.GetNextPageToken(), t)
	why := ts.ready(ctx, r, t)
	if why == nil {
		return nil
	}
	// The SDK does not fetch the page again. It fails the task, or with the first page drops it.
	for _, t := range of {
		ts.Hold(t, why, t.Delay(), true)
	}
	return status.Error(codes.FailedPrecondition, PlainReason(why))
}

// asWorkersFetch reports whether a request has the shape of those with which a worker of
// the SDK fetches a history. Clients request a kind of events.
func asWorkersFetch(req *workflowservice.GetWorkflowExecutionHistoryRequest) bool {
	return !req.GetWaitNewEvent() && !req.GetSkipArchival() && req.GetMaximumPageSize() == 0 &&
		req.GetHistoryEventFilterType() == enumspb.HISTORY_EVENT_FILTER_TYPE_UNSPECIFIED
}
