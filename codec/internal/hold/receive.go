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

// The SDK opens some payloads of a workflow task outside workflow code, and ignores an error
// there: a version marker that does not open sends the workflow down a branch that it never
// took. So the guard makes a task ready before the SDK sees it. If that fails, the task fails,
// and the SDK sees an empty poll. docs/what-holds-a-workflow.md lists the places.

// Received is a response on its way to the SDK.
type Received struct {
	// Via is the client's connection. Namespace is the one that the request names.
	Via       *Connection
	Namespace string
	// Request was sent, and Response came back. AfterReceiving removes a held task from it.
	Request, Response proto.Message
	// Send sends the report of a failure.
	Send Send
	// Ready makes a workflow task, or a page of its history, ready for the SDK, and returns why
	// the task must not reach it. t is nil for a page that a worker seems to have fetched for
	// an unknown task: too many tasks came since, or the server made the page up.
	Ready func(ctx context.Context, t *Task) error
}

// AfterReceiving notes the task in a response, and makes it ready for the SDK or removes it
// from the response. For a page of a history it returns an error instead.
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

// holds makes a task ready, and reports whether it is held. If it is, its failure is reported
// now or later.
func (ts *Tasks) holds(ctx context.Context, r Received, in *workflowservice.PollWorkflowTaskQueueResponse) bool {
	if len(in.GetTaskToken()) == 0 {
		return false
	}
	// The poll may have used most of its time, and the task now belongs to the worker.
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
	// An error instead of the response would lose the task, and the rest of the response.
	why := ts.ready(ctx, r, t)
	if why == nil {
		return false
	}
	ts.note(why)
	ts.Fail(t, why)
	return true
}

// ready makes a task ready, within the wait that its run has left.
func (ts *Tasks) ready(ctx context.Context, r Received, t *Task) error {
	ctx, done := ts.Waits.Bound(ctx, t.RunKey())
	defer done()
	return r.Ready(ctx, t)
}

// workerOf returns the instance of the worker that polls for a task, or that completed the task
// before it; empty if the request does not name one.
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

// page makes a page of a history ready that a worker fetched for a task. A page that a client
// reads stays unchanged: the client may not need to open it.
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
	ts.note(why)
	// The SDK does not fetch the page again. It fails the task, or drops it if the page is the
	// first one.
	for _, t := range of {
		ts.Hold(t, why, t.Delay(), true)
	}
	return status.Error(codes.FailedPrecondition, PlainReason(why))
}

// asWorkersFetch reports whether a request has the form with which a worker of the SDK fetches
// a history. Clients set a filter for the type of event.
func asWorkersFetch(req *workflowservice.GetWorkflowExecutionHistoryRequest) bool {
	return !req.GetWaitNewEvent() && !req.GetSkipArchival() && req.GetMaximumPageSize() == 0 &&
		req.GetHistoryEventFilterType() == enumspb.HISTORY_EVENT_FILTER_TYPE_UNSPECIFIED
}
