package e2e

import (
	"context"
	"fmt"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	querypb "go.temporal.io/api/query/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// reading is one answer of the server.
type reading struct {
	what    string
	message proto.Message
}

// rawReader reads all there is to read, with bare gRPC: no SDK, no codec.
type rawReader struct {
	ctx      context.Context
	service  workflowservice.WorkflowServiceClient
	operator operatorservice.OperatorServiceClient
	readings []reading
}

// read sends one request and keeps the answer.
func read[Q, A proto.Message](r *rawReader, what string, ask func(context.Context, Q, ...grpc.CallOption) (A, error), question Q) (A, error) {
	answer, err := ask(r.ctx, question)
	if err != nil {
		return answer, fmt.Errorf("read %s: %w", what, err)
	}
	r.readings = append(r.readings, reading{what: what, message: answer})
	return answer, nil
}

// readEverything reads what the server returns about two namespaces.
func readEverything(t *testing.T, a *arm) []reading {
	t.Helper()
	conn, err := grpc.NewClient(a.server.HostPort, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := &rawReader{ctx: t.Context(), service: workflowservice.NewWorkflowServiceClient(conn), operator: operatorservice.NewOperatorServiceClient(conn)}
	if err := r.everything(a); err != nil {
		t.Fatal(err)
	}
	return r.readings
}

func (r *rawReader) everything(a *arm) error {
	if _, err := read(r, "Nexus endpoints", r.operator.ListNexusEndpoints, &operatorservice.ListNexusEndpointsRequest{}); err != nil {
		return err
	}
	for _, ns := range []string{orders, billing} {
		for _, part := range []func(string) error{r.workflows, r.schedules, r.standalone, r.deployments, r.settings} {
			if err := part(ns); err != nil {
				return fmt.Errorf("namespace %s: %w", ns, err)
			}
		}
		for _, kind := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY, enumspb.TASK_QUEUE_TYPE_NEXUS} {
			if _, err := read(r, "task queue", r.service.DescribeTaskQueue, &workflowservice.DescribeTaskQueueRequest{
				Namespace: ns, TaskQueue: &taskqueuepb.TaskQueue{Name: a.c("task-queue")}, TaskQueueType: kind,
			}); err != nil {
				return err
			}
		}
	}
	return r.answers(a)
}

func (r *rawReader) workflows(ns string) error {
	list, err := read(r, "list of workflows", r.service.ListWorkflowExecutions, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: ns, PageSize: 1000,
		// The server lists the workflows that it runs for schedules and deployments only for such a query.
		Query: "TemporalNamespaceDivision = 'TemporalScheduler' OR TemporalNamespaceDivision = 'TemporalWorkerDeployment' OR TemporalNamespaceDivision IS NULL",
	})
	if err != nil {
		return err
	}
	// One by one, so that each is known by its ID.
	r.readings = r.readings[:len(r.readings)-1]
	for _, w := range list.GetExecutions() {
		r.readings = append(r.readings, reading{what: "list entry of " + w.GetExecution().GetWorkflowId(), message: w})
	}
	if _, err := read(r, "count of workflows", r.service.CountWorkflowExecutions, &workflowservice.CountWorkflowExecutionsRequest{Namespace: ns, Query: "GROUP BY ExecutionStatus"}); err != nil {
		return err
	}
	for _, w := range list.GetExecutions() {
		what := w.GetExecution().GetWorkflowId()
		if _, err := read(r, "description of "+what, r.service.DescribeWorkflowExecution, &workflowservice.DescribeWorkflowExecutionRequest{Namespace: ns, Execution: w.GetExecution()}); err != nil {
			return err
		}
		if err := r.history(ns, what, w.GetExecution()); err != nil {
			return err
		}
		if _, err := read(r, "reverse history of "+what, r.service.GetWorkflowExecutionHistoryReverse, &workflowservice.GetWorkflowExecutionHistoryReverseRequest{Namespace: ns, Execution: w.GetExecution(), MaximumPageSize: 1000}); err != nil {
			return err
		}
	}
	return nil
}

func (r *rawReader) history(ns, what string, execution *commonpb.WorkflowExecution) error {
	var page []byte
	for {
		h, err := read(r, "history of "+what, r.service.GetWorkflowExecutionHistory, &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: ns, Execution: execution, NextPageToken: page})
		if err != nil {
			return err
		}
		if page = h.GetNextPageToken(); len(page) == 0 {
			return nil
		}
	}
}

func (r *rawReader) schedules(ns string) error {
	list, err := read(r, "list of schedules", r.service.ListSchedules, &workflowservice.ListSchedulesRequest{Namespace: ns, MaximumPageSize: 100})
	if err != nil {
		return err
	}
	for _, s := range list.GetSchedules() {
		if _, err := read(r, "schedule", r.service.DescribeSchedule, &workflowservice.DescribeScheduleRequest{Namespace: ns, ScheduleId: s.GetScheduleId()}); err != nil {
			return err
		}
	}
	return nil
}

func (r *rawReader) standalone(ns string) error {
	activities, err := read(r, "list of standalone activities", r.service.ListActivityExecutions, &workflowservice.ListActivityExecutionsRequest{Namespace: ns, PageSize: 100})
	if err != nil {
		return err
	}
	for _, a := range activities.GetExecutions() {
		if _, err := read(r, "standalone activity "+a.GetActivityId(), r.service.DescribeActivityExecution, &workflowservice.DescribeActivityExecutionRequest{
			Namespace: ns, ActivityId: a.GetActivityId(), RunId: a.GetRunId(), IncludeInput: true, IncludeOutcome: true, IncludeHeartbeatDetails: true, IncludeLastFailure: true,
		}); err != nil {
			return err
		}
	}
	operations, err := read(r, "list of standalone Nexus operations", r.service.ListNexusOperationExecutions, &workflowservice.ListNexusOperationExecutionsRequest{Namespace: ns, PageSize: 100})
	if err != nil {
		return err
	}
	for _, o := range operations.GetOperations() {
		if _, err := read(r, "standalone Nexus operation "+o.GetOperationId(), r.service.DescribeNexusOperationExecution, &workflowservice.DescribeNexusOperationExecutionRequest{
			Namespace: ns, OperationId: o.GetOperationId(), RunId: o.GetRunId(), IncludeInput: true, IncludeOutcome: true,
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r *rawReader) deployments(ns string) error {
	list, err := read(r, "list of deployments", r.service.ListWorkerDeployments, &workflowservice.ListWorkerDeploymentsRequest{Namespace: ns})
	if err != nil {
		return err
	}
	for _, d := range list.GetWorkerDeployments() {
		one, err := read(r, "deployment", r.service.DescribeWorkerDeployment, &workflowservice.DescribeWorkerDeploymentRequest{Namespace: ns, DeploymentName: d.GetName()})
		if err != nil {
			return err
		}
		for _, v := range one.GetWorkerDeploymentInfo().GetVersionSummaries() {
			if _, err := read(r, "deployment version", r.service.DescribeWorkerDeploymentVersion, &workflowservice.DescribeWorkerDeploymentVersionRequest{
				Namespace: ns, DeploymentVersion: v.GetDeploymentVersion(),
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *rawReader) settings(ns string) error {
	if _, err := read(r, "namespace", r.service.DescribeNamespace, &workflowservice.DescribeNamespaceRequest{Namespace: ns}); err != nil {
		return err
	}
	if _, err := read(r, "batch operations", r.service.ListBatchOperations, &workflowservice.ListBatchOperationsRequest{Namespace: ns}); err != nil {
		return err
	}
	if _, err := read(r, "search attributes", r.operator.ListSearchAttributes, &operatorservice.ListSearchAttributesRequest{Namespace: ns}); err != nil {
		return err
	}
	_, err := read(r, "workers", r.service.ListWorkers, &workflowservice.ListWorkersRequest{Namespace: ns, PageSize: 100})
	return err
}

// answers queries the workflow itself, as the Web UI does, and gets an update's outcome.
func (r *rawReader) answers(a *arm) error {
	execution := &commonpb.WorkflowExecution{WorkflowId: a.c("workflow-id")}
	for _, query := range []string{"__stack_trace", queryMetadata} {
		if _, err := read(r, "query "+query, r.service.QueryWorkflow, &workflowservice.QueryWorkflowRequest{
			Namespace: orders, Execution: execution, Query: &querypb.WorkflowQuery{QueryType: query},
		}); err != nil {
			return err
		}
	}
	_, err := read(r, "outcome of an update", r.service.PollWorkflowExecutionUpdate, &workflowservice.PollWorkflowExecutionUpdateRequest{
		Namespace: orders, UpdateRef: &updatepb.UpdateRef{WorkflowExecution: execution, UpdateId: a.c("update-id")},
		WaitPolicy: &updatepb.WaitPolicy{LifecycleStage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED},
	})
	return err
}
