package hold

import (
	"context"
	"errors"
	"path"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/policy"
)

// Sending is a request on its way to the server.
type Sending struct {
	// Via is the client's connection. Namespace is the one that the request names.
	Via       *Connection
	Namespace string
	// Request is the request to send, or the one that the guard refuses.
	Request proto.Message
	// Refused is the guard's refusal to send it: a gRPC status. An error that it wraps says
	// which KEK the task waits for.
	Refused error
	// Withheld holds the reasons why texts of failures in the commands and messages of a
	// completed task could not be sealed.
	Withheld []error
	// Send sends the report of a failure.
	Send Send
}

// BeforeSending checks the SDK's answer to a task before it is sent, and the guard's refusal to
// send it. It returns what to send. The task fails instead if
//
//   - the guard refuses the answer: the SDK would leave the task to time out;
//   - the answer completes the task, and the text of a failure in it was withheld for a reason
//     that holds the workflow: the text would be lost;
//   - the answer completes the task, and the task met such a reason: the code recovered the
//     panic, or the SDK dropped the error.
//
// The error makes the SDK discard its result and not send it again.
func (ts *Tasks) BeforeSending(ctx context.Context, s Sending) (proto.Message, error) {
	r, ok := s.Request.(interface{ GetTaskToken() []byte })
	if !ok {
		return s.Request, s.Refused
	}
	t, known := ts.recall(s.Via.Root(), byTask, r.GetTaskToken())
	completed, completes := s.Request.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	switch {
	case known && s.Refused != nil:
		why := error(OwnText(status.Convert(s.Refused).Message()))
		if cause := errors.Unwrap(s.Refused); cause != nil {
			why = cause
		}
		ts.note(why)
		ts.Fail(t, why)
		return nil, status.Error(codes.FailedPrecondition, why.Error())
	case s.Refused != nil:
		return nil, s.Refused // a request of another program, or of an activity
	case completes && !known:
		report := reportTask(context.WithoutCancel(ctx), s.Namespace, r.GetTaskToken(), completed, s.Send)
		t = &Task{Via: s.Via.Root(), Facts: policy.Facts{Namespace: s.Namespace}, Attempt: 1, Report: report}
	}
	if completes {
		if why := ts.incomplete(t, s.Withheld); why != nil {
			ts.note(why)
			ts.Fail(t, why)
			return nil, status.Errorf(codes.FailedPrecondition, "waxseal: refused to send %s: %s", path.Base(workflowservice.WorkflowService_RespondWorkflowTaskCompleted_FullMethodName), why.Error())
		}
	}
	out := s.Request
	if failed, ok := out.(*workflowservice.RespondWorkflowTaskFailedRequest); ok && known {
		out = ts.explain(t, failed)
	}
	ts.answer(s.Via.Root(), r.GetTaskToken())
	return out, nil
}

// incomplete returns why a task must not be completed; nil if it may.
func (ts *Tasks) incomplete(t *Task, withheld []error) error {
	if final, why := ts.Reason(t); final {
		return why
	}
	for _, err := range withheld {
		if ts.Holds(t.Facts, err) {
			return &Error{Err: err}
		}
	}
	return nil
}

// explain puts the error that a task met into its failure. The SDK's own text names only the
// class if it could not be sealed, for the same reason.
func (ts *Tasks) explain(t *Task, r *workflowservice.RespondWorkflowTaskFailedRequest) *workflowservice.RespondWorkflowTaskFailedRequest {
	_, why := ts.Reason(t)
	if why == nil || failure.Withheld(r.GetFailure()) == nil {
		return r
	}
	r = proto.CloneOf(r)
	r.Failure = plainFailure(why)
	return r
}
