package e2e

import (
	"context"
	"sync"

	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"
)

// told records the reasons that workers report for failed workflow tasks, on the wire and
// below all interceptors. A history has only that of the first try of a task, and not even
// that where the try timed out on a slow machine. Safe for concurrent use.
type told struct {
	mu   sync.Mutex
	runs map[string]string               // by task token
	why  map[string][]*failurepb.Failure // by run
}

var _ stats.Handler = (*told)(nil)

func newTold() *told {
	return &told{runs: make(map[string]string), why: make(map[string][]*failurepb.Failure)}
}

// of returns the reports about the tasks of a run that the server accepted.
func (o *told) of(run string) []*failurepb.Failure {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*failurepb.Failure(nil), o.why[run]...)
}

// telling is the key, in a call's context, of the request that reports.
type telling struct{}

// TagRPC implements stats.Handler.
func (*told) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, telling{}, new(workflowservice.RespondWorkflowTaskFailedRequest))
}

// HandleRPC implements stats.Handler.
func (o *told) HandleRPC(ctx context.Context, s stats.RPCStats) {
	tells := ctx.Value(telling{}).(*workflowservice.RespondWorkflowTaskFailedRequest)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s := s.(type) {
	case *stats.InPayload:
		switch reply := s.Payload.(type) {
		case *workflowservice.PollWorkflowTaskQueueResponse:
			o.runs[string(reply.GetTaskToken())] = reply.GetWorkflowExecution().GetRunId()
		case *workflowservice.RespondWorkflowTaskCompletedResponse:
			next := reply.GetWorkflowTask()
			o.runs[string(next.GetTaskToken())] = next.GetWorkflowExecution().GetRunId()
		}
	case *stats.OutPayload:
		if req, ok := s.Payload.(*workflowservice.RespondWorkflowTaskFailedRequest); ok {
			proto.Reset(tells)
			proto.Merge(tells, req)
		}
	case *stats.End:
		if run := o.runs[string(tells.GetTaskToken())]; s.Error == nil && run != "" {
			o.why[run] = append(o.why[run], tells.GetFailure())
		}
	}
}

// TagConn implements stats.Handler.
func (*told) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*told) HandleConn(context.Context, stats.ConnStats) {}
