package hold

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
)

// reportTask returns the Report of a workflow task. The failure's message is plaintext (see
// PlainReason): it names the key and the class, and nothing of a payload. from is the request
// with which the worker received the task; it names the worker.
func reportTask(ctx context.Context, namespace string, token []byte, from proto.Message, send Send) func(error) error {
	out := &workflowservice.RespondWorkflowTaskFailedRequest{
		Namespace: namespace, TaskToken: token, Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
	}
	switch r := from.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest:
		out.Identity, out.DeploymentOptions = r.GetIdentity(), proto.CloneOf(r.GetDeploymentOptions())
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		out.Identity, out.DeploymentOptions, out.ResourceId = r.GetIdentity(), proto.CloneOf(r.GetDeploymentOptions()), r.GetResourceId()
	case *workflowservice.StartWorkflowExecutionRequest:
		out.Identity, out.DeploymentOptions = r.GetIdentity(), proto.CloneOf(r.GetEagerWorkerDeploymentOptions())
	}
	return func(why error) error {
		out := proto.CloneOf(out)
		out.Failure = plainFailure(why)
		return sendTo(ctx, workflowservice.WorkflowService_RespondWorkflowTaskFailed_FullMethodName, out, new(workflowservice.RespondWorkflowTaskFailedResponse), send)
	}
}

// reportQuery returns the Report of a query task: it answers the query with an error.
func reportQuery(ctx context.Context, namespace string, in *workflowservice.PollWorkflowTaskQueueResponse, send Send) func(error) error {
	out := &workflowservice.RespondQueryTaskCompletedRequest{
		Namespace: namespace, TaskToken: in.GetTaskToken(), CompletedType: enumspb.QUERY_RESULT_TYPE_FAILED, PollerGroupId: in.GetPollerGroupId(),
	}
	return func(why error) error {
		out := proto.CloneOf(out)
		out.ErrorMessage = PlainReason(why)
		return sendTo(ctx, workflowservice.WorkflowService_RespondQueryTaskCompleted_FullMethodName, out, new(workflowservice.RespondQueryTaskCompletedResponse), send)
	}
}

// sendTo sends a request that ends a task. It fails if the task is over.
func sendTo(ctx context.Context, method string, req, reply any, sends Send) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return sends(ctx, method, req, reply)
}

// Send sends a request of the guard itself, without the guard's check.
type Send func(ctx context.Context, method string, req, reply any) error
