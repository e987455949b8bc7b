package codec_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	batchpb "go.temporal.io/api/batch/v1"
	commonpb "go.temporal.io/api/common/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/operatorservice/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// clientCalls are the calls of a client, by kind.
func clientCalls() map[string]func(context.Context, *call) error {
	return map[string]func(context.Context, *call) error{
		"start": func(ctx context.Context, c *call) error {
			_, err := c.client.ExecuteWorkflow(c.context(ctx), c.startOptions(), "Order", c.secretsOf("input", 3)...)
			return err
		},
		"signal": func(ctx context.Context, c *call) error {
			return c.client.SignalWorkflow(c.context(ctx), c.id(), "", "signal", c.secret("signal"))
		},
		"signal with start": func(ctx context.Context, c *call) error {
			_, err := c.client.SignalWithStartWorkflow(c.context(ctx), c.id(), "signal", c.secret("signal"), c.startOptions(), "Order", c.secretsOf("input", 3)...)
			return err
		},
		"update": func(ctx context.Context, c *call) error {
			_, err := c.client.UpdateWorkflow(c.context(ctx), c.updateOptions())
			return err
		},
		"update with start": func(ctx context.Context, c *call) error {
			o := c.startOptions()
			o.WorkflowIDConflictPolicy = 1
			_, err := c.client.UpdateWithStartWorkflow(c.context(ctx), client.UpdateWithStartWorkflowOptions{
				StartWorkflowOperation: c.client.NewWithStartWorkflowOperation(o, "Order", c.secretsOf("input", 3)...), UpdateOptions: c.updateOptions(),
			})
			return err
		},
		"query": func(ctx context.Context, c *call) error {
			arg := c.secret("query")
			v, err := c.client.QueryWorkflow(c.context(ctx), c.id(), "", "query", arg)
			if err != nil {
				return err
			}
			var got string
			if err := v.Get(&got); err == nil && got != arg { // the KMS may fail when the value is read
				return errors.New("the result is not the argument")
			}
			return nil
		},
		"terminate": func(ctx context.Context, c *call) error {
			return c.client.TerminateWorkflow(ctx, c.id(), "", "ticket 7", c.secretsOf("details", 2)...)
		},
		"complete activity":          func(ctx context.Context, c *call) error { return c.completeActivity(ctx, c.secret("result"), nil) },
		"fail activity":              func(ctx context.Context, c *call) error { return c.completeActivity(ctx, nil, c.failure()) },
		"fail activity with details": func(ctx context.Context, c *call) error { return c.completeActivity(ctx, nil, c.detailed()) },
		"cancel activity": func(ctx context.Context, c *call) error {
			return c.completeActivity(ctx, nil, temporal.NewCanceledError(c.secret("details")))
		},
		"heartbeat": func(ctx context.Context, c *call) error {
			if c.sometimes() {
				return c.client.RecordActivityHeartbeat(ctx, []byte("token"), c.secret("heartbeat"))
			}
			return c.client.RecordActivityHeartbeatByID(ctx, c.namespace, c.id(), "", "activity", c.secret("heartbeat"))
		},
		"create schedule": func(ctx context.Context, c *call) error {
			_, err := c.createSchedule(ctx, c.id())
			return err
		},
		"update schedule": updateSchedule,
		"batch": func(ctx context.Context, c *call) error {
			p, err := c.sealed("batch")
			if err != nil {
				return err
			}
			r := &workflowservice.StartBatchOperationRequest{Namespace: c.namespace, JobId: c.id(), Reason: "ticket 7", VisibilityQuery: "x"}
			switch c.r.IntN(3) {
			case 0:
				r.Operation = &workflowservice.StartBatchOperationRequest_SignalOperation{SignalOperation: &batchpb.BatchOperationSignal{Signal: "s", Input: p}}
			case 1:
				r.Operation = &workflowservice.StartBatchOperationRequest_TerminationOperation{TerminationOperation: &batchpb.BatchOperationTermination{Details: p}}
			default:
				r.Operation = &workflowservice.StartBatchOperationRequest_ResetOperation{ResetOperation: &batchpb.BatchOperationReset{PostResetOperations: postReset(p)}}
			}
			_, err = c.client.WorkflowService().StartBatchOperation(ctx, r)
			return err
		},
		"reset": func(ctx context.Context, c *call) error {
			p, err := c.sealed("reset")
			if err != nil {
				return err
			}
			_, err = c.client.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{Namespace: c.namespace, Reason: "ticket 7", PostResetOperations: postReset(p)})
			return err
		},
		"standalone activity": func(ctx context.Context, c *call) error {
			_, err := c.client.ExecuteActivity(c.context(ctx), client.StartActivityOptions{
				ID: c.id(), TaskQueue: "q", StartToCloseTimeout: time.Minute, Summary: c.secret("summary"), StaticDetails: c.secret("details"),
			}, "Standalone", c.secretsOf("input", 3)...)
			return err
		},
		"standalone Nexus operation": func(ctx context.Context, c *call) error {
			n, err := c.client.NewNexusClient(client.NexusClientOptions{Endpoint: "e", Service: "s"})
			if err != nil {
				return err
			}
			_, err = n.ExecuteOperation(ctx, "operation", c.secret("input"), client.StartNexusOperationOptions{ID: c.id(), ScheduleToCloseTimeout: time.Minute, Summary: c.secret("summary")})
			return err
		},
		"Nexus endpoint": func(ctx context.Context, c *call) error {
			p, err := c.sealedOne("description")
			if err != nil {
				return err
			}
			spec := &nexuspb.EndpointSpec{Name: c.id(), Description: p}
			if c.sometimes() {
				_, err = c.client.OperatorService().CreateNexusEndpoint(ctx, &operatorservice.CreateNexusEndpointRequest{Spec: spec})
			} else {
				_, err = c.client.OperatorService().UpdateNexusEndpoint(ctx, &operatorservice.UpdateNexusEndpointRequest{Id: c.id(), Spec: spec})
			}
			return err
		},
		"deployment metadata": func(ctx context.Context, c *call) error {
			_, err := c.client.WorkerDeploymentClient().GetHandle("d").UpdateVersionMetadata(ctx, client.WorkerDeploymentUpdateVersionMetadataOptions{
				Version:        worker.WorkerDeploymentVersion{DeploymentName: "d", BuildID: "b"},
				MetadataUpdate: client.WorkerDeploymentMetadataUpdate{UpsertEntries: map[string]any{"k": c.secret("metadata")}},
			})
			return err
		},
		"plaintext in any place": func(ctx context.Context, c *call) error {
			return c.bare(ctx, payloadName, func(m protoreflect.Message) {
				proto.Merge(m.Interface(), &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"` + c.secret("anywhere") + `"`)})
			})
		},
		"plaintext in any failure": func(ctx context.Context, c *call) error {
			return c.bare(ctx, failureName, func(m protoreflect.Message) { c.spoil(m) })
		},
		"plaintext in any Nexus failure": func(ctx context.Context, c *call) error {
			return c.bare(ctx, nexusFailureName, func(m protoreflect.Message) { c.spoil(m) })
		},
	}
}

func postReset(p *commonpb.Payloads) []*workflowpb.PostResetOperation {
	return []*workflowpb.PostResetOperation{{Variant: &workflowpb.PostResetOperation_SignalWorkflow_{SignalWorkflow: &workflowpb.PostResetOperation_SignalWorkflow{SignalName: "s", Input: p}}}}
}

func (c *call) startOptions() client.StartWorkflowOptions {
	o := client.StartWorkflowOptions{
		ID: c.id(), TaskQueue: "q", Memo: c.memo("memo"),
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("Customer").ValueSet("public")),
	}
	if c.sometimes() {
		o.StaticSummary, o.StaticDetails = c.secret("summary"), c.secret("details")
	}
	return o
}

func (c *call) updateOptions() client.UpdateWorkflowOptions {
	return client.UpdateWorkflowOptions{
		WorkflowID: c.id(), UpdateID: "u-" + c.id(), UpdateName: "update", Args: c.secretsOf("update", 3), WaitForStage: client.WorkflowUpdateStageCompleted,
	}
}

// failure is an error with causes.
func (c *call) failure() error {
	return fmt.Errorf("%s: %w", c.perhaps("message"), temporal.NewApplicationErrorWithCause(c.perhaps("cause"), "Type", errors.New(c.perhaps("root"))))
}

func (c *call) completeActivity(ctx context.Context, result any, err error) error {
	switch c.r.IntN(3) {
	case 0:
		return c.client.CompleteActivity(ctx, []byte("token"), result, err)
	case 1:
		return c.client.CompleteActivityByID(ctx, c.namespace, c.id(), "", "activity", result, err)
	default:
		return c.client.CompleteActivityByActivityID(ctx, c.namespace, c.id(), "", result, err)
	}
}

func (c *call) createSchedule(ctx context.Context, id string) (client.ScheduleHandle, error) {
	return c.client.ScheduleClient().Create(c.context(ctx), client.ScheduleOptions{
		ID: id, Memo: c.memo("memo"), Spec: client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: time.Hour}}},
		Action: &client.ScheduleWorkflowAction{
			ID: "of-" + id, Workflow: "Order", TaskQueue: "q", Args: c.secretsOf("input", 3), Memo: c.memo("action-memo"),
			StaticSummary: c.secret("summary"), StaticDetails: c.secret("details"),
		},
	})
}

// updateSchedule sends a schedule back as the server sent it, in part or whole.
func updateSchedule(ctx context.Context, c *call) error {
	failing := c.failing.Swap(0)
	handle, err := c.createSchedule(context.WithoutCancel(ctx), c.id())
	if err != nil {
		return err
	}
	c.failing.Store(failing)
	return handle.Update(c.context(ctx), client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		s := in.Description.Schedule
		action := s.Action.(*client.ScheduleWorkflowAction)
		if c.sometimes() {
			action.Args = append(action.Args, c.secret("more"))
		}
		if c.sometimes() {
			action.Memo = map[string]any{"new": c.secret("new-memo")}
		}
		return &client.ScheduleUpdate{Schedule: &s}, nil
	}})
}

// bare sends a request of any method, with a message of one type, filled in by fill, in one of
// the places for it.
func (c *call) bare(ctx context.Context, of protoreflect.FullName, fill func(protoreflect.Message)) error {
	all := placesOf(of)
	p := all[c.r.IntN(len(all))]
	req := p.request.New()
	p.put(req, fill)
	service := reflect.ValueOf(c.client.WorkflowService())
	method := service.MethodByName(p.method)
	if !method.IsValid() {
		method = reflect.ValueOf(c.client.OperatorService()).MethodByName(p.method)
	}
	out := method.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(req.Interface())})
	err, _ := reflect.TypeAssert[error](out[1])
	return err
}

// spoil fills a failure of either kind with plaintext, in some of its places.
func (c *call) spoil(m protoreflect.Message) {
	c.setText(m, "message", c.perhaps("text"))
	if c.sometimes() {
		c.setText(m, "stack_trace", c.perhaps("trace"))
	}
	if f, ok := m.Interface().(*nexuspb.Failure); ok && c.sometimes() {
		f.Metadata, f.Details = map[string]string{"type": string(failureName)}, []byte(`{"stackTrace":"`+c.perhaps("nested")+`"}`)
		if c.sometimes() {
			f.Metadata = nil
		}
	}
}

func (c *call) setText(m protoreflect.Message, field protoreflect.Name, text string) {
	m.Set(m.Descriptor().Fields().ByName(field), protoreflect.ValueOfString(text))
}
