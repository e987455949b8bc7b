package hold

import (
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"
)

// A query is answered outside workflow code, though with the workflow's converter: a
// panic there ends the task without an answer, and with it the queries that came
// along and the workflow's own progress. An error ends the query alone. So the
// handlers of queries get a context that says what it is for.

// inQuery marks the context with which a query's handler was set.
type inQuery struct{}

// InQuery reports whether a workflow context is that of a query's handler.
func InQuery(ctx workflow.Context) bool { return ctx.Value(inQuery{}) != nil }

// QueryInterceptor marks the contexts of queries' handlers. It implements
// interceptor.WorkerInterceptor.
type QueryInterceptor struct {
	interceptor.WorkerInterceptorBase
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (*QueryInterceptor) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &queryInbound{interceptor.WorkflowInboundInterceptorBase{Next: next}}
}

type queryInbound struct {
	interceptor.WorkflowInboundInterceptorBase
}

func (i *queryInbound) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&queryOutbound{interceptor.WorkflowOutboundInterceptorBase{Next: outbound}})
}

type queryOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
}

func (o *queryOutbound) SetQueryHandler(ctx workflow.Context, queryType string, handler any) error {
	return o.Next.SetQueryHandler(workflow.WithValue(ctx, inQuery{}, true), queryType, handler)
}

func (o *queryOutbound) SetQueryHandlerWithOptions(ctx workflow.Context, queryType string, handler any, options workflow.QueryHandlerOptions) error {
	return o.Next.SetQueryHandlerWithOptions(workflow.WithValue(ctx, inQuery{}, true), queryType, handler, options)
}
