package hostile

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/errordetails/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	updatepb "go.temporal.io/api/update/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// callLimit bounds a call of the client: after an altered response it may keep polling.
const callLimit = 10 * time.Second

// returns and fails are the outcomes of a client's call.
const (
	returns = "the client returns"
	fails   = "the client returns an error"
)

// call adds a scene with a client's call. call also notes the values that the program receives.
func (l *lane) call(n int, name, method, workflow string, response proto.Message, call func(ctx context.Context, l *lane) error) {
	l.scenes = append(l.scenes, &scene{
		n: n, name: name, workflow: workflow, method: method, response: response,
		deliver: func(ctx context.Context, l *lane, response proto.Message, _ string) answer {
			for _, polled := range []string{"PollActivityExecution", "PollNexusOperationExecution", "PollWorkflowExecutionUpdate", "GetWorkflowExecutionHistory"} {
				l.arm(polled, nil, errOver)
			}
			l.arm(method, response, errOver)
			ctx, cancel := context.WithTimeout(ctx, callLimit)
			defer cancel()
			err := safely(func() error { return call(ctx, l) })
			l.refused(err)
			if err != nil {
				l.saw("error to the client", err)
				return answer{method: fails, why: err.Error()}
			}
			return answer{method: returns}
		},
	})
}

// safely converts a panic into an error: the SDK panics on some responses that no honest server
// sends.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the SDK panics: %v", p)
		}
	}()
	return f()
}

// historyScenes are clients that read the outcome of a workflow.
func (l *lane) historyScenes(n int, kind, id string, h *historypb.History) {
	closing := h.GetEvents()[len(h.GetEvents())-1:]
	l.call(n, kind+", its result", "GetWorkflowExecutionHistory", id, &workflowservice.GetWorkflowExecutionHistoryResponse{History: &historypb.History{Events: cloneEvents(closing)}},
		func(ctx context.Context, l *lane) error {
			var got string
			err := l.client.GetWorkflow(ctx, id, "run").GetWithOptions(ctx, &got, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
			l.saw("result of a workflow", got)
			return err
		})
}

// clientScenes are the other calls of a client.
func (l *lane) clientScenes(n int) {
	const id = "workflow-of-a-client"
	sc := converter.WorkflowSerializationContext{Namespace: l.namespace(), WorkflowID: id}
	execution := &commonpb.WorkflowExecution{WorkflowId: id, RunId: "run"}
	fill := filler{l: l, scene: n, sc: sc}
	c := func(what string) string { return l.canary(n, what) }
	recorded := &recorder{l: l, scene: n, sc: sc}
	failure := func() *failurepb.Failure { return recorded.applicationFailure(sc, "failure") }
	success := &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: l.seal(sc, c("update-result"))}}
	failed := &updatepb.Outcome{Value: &updatepb.Outcome_Failure{Failure: failure()}}
	ref := &updatepb.UpdateRef{WorkflowExecution: execution, UpdateId: "update"}
	add := func(name, method string, response proto.Message, call func(ctx context.Context, l *lane) error) {
		l.call(n, name, method, id, response, call)
	}

	for _, kind := range []enumspb.EventType{
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
	} {
		h := &history{id: id}
		fill.fill(h.add(kind, nil, nil))
		l.historyScenes(n, kind.String(), id, &historypb.History{Events: h.events})
	}
	add("query", "QueryWorkflow", &workflowservice.QueryWorkflowResponse{QueryResult: l.seal(sc, c("query-result"))}, func(ctx context.Context, l *lane) error {
		v, err := l.client.QueryWorkflow(ctx, id, "run", "query")
		return l.read("result of a query", v, err)
	})
	l.scenes = append(l.scenes, &scene{
		n: n, name: "query that fails", workflow: id, method: "QueryFailedFailure", response: &errordetails.QueryFailedFailure{Failure: failure()},
		deliver: func(ctx context.Context, l *lane, response proto.Message, _ string) answer {
			l.arm("QueryWorkflow", nil, queryFailed(response.(*errordetails.QueryFailedFailure)))
			_, err := l.client.QueryWorkflow(ctx, id, "run", "query")
			l.refused(err)
			l.saw("failure of a query", err)
			return answer{method: fails, why: fmt.Sprint(err)}
		},
	})
	update := client.UpdateWorkflowOptions{WorkflowID: id, UpdateID: "update", UpdateName: "update", WaitForStage: client.WorkflowUpdateStageCompleted}
	for i, o := range []*updatepb.Outcome{success, failed} {
		o := proto.CloneOf(o)
		name := []string{"", ", which fails"}[i]
		add("update"+name, "UpdateWorkflowExecution", &workflowservice.UpdateWorkflowExecutionResponse{UpdateRef: ref, Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, Outcome: o},
			func(ctx context.Context, l *lane) error {
				h, err := l.client.UpdateWorkflow(ctx, update)
				return l.get("result of an update", ctx, h, err)
			})
		add("update, polled"+name, "PollWorkflowExecutionUpdate", &workflowservice.PollWorkflowExecutionUpdateResponse{UpdateRef: ref, Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, Outcome: o},
			func(ctx context.Context, l *lane) error {
				return l.get("result of an update", ctx, l.client.GetWorkflowUpdateHandle(client.GetWorkflowUpdateHandleOptions{WorkflowID: id, RunID: "run", UpdateID: "update"}), nil)
			})
		add("update with start"+name, "ExecuteMultiOperation", multi(ref, o), func(ctx context.Context, l *lane) error {
			start := l.client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{ID: id, TaskQueue: "q", WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING}, "Echo", "in", "more")
			h, err := l.client.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{StartWorkflowOperation: start, UpdateOptions: update})
			return l.get("result of an update", ctx, h, err)
		})
	}
	for i := range 3 {
		fill.alternative = i
		described := fill.fill(&workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Execution: execution, Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, Type: &commonpb.WorkflowType{Name: "Echo"}}})
		add(fmt.Sprint("describe ", i), "DescribeWorkflowExecution", described, func(ctx context.Context, l *lane) error { return l.describe(ctx, id) })
		l.activityCalls(n, fill)
		l.operationCalls(n, fill)
	}
	fill.alternative = 0
	l.lists(n, fill)
	l.schedules(n, fill)
	l.rawCalls(n)
}

// queryFailed is the error with which the server answers a query that failed.
func queryFailed(details *errordetails.QueryFailedFailure) error {
	s, err := status.New(codes.InvalidArgument, details.GetFailure().GetMessage()).WithDetails(details)
	if err != nil {
		panic(err) // it is not OK, so it takes details
	}
	return s.Err()
}

// read notes an encoded value.
func (l *lane) read(where string, v converter.EncodedValue, err error) error {
	if err != nil {
		return err
	}
	var got string
	err = v.Get(&got)
	l.saw(where, got)
	return err
}

// get notes the result of an update.
func (l *lane) get(where string, ctx context.Context, h client.WorkflowUpdateHandle, err error) error { //nolint:revive // the words read in this order
	if err != nil {
		return err
	}
	var got string
	err = h.Get(ctx, &got)
	l.saw(where, got)
	return err
}

func multi(ref *updatepb.UpdateRef, o *updatepb.Outcome) proto.Message {
	return &workflowservice.ExecuteMultiOperationResponse{Responses: []*workflowservice.ExecuteMultiOperationResponse_Response{
		{Response: &workflowservice.ExecuteMultiOperationResponse_Response_StartWorkflow{StartWorkflow: &workflowservice.StartWorkflowExecutionResponse{RunId: "run", Started: true}}},
		{Response: &workflowservice.ExecuteMultiOperationResponse_Response_UpdateWorkflow{UpdateWorkflow: &workflowservice.UpdateWorkflowExecutionResponse{
			UpdateRef: ref, Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, Outcome: o,
		}}},
	}}
}

// describe reads all values of a description.
func (l *lane) describe(ctx context.Context, id string) error {
	d, err := l.client.DescribeWorkflow(ctx, id, "run")
	if err != nil {
		return err
	}
	summary, err1 := d.GetStaticSummary()
	details, err2 := d.GetStaticDetails()
	l.saw("description of a workflow", summary, details)
	var errs []error
	for _, k := range sortedKeys(d.Memo.GetFields()) {
		var memo string
		errs = append(errs, d.GetMemoValue(k, &memo))
		l.saw("memo in a description", memo)
	}
	return errors.Join(append(errs, err1, err2)...)
}

// activityCalls are calls about activities without a workflow.
func (l *lane) activityCalls(n int, fill filler) {
	fill.sc = converter.ActivitySerializationContext{Namespace: l.namespace(), ActivityType: "Activity", TaskQueue: "q"}
	start := func(ctx context.Context, l *lane) (client.ActivityHandle, error) {
		return l.client.ExecuteActivity(ctx, client.StartActivityOptions{ID: "activity", TaskQueue: "q", StartToCloseTimeout: time.Minute}, "Activity", "in")
	}
	l.call(n, fmt.Sprint("start of an activity ", fill.alternative), "StartActivityExecution", "", fill.fill(&workflowservice.StartActivityExecutionResponse{RunId: "run", Started: true}), func(ctx context.Context, l *lane) error {
		_, err := start(ctx, l)
		return err
	})
	l.call(n, fmt.Sprint("activity ", fill.alternative), "PollActivityExecution", "", fill.fill(&workflowservice.PollActivityExecutionResponse{RunId: "run"}), func(ctx context.Context, l *lane) error {
		h, err := start(ctx, l)
		if err != nil {
			return err
		}
		var got string
		err = h.Get(ctx, &got)
		l.saw("result of an activity without a workflow", got)
		return err
	})
	l.call(n, fmt.Sprint("describe activity ", fill.alternative), "DescribeActivityExecution", "", fill.fill(&workflowservice.DescribeActivityExecutionResponse{RunId: "run"}), func(ctx context.Context, l *lane) error {
		d, err := l.client.GetActivityHandle(client.GetActivityHandleOptions{ActivityID: "activity", RunID: "run"}).Describe(ctx, client.DescribeActivityOptions{IncludeHeartbeatDetails: true, IncludeLastFailure: true})
		if err != nil {
			return err
		}
		var heartbeat, in, in2, result string
		errs := []error{d.GetHeartbeatDetails(&heartbeat), d.GetInput(&in, &in2), d.GetResult(&result)}
		summary, err1 := d.GetSummary()
		details, err2 := d.GetStaticDetails()
		l.saw("description of an activity", heartbeat, in, in2, result, summary, details, d.GetOutcomeFailure(), d.GetLastFailure())
		return errors.Join(append(errs, err1, err2)...)
	})
}

// operationCalls are calls about Nexus operations without a workflow.
func (l *lane) operationCalls(n int, fill filler) {
	fill.sc = nil
	handle := func(ctx context.Context, l *lane) (client.NexusOperationHandle, error) {
		c, err := l.client.NewNexusClient(client.NexusClientOptions{Endpoint: "endpoint", Service: "service"})
		if err != nil {
			return nil, err
		}
		return c.ExecuteOperation(ctx, "operation", "in", client.StartNexusOperationOptions{ID: "operation", ScheduleToCloseTimeout: time.Minute})
	}
	l.call(n, fmt.Sprint("operation ", fill.alternative), "PollNexusOperationExecution", "", fill.fill(&workflowservice.PollNexusOperationExecutionResponse{RunId: "run", WaitStage: enumspb.NEXUS_OPERATION_WAIT_STAGE_CLOSED}), func(ctx context.Context, l *lane) error {
		h, err := handle(ctx, l)
		if err != nil {
			return err
		}
		var got string
		err = h.Get(ctx, &got)
		l.saw("result of an operation without a workflow", got)
		return err
	})
	l.call(n, fmt.Sprint("describe operation ", fill.alternative), "DescribeNexusOperationExecution", "", fill.fill(&workflowservice.DescribeNexusOperationExecutionResponse{RunId: "run"}), func(ctx context.Context, l *lane) error {
		h, err := handle(ctx, l)
		if err != nil {
			return err
		}
		d, err := h.Describe(ctx, client.DescribeNexusOperationOptions{})
		if err != nil {
			return err
		}
		summary, err := d.GetSummary()
		l.saw("description of an operation", summary, d.GetLastAttemptFailure())
		return err
	})
}

// lists are calls that return many workflows, activities or operations.
func (l *lane) lists(n int, fill filler) {
	memos := func(l *lane, executions []*workflowpb.WorkflowExecutionInfo) error {
		var errs []error
		for _, e := range executions {
			for _, k := range sortedKeys(e.GetMemo().GetFields()) {
				var memo string
				errs = append(errs, l.own.FromPayload(e.GetMemo().GetFields()[k], &memo))
				l.saw("memo in a list", memo)
			}
		}
		return errors.Join(errs...)
	}
	l.call(n, "list", "ListWorkflowExecutions", "", fill.fill(&workflowservice.ListWorkflowExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		r, err := l.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{})
		return errors.Join(err, memos(l, r.GetExecutions()))
	})
	l.call(n, "list open", "ListOpenWorkflowExecutions", "", fill.fill(&workflowservice.ListOpenWorkflowExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		r, err := l.client.ListOpenWorkflow(ctx, &workflowservice.ListOpenWorkflowExecutionsRequest{})
		return errors.Join(err, memos(l, r.GetExecutions()))
	})
	l.call(n, "list closed", "ListClosedWorkflowExecutions", "", fill.fill(&workflowservice.ListClosedWorkflowExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		r, err := l.client.ListClosedWorkflow(ctx, &workflowservice.ListClosedWorkflowExecutionsRequest{})
		return errors.Join(err, memos(l, r.GetExecutions()))
	})
	l.call(n, "list archived", "ListArchivedWorkflowExecutions", "", fill.fill(&workflowservice.ListArchivedWorkflowExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		r, err := l.client.ListArchivedWorkflow(ctx, &workflowservice.ListArchivedWorkflowExecutionsRequest{})
		return errors.Join(err, memos(l, r.GetExecutions()))
	})
	l.call(n, "list activities", "ListActivityExecutions", "", fill.fill(&workflowservice.ListActivityExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		r, err := l.client.ListActivities(ctx, client.ListActivitiesOptions{})
		if err != nil {
			return err
		}
		for info, err := range r.Results {
			if err != nil {
				return err
			}
			l.saw("activity in a list", info.ActivityID)
		}
		return nil
	})
	l.call(n, "count", "CountWorkflowExecutions", "", fill.fill(&workflowservice.CountWorkflowExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		_, err := l.client.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{})
		return err
	})
	l.call(n, "count activities", "CountActivityExecutions", "", fill.fill(&workflowservice.CountActivityExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		_, err := l.client.CountActivities(ctx, client.CountActivitiesOptions{})
		return err
	})
	l.call(n, "scan", "ScanWorkflowExecutions", "", fill.fill(&workflowservice.ScanWorkflowExecutionsResponse{}), func(ctx context.Context, l *lane) error { //nolint:staticcheck // deprecated, and in use
		r, err := l.client.ScanWorkflow(ctx, &workflowservice.ScanWorkflowExecutionsRequest{}) //nolint:staticcheck // deprecated, and in use
		return errors.Join(err, memos(l, r.GetExecutions()))
	})
	l.call(n, "list operations", "ListNexusOperationExecutions", "", fill.fill(&workflowservice.ListNexusOperationExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		r, err := l.client.ListNexusOperations(ctx, client.ListNexusOperationsOptions{})
		if err != nil {
			return err
		}
		for info, err := range r.Results {
			if err != nil {
				return err
			}
			l.saw("operation in a list", info.OperationID)
		}
		return nil
	})
	l.call(n, "count operations", "CountNexusOperationExecutions", "", fill.fill(&workflowservice.CountNexusOperationExecutionsResponse{}), func(ctx context.Context, l *lane) error {
		_, err := l.client.CountNexusOperations(ctx, client.CountNexusOperationsOptions{})
		return err
	})
	l.call(n, "describe a version", "DescribeWorkerDeploymentVersion", "", fill.fill(&workflowservice.DescribeWorkerDeploymentVersionResponse{}), func(ctx context.Context, l *lane) error {
		d, err := l.client.WorkerDeploymentClient().GetHandle("d").DescribeVersion(ctx, client.WorkerDeploymentDescribeVersionOptions{BuildID: "b"})
		if err != nil {
			return err
		}
		return l.metadata(d.Info.Metadata)
	})
	l.call(n, "update a version", "UpdateWorkerDeploymentVersionMetadata", "", fill.fill(&workflowservice.UpdateWorkerDeploymentVersionMetadataResponse{}), func(ctx context.Context, l *lane) error {
		r, err := l.client.WorkerDeploymentClient().GetHandle("d").UpdateVersionMetadata(ctx, client.WorkerDeploymentUpdateVersionMetadataOptions{
			Version: worker.WorkerDeploymentVersion{DeploymentName: "d", BuildID: "b"}, MetadataUpdate: client.WorkerDeploymentMetadataUpdate{UpsertEntries: map[string]any{"k": "v"}},
		})
		if err != nil {
			return err
		}
		return l.metadata(r.Metadata)
	})
}

func (l *lane) metadata(m map[string]*commonpb.Payload) error {
	var errs []error
	for _, k := range sortedKeys(m) {
		var v string
		errs = append(errs, l.own.FromPayload(m[k], &v))
		l.saw("metadata of a version", v)
	}
	return errors.Join(errs...)
}

// schedules are calls about schedules. An update sends the schedule back as the server sent it.
func (l *lane) schedules(n int, fill filler) {
	const id = "schedule"
	described := func() proto.Message {
		return fill.fill(&workflowservice.DescribeScheduleResponse{
			Info: &schedulepb.ScheduleInfo{}, Schedule: &schedulepb.Schedule{Spec: &schedulepb.ScheduleSpec{}, Policies: &schedulepb.SchedulePolicies{}, State: &schedulepb.ScheduleState{}, Action: &schedulepb.ScheduleAction{
				Action: &schedulepb.ScheduleAction_StartWorkflow{StartWorkflow: &workflowpb.NewWorkflowExecutionInfo{WorkflowId: "of-schedule", WorkflowType: &commonpb.WorkflowType{Name: "Echo"}}},
			}},
		})
	}
	l.call(n, "describe a schedule", "DescribeSchedule", "", described(), func(ctx context.Context, l *lane) error {
		d, err := l.client.ScheduleClient().GetHandle(ctx, id).Describe(ctx)
		if err != nil {
			return err
		}
		return l.sawSchedule(d)
	})
	l.call(n, "update a schedule", "DescribeSchedule", "", described(), func(ctx context.Context, l *lane) error {
		return l.client.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			if err := l.sawSchedule(&in.Description); err != nil {
				return nil, err
			}
			s := in.Description.Schedule
			return &client.ScheduleUpdate{Schedule: &s}, nil
		}})
	})
	// A program that does not read the schedule that it sends back.
	l.call(n, "update a schedule unread", "DescribeSchedule", "", described(), func(ctx context.Context, l *lane) error {
		return l.client.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			s := in.Description.Schedule
			return &client.ScheduleUpdate{Schedule: &s}, nil
		}})
	})
	l.call(n, "list schedules", "ListSchedules", "", fill.fill(&workflowservice.ListSchedulesResponse{}), func(ctx context.Context, l *lane) error {
		it, err := l.client.ScheduleClient().List(ctx, client.ScheduleListOptions{})
		if err != nil {
			return err
		}
		for it.HasNext() {
			e, err := it.Next()
			if err != nil {
				return err
			}
			for _, k := range sortedKeys(e.Memo.GetFields()) {
				var memo string
				if err := l.own.FromPayload(e.Memo.GetFields()[k], &memo); err != nil {
					return err
				}
				l.saw("memo in a list of schedules", memo)
			}
		}
		return nil
	})
}

// sawSchedule reads a schedule as a program does.
func (l *lane) sawSchedule(d *client.ScheduleDescription) error {
	action, ok := d.Schedule.Action.(*client.ScheduleWorkflowAction)
	if !ok {
		return nil
	}
	l.saw("summary of a schedule", action.StaticSummary, action.StaticDetails)
	var payloads []*commonpb.Payload
	for _, a := range action.Args {
		if p, ok := a.(*commonpb.Payload); ok {
			payloads = append(payloads, p)
		}
	}
	for _, k := range sortedKeys(action.Memo) {
		if p, ok := action.Memo[k].(*commonpb.Payload); ok {
			payloads = append(payloads, p)
		}
	}
	payloads = append(payloads, sortedPayloads(d.Memo.GetFields())...)
	for _, p := range payloads {
		var v string
		if err := l.own.FromPayload(p, &v); err != nil {
			return err
		}
		l.saw("input or memo of a schedule", v)
	}
	return nil
}

// raw lists the methods that a worker of the lane calls at any time: the worker could receive a
// response meant for another caller.
var raw = map[string]bool{"PollWorkflowTaskQueue": true, "PollActivityTaskQueue": true, "PollNexusTaskQueue": true, "RespondWorkflowTaskCompleted": true}

// rawCalls are calls of a program that uses the service directly. It receives messages as the
// guard leaves them, and opens none.
func (l *lane) rawCalls(n int) {
	for _, service := range services() {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			output, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
			if err != nil {
				panic(err) // the services are linked in
			}
			for alternative := range 3 {
				fill := filler{l: l, scene: n, alternative: alternative}
				response := fill.fill(output.New().Interface())
				if raw[string(method.Name())] || len(placesIn(response)) == 0 {
					continue
				}
				name := string(method.Name())
				l.call(n, rawName+name+fmt.Sprint(" ", alternative), name, "", response, func(ctx context.Context, l *lane) error { return l.rawCall(ctx, name) })
			}
		}
	}
}

const rawName = "raw "

// rawCall calls a method of the service with a request that names only the lane.
func (l *lane) rawCall(ctx context.Context, name string) error {
	method := reflect.ValueOf(l.client.WorkflowService()).MethodByName(name)
	if !method.IsValid() {
		method = reflect.ValueOf(l.client.OperatorService()).MethodByName(name)
	}
	req := reflect.New(method.Type().In(1).Elem()).Interface().(proto.Message)
	for _, field := range []string{"namespace", "id", "name"} {
		if f := req.ProtoReflect().Descriptor().Fields().ByName(protoName(field)); f != nil {
			req.ProtoReflect().Set(f, stringValue(l.namespace()))
			break
		}
	}
	out := method.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(req)})
	err, _ := reflect.TypeAssert[error](out[1])
	return err
}

func isRaw(s *scene) bool { return strings.HasPrefix(s.name, rawName) }
