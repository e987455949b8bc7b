package codec

import (
	"sync"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
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

// workflows marks the contexts of workflow code, notes the changes that the code names, and keeps
// a context of each run. It is next to the SDK, so that it covers the other interceptors too:
// they may read results and name changes. It implements interceptor.WorkerInterceptor for all workers of a client.
type workflows struct {
	interceptor.InterceptorBase

	changes *guard.Changes
	runs    *runs
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (w *workflows) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &workflowIn{interceptor.WorkflowInboundInterceptorBase{Next: next}, w}
}

type workflowIn struct {
	interceptor.WorkflowInboundInterceptorBase

	of *workflows
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (in *workflowIn) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	return in.Next.Init(&workflowOut{interceptor.WorkflowOutboundInterceptorBase{Next: outbound}, in.of.changes})
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (in *workflowIn) ExecuteWorkflow(ctx workflow.Context, input *interceptor.ExecuteWorkflowInput) (any, error) {
	defer in.of.runs.begin(ctx)()
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

// The SDK converts some values inside workflow code with a converter that has no workflow
// context: markers, summaries, memos, updates, failures. A conversion that waits for a KMS is
// a potential deadlock then, after 1 s in all. With a context of the run, the SDK's detector
// pauses; runs has it.

// runs knows a context of each run that a worker executes or has in its cache. The zero value
// is ready. It is safe for concurrent use.
type runs struct {
	mu  sync.Mutex
	all map[workflowOf]map[*workflow.Context]bool
}

// workflowOf is a workflow of a namespace. Two clusters may have the same one: to pause the
// detector of both does no harm.
type workflowOf struct{ namespace, id string }

// begin notes a run. The caller calls end when its code ends, or leaves the cache.
func (r *runs) begin(ctx workflow.Context) (end func()) {
	facts := runningWorkflow(ctx)
	of := workflowOf{facts.Namespace, facts.WorkflowID}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[workflowOf]map[*workflow.Context]bool)
	}
	if r.all[of] == nil {
		r.all[of] = make(map[*workflow.Context]bool)
	}
	r.all[of][&ctx] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if delete(r.all[of], &ctx); len(r.all[of]) == 0 {
			delete(r.all, of)
		}
	}
}

// undetected converts at a site while the SDK's deadlock detector pauses for the workflow of
// the payload: the conversion may be part of its task.
func (r *runs) undetected(s site, convert func() error) error {
	if s.workflow != nil || s.ctx != nil || s.replay {
		return convert() // the SDK's own wrapper pauses the detector, or there is none
	}
	facts := s.facts()
	r.mu.Lock()
	for ctx := range r.all[workflowOf{facts.Namespace, facts.WorkflowID}] {
		inner := convert
		convert = func() (err error) {
			paused := workflow.DataConverterWithoutDeadlockDetection(calling{f: func() { err = inner() }}).(workflow.ContextAware) //nolint:forcetypeassert // the SDK's wrapper is one
			paused.WithWorkflowContext(*ctx).ToString(nil)
			return err
		}
	}
	r.mu.Unlock()
	return convert()
}

// calling is a data converter that calls a function in ToString: the SDK pauses its detector
// for calls of a converter alone.
type calling struct {
	converter.DataConverter

	f func()
}

// ToString implements converter.DataConverter.
func (c calling) ToString(*commonpb.Payload) string {
	c.f()
	return ""
}
