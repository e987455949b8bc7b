package temporaltest

import (
	"context"
	"sync"

	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
)

// Answers answers as an honest Temporal server may, with what a client or a worker needs to
// continue. Polls return the tasks that a test puts into queues. The zero value is ready.
type Answers struct {
	mu        sync.Mutex
	schedules map[string]*workflowservice.CreateScheduleRequest // by namespace and ID
	queues    map[string]chan proto.Message
}

// Queue returns the queue of tasks of one kind for the workers of a task queue.
func (a *Answers) Queue(kind, taskQueue string) chan proto.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := kind + " " + taskQueue
	if a.queues == nil {
		a.queues = make(map[string]chan proto.Message)
	}
	if a.queues[name] == nil {
		a.queues[name] = make(chan proto.Message, 1)
	}
	return a.queues[name]
}

// poll waits for a task; nil if there is none before the worker gives up.
func (a *Answers) poll(ctx context.Context, kind, taskQueue string) proto.Message {
	select {
	case task := <-a.Queue(kind, taskQueue):
		return task
	case <-ctx.Done():
		return nil
	}
}

// Answer implements Handler.
func (a *Answers) Answer(ctx context.Context, req proto.Message) (proto.Message, error) {
	return a.answer(ctx, req), nil
}

func (a *Answers) answer(ctx context.Context, req proto.Message) proto.Message {
	switch r := req.(type) {
	case *workflowservice.GetSystemInfoRequest:
		return &workflowservice.GetSystemInfoResponse{ServerVersion: "1.32.1", Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{
			SignalAndQueryHeader: true, InternalErrorDifferentiation: true, ActivityFailureIncludeHeartbeat: true, SupportsSchedules: true,
			EncodedFailureAttributes: true, UpsertMemo: true, SdkMetadata: true, CountGroupByExecutionStatus: true, Nexus: true,
		}}
	case *workflowservice.DescribeNamespaceRequest:
		return &workflowservice.DescribeNamespaceResponse{NamespaceInfo: &namespacepb.NamespaceInfo{
			Name: r.GetNamespace(), State: enumspb.NAMESPACE_STATE_REGISTERED, Capabilities: &namespacepb.NamespaceInfo_Capabilities{WorkerHeartbeats: true},
		}}
	case *workflowservice.StartWorkflowExecutionRequest:
		return &workflowservice.StartWorkflowExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.SignalWithStartWorkflowExecutionRequest:
		return &workflowservice.SignalWithStartWorkflowExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.StartActivityExecutionRequest:
		return &workflowservice.StartActivityExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.StartNexusOperationExecutionRequest:
		return &workflowservice.StartNexusOperationExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.UpdateWorkflowExecutionRequest:
		return updated(r)
	case *workflowservice.ExecuteMultiOperationRequest:
		out := &workflowservice.ExecuteMultiOperationResponse{}
		for _, op := range r.GetOperations() {
			one := &workflowservice.ExecuteMultiOperationResponse_Response{Response: &workflowservice.ExecuteMultiOperationResponse_Response_StartWorkflow{
				StartWorkflow: &workflowservice.StartWorkflowExecutionResponse{RunId: "run", Started: true},
			}}
			if u := op.GetUpdateWorkflow(); u != nil {
				one.Response = &workflowservice.ExecuteMultiOperationResponse_Response_UpdateWorkflow{UpdateWorkflow: updated(u)}
			}
			out.Responses = append(out.Responses, one)
		}
		return out
	case *workflowservice.QueryWorkflowRequest: // the arguments come back as the result
		return &workflowservice.QueryWorkflowResponse{QueryResult: r.GetQuery().GetQueryArgs()}
	case *workflowservice.CreateScheduleRequest:
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.schedules == nil {
			a.schedules = make(map[string]*workflowservice.CreateScheduleRequest)
		}
		a.schedules[r.GetNamespace()+" "+r.GetScheduleId()] = r
	case *workflowservice.UpdateScheduleRequest:
		a.mu.Lock()
		defer a.mu.Unlock()
		if stored := a.schedules[r.GetNamespace()+" "+r.GetScheduleId()]; stored != nil {
			stored.Schedule = r.GetSchedule()
		}
	case *workflowservice.DescribeScheduleRequest:
		a.mu.Lock()
		defer a.mu.Unlock()
		stored := a.schedules[r.GetNamespace()+" "+r.GetScheduleId()]
		return &workflowservice.DescribeScheduleResponse{Schedule: stored.GetSchedule(), Info: &schedulepb.ScheduleInfo{}, Memo: stored.GetMemo(), SearchAttributes: stored.GetSearchAttributes()}
	case *workflowservice.PollWorkflowTaskQueueRequest:
		return a.poll(ctx, "workflow", r.GetTaskQueue().GetName())
	case *workflowservice.PollActivityTaskQueueRequest:
		return a.poll(ctx, "activity", r.GetTaskQueue().GetName())
	case *workflowservice.PollNexusTaskQueueRequest:
		return a.poll(ctx, "nexus", r.GetTaskQueue().GetName())
	}
	return nil
}

// updated makes an update succeed with its own arguments.
func updated(r *workflowservice.UpdateWorkflowExecutionRequest) *workflowservice.UpdateWorkflowExecutionResponse {
	return &workflowservice.UpdateWorkflowExecutionResponse{
		UpdateRef: &updatepb.UpdateRef{WorkflowExecution: r.GetWorkflowExecution(), UpdateId: r.GetRequest().GetMeta().GetUpdateId()},
		Stage:     enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED,
		Outcome:   &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: r.GetRequest().GetInput().GetArgs()}},
	}
}
