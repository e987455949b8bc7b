package codec

import (
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec/internal/guard"
)

// A data converter sees a workflow context, but not what the SDK converts with it. So the
// plugin marks the contexts of workflow code. The converter distinguishes by these marks
//
//   - the handler of a query, which has the workflow's context. A panic there ends the task without
//     an answer, and with it the queries that came along and the workflow's own progress. An error
//     ends only the query;
//   - a result, which may be missing as a whole, from an input and from a signal.
type (
	// inCode marks the contexts of workflow code and of update handlers. The SDK reads a
	// workflow's input with a context without the mark.
	inCode struct{}
	// inSignal marks the contexts of signal channels.
	inSignal struct{}
	// inQuery marks the context that a query's handler was set with.
	inQuery struct{}
)

// inQueryHandler reports whether a workflow context is a query handler's.
func inQueryHandler(ctx workflow.Context) bool { return ctx.Value(inQuery{}) != nil }

// workflows marks the contexts of workflow code, and notes the changes that the code names. It
// is next to the SDK, so that it covers the other interceptors too: they may read results and
// name changes. It implements interceptor.WorkerInterceptor for all workers of a client.
type workflows struct {
	interceptor.InterceptorBase

	changes *guard.Changes
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (w *workflows) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &workflowIn{interceptor.WorkflowInboundInterceptorBase{Next: next}, w.changes}
}

type workflowIn struct {
	interceptor.WorkflowInboundInterceptorBase

	changes *guard.Changes
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (in *workflowIn) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	return in.Next.Init(&workflowOut{interceptor.WorkflowOutboundInterceptorBase{Next: outbound}, in.changes})
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (in *workflowIn) ExecuteWorkflow(ctx workflow.Context, input *interceptor.ExecuteWorkflowInput) (any, error) {
	return in.Next.ExecuteWorkflow(workflow.WithValue(ctx, inCode{}, true), input)
}

// ExecuteUpdate implements interceptor.WorkflowInboundInterceptor.
func (in *workflowIn) ExecuteUpdate(ctx workflow.Context, input *interceptor.UpdateInput) (any, error) {
	return in.Next.ExecuteUpdate(workflow.WithValue(ctx, inCode{}, true), input)
}

type workflowOut struct {
	interceptor.WorkflowOutboundInterceptorBase

	changes *guard.Changes
}

// GetSignalChannel implements interceptor.WorkflowOutboundInterceptor.
func (out *workflowOut) GetSignalChannel(ctx workflow.Context, name string) workflow.ReceiveChannel {
	return out.Next.GetSignalChannel(workflow.WithValue(ctx, inSignal{}, true), name)
}

// GetSignalChannelWithOptions implements interceptor.WorkflowOutboundInterceptor.
func (out *workflowOut) GetSignalChannelWithOptions(ctx workflow.Context, name string, options workflow.SignalChannelOptions) workflow.ReceiveChannel {
	return out.Next.GetSignalChannelWithOptions(workflow.WithValue(ctx, inSignal{}, true), name, options)
}

// SetQueryHandler implements interceptor.WorkflowOutboundInterceptor.
func (out *workflowOut) SetQueryHandler(ctx workflow.Context, queryType string, handler any) error {
	return out.Next.SetQueryHandler(workflow.WithValue(ctx, inQuery{}, true), queryType, handler)
}

// SetQueryHandlerWithOptions implements interceptor.WorkflowOutboundInterceptor.
func (out *workflowOut) SetQueryHandlerWithOptions(ctx workflow.Context, queryType string, handler any, options workflow.QueryHandlerOptions) error {
	return out.Next.SetQueryHandlerWithOptions(workflow.WithValue(ctx, inQuery{}, true), queryType, handler, options)
}

// GetVersion implements interceptor.WorkflowOutboundInterceptor.
func (out *workflowOut) GetVersion(ctx workflow.Context, changeID string, minSupported, maxSupported workflow.Version) workflow.Version {
	out.changes.Name(changeID, minSupported, maxSupported)
	return out.Next.GetVersion(ctx, changeID, minSupported, maxSupported)
}

// GetVersionWithOptions implements interceptor.WorkflowOutboundInterceptor.
func (out *workflowOut) GetVersionWithOptions(ctx workflow.Context, changeID string, minSupported, maxSupported workflow.Version, options workflow.GetVersionOptions) workflow.Version {
	out.changes.Name(changeID, minSupported, maxSupported)
	return out.Next.GetVersionWithOptions(ctx, changeID, minSupported, maxSupported, options)
}
