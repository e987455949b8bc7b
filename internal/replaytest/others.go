package replaytest

import (
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

const (
	childFailure        = "message of a child's failure"
	childFailureDetails = "details of a child's failure"
	childCanceled       = "details of a child's cancellation"
)

func child(ctx workflow.Context, in string) (string, error) { return in, carries(ctx) }

func childThatFails(workflow.Context) error {
	return temporal.NewApplicationError(childFailure, "Refused", childFailureDetails)
}

func childThatIsCanceled(workflow.Context) error { return temporal.NewCanceledError(childCanceled) }

// receiver waits for the signal of a workflow.
func receiver(ctx workflow.Context, in string) error {
	var got string
	workflow.GetSignalChannel(ctx, "mail").Receive(ctx, &got)
	return is("signal", got, in)
}

// ReceiverID is the ID of the workflow that Children and Abroad signal.
const ReceiverID = "receiver"

func children(ctx workflow.Context, in string) (string, error) {
	options := func(id string) workflow.Context {
		return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID: id, Memo: map[string]any{"child": in}, StaticSummary: "summary of a child", StaticDetails: "details of a child",
			TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword(AttributeCustomer).ValueSet("acme")),
		})
	}
	var got string
	err := workflow.ExecuteChildWorkflow(options("child"), Child, in).Get(ctx, &got)
	refused := workflow.ExecuteChildWorkflow(options("child-that-fails"), "ChildThatFails").Get(ctx, nil)
	ended := workflow.ExecuteChildWorkflow(options("child-that-is-canceled"), "ChildThatIsCanceled").Get(ctx, nil)
	signaled := workflow.SignalExternalWorkflow(ctx, ReceiverID, "", "mail", in).Get(ctx, nil)
	return got, errors.Join(err, is("child", got, in), failed(refused, childFailure, childFailureDetails), wasCanceled(ended, childCanceled), signaled)
}

// abroad does in another namespace what children does in its own.
func abroad(ctx workflow.Context, in string) (string, error) {
	options := func(id string) workflow.Context {
		return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{Namespace: Billing, WorkflowID: id, Memo: map[string]any{"child": in}}) //nolint:staticcheck // deprecated, and in use
	}
	var got string
	err := workflow.ExecuteChildWorkflow(options("child"), Child, in).Get(ctx, &got)
	refused := workflow.ExecuteChildWorkflow(options("child-that-fails"), "ChildThatFails").Get(ctx, nil)
	there := workflow.WithWorkflowNamespace(ctx, Billing) //nolint:staticcheck // deprecated, and in use
	signaled := workflow.SignalExternalWorkflow(there, ReceiverID, "", "mail", in).Get(ctx, nil)
	return got, errors.Join(err, is("child", got, in), failed(refused, childFailure, childFailureDetails), signaled)
}

// Names of the Nexus endpoint, its service and its operations.
const (
	NexusEndpoint = "endpoint"
	NexusService  = "service"
	NexusSync     = "sync"
	NexusAsync    = "async"
	NexusHandler  = "NexusHandler"
)

const (
	// NexusFails is the input with which the operations fail.
	NexusFails = "fail"
	// NexusSyncFailure is the message with which the synchronous one fails.
	NexusSyncFailure    = "message of a Nexus operation's failure"
	nexusFailure        = "message of a Nexus handler's failure"
	nexusFailureDetails = "details of a Nexus handler's failure"
)

func nexusOperations(ctx workflow.Context, in string) (string, error) {
	c := workflow.NewNexusClient(NexusEndpoint, NexusService)
	call := func(operation, input string, result any) error {
		return c.ExecuteOperation(ctx, operation, input, workflow.NexusOperationOptions{Summary: "summary of an operation"}).Get(ctx, result)
	}
	var sync, async string
	err := errors.Join(call(NexusSync, in, &sync), call(NexusAsync, in, &async))
	refused := call(NexusAsync, NexusFails, nil)
	var application *temporal.ApplicationError
	if !errors.As(call(NexusSync, NexusFails, nil), &application) {
		return "", errors.New("the synchronous operation does not fail")
	}
	return in, errors.Join(err, is("sync", sync, in), is("async", async, in),
		is("sync failure", application.Message(), NexusSyncFailure), failed(refused, nexusFailure, nexusFailureDetails))
}

// NexusWorkflow is the workflow behind the asynchronous operation.
func NexusWorkflow(_ workflow.Context, in string) (string, error) {
	if in == NexusFails {
		return "", temporal.NewApplicationError(nexusFailure, "Refused", nexusFailureDetails)
	}
	return in, nil
}
