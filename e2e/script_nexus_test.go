package e2e

import (
	"context"
	"errors"

	"github.com/nexus-rpc/sdk-go/nexus"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/temporalnexus"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// nexus calls operations of the other namespace that succeed and fail.
func (s *script) nexus(ctx workflow.Context) error {
	c := workflow.NewNexusClient(s.c("nexus-endpoint"), s.c("nexus-service"))
	call := func(operation, input string, result any) error {
		return c.ExecuteOperation(ctx, operation, s.c(input), workflow.NexusOperationOptions{Summary: s.c("nexus-summary")}).Get(ctx, result)
	}
	var sync, async string
	if err := errors.Join(
		call(s.c("nexus-operation"), "nexus-sync-input", &sync),
		call("async", "nexus-async-input", &async),
	); err != nil {
		return err
	}
	if err := errors.Join(s.is("nexus-sync-result", sync), s.is("nexus-async-result", async)); err != nil {
		return err
	}
	if err := s.failed(call("async", "nexus-async-input-failing", nil), "nexus-async-failure", "nexus-async-failure-details"); err != nil {
		return err
	}
	if err := s.failed(call(s.c("nexus-operation"), "nexus-sync-input-failing", nil), "nexus-sync-failure", ""); err != nil {
		return err
	}
	// The last failure ends the workflow: it is sent once more, by the caller.
	err := call(s.c("nexus-operation"), "nexus-sync-input-refused", nil)
	var handler *nexus.HandlerError
	if !errors.As(err, &handler) {
		return errors.New("nexus-handler-failure: got another error")
	}
	if wrong := s.is("nexus-handler-failure", handler.Message); wrong != nil {
		return wrong
	}
	return err
}

// nexusPending calls an operation that fails over and over.
func (s *script) nexusPending(ctx workflow.Context) error {
	c := workflow.NewNexusClient(s.c("nexus-endpoint"), s.c("nexus-service"))
	return c.ExecuteOperation(ctx, s.c("nexus-operation"), s.c("nexus-sync-input-pending"), workflow.NexusOperationOptions{}).Get(ctx, nil)
}

// billingWorkflows are those of the other namespace, by name.
func (s *script) billingWorkflows() map[string]any {
	return map[string]any{"Child": s.child, "Receiver": s.receiver, "NexusHandler": s.nexusWorkflow}
}

// registerBilling adds what a worker of the other namespace runs.
func (s *script) registerBilling(w worker.Worker) {
	for name, f := range s.billingWorkflows() {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	service := nexus.NewService(s.c("nexus-service"))
	if err := service.Register(
		nexus.NewSyncOperation(s.c("nexus-operation"), s.nexusSync),
		temporalnexus.NewWorkflowRunOperation("async", s.nexusWorkflow, func(_ context.Context, _ string, o nexus.StartOperationOptions) (client.StartWorkflowOptions, error) {
			return client.StartWorkflowOptions{ID: "nexus-" + o.RequestID}, nil
		}),
	); err != nil {
		panic(err) // only for names that are empty or taken
	}
	w.RegisterNexusService(service)
}

func (s *script) nexusSync(_ context.Context, in string, o nexus.StartOperationOptions) (string, error) {
	switch in {
	case s.c("nexus-sync-input-failing"):
		return "", nexus.NewOperationFailedErrorf("%s", s.c("nexus-sync-failure"))
	case s.c("nexus-sync-input-refused"):
		return "", nexus.NewHandlerErrorf(nexus.HandlerErrorTypeBadRequest, "%s", s.c("nexus-handler-failure"))
	case s.c("nexus-sync-input-pending"):
		return "", nexus.NewHandlerErrorf(nexus.HandlerErrorTypeUnavailable, "%s", s.c("nexus-pending-failure"))
	case s.c("standalone-nexus-input"):
		return s.c("standalone-nexus-result"), nil
	case s.c("standalone-nexus-input-failing"):
		return "", nexus.NewOperationFailedErrorf("%s", s.c("standalone-nexus-failure"))
	}
	return s.c("nexus-sync-result"), errors.Join(s.is("nexus-sync-input", in), s.is("nexus-header", o.Header.Get(nexusHeader)))
}

func (s *script) nexusWorkflow(_ workflow.Context, in string) (string, error) {
	if in == s.c("nexus-async-input-failing") {
		return "", temporal.NewApplicationError(s.c("nexus-async-failure"), "Nexus", s.c("nexus-async-failure-details"))
	}
	return s.c("nexus-async-result"), s.is("nexus-async-input", in)
}

// nexusHeader is a header that programs put into Nexus requests by themselves.
const nexusHeader = "tenant"

// nexusHeaders is a worker interceptor that does so.
type nexusHeaders struct {
	interceptor.WorkerInterceptorBase
	value string
}

func (n *nexusHeaders) InterceptWorkflow(ctx workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &nexusInbound{WorkflowInboundInterceptorBase: interceptor.WorkflowInboundInterceptorBase{Next: next}, value: n.value}
}

type nexusInbound struct {
	interceptor.WorkflowInboundInterceptorBase
	value string
}

func (n *nexusInbound) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	return n.Next.Init(&nexusOutbound{WorkflowOutboundInterceptorBase: interceptor.WorkflowOutboundInterceptorBase{Next: outbound}, value: n.value})
}

type nexusOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	value string
}

func (n *nexusOutbound) ExecuteNexusOperation(ctx workflow.Context, in interceptor.ExecuteNexusOperationInput) workflow.NexusOperationFuture {
	if in.NexusHeader == nil {
		in.NexusHeader = nexus.Header{}
	}
	in.NexusHeader.Set(nexusHeader, n.value)
	return n.Next.ExecuteNexusOperation(ctx, in)
}
