package codec_test

import (
	"context"
	"errors"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// headersPlace: the guard opens headers, and propagators pass them on.
func headersPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		workflow.ExecuteActivity(ctx, "Elsewhere")
		workflow.ExecuteChildWorkflow(ctx, "Child")
		workflow.SignalExternalWorkflow(ctx, "other", "", "signal", nil)
		workflow.NewNexusClient("e", "s").ExecuteOperation(ctx, "o", nil, workflow.NexusOperationOptions{})
		return workflow.NewContinueAsNewError(ctx, "Workflow")
	})
	task := o.workflowTask(nil)
	task.History.Events[0].GetWorkflowExecutionStartedEventAttributes().Header = &commonpb.Header{Fields: map[string]*commonpb.Payload{"carried": o.seal(o.secret("header"))}}
	o.give("workflow", outgoingQueue, task)
	if n := len(o.completed()); n != 5 {
		o.Errorf("%d commands", n)
	}
	o.sealedIn(o.secret("header"))
}

// updateAcceptedPlace: accepting an update sends the request again. The guard opened its
// header.
func updateAcceptedPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context) error {
		if err := workflow.SetUpdateHandler(ctx, "update", func(_ workflow.Context, arg string) (string, error) { return "", errors.New(arg) }); err != nil {
			return err
		}
		return workflow.Await(ctx, func() bool { return false })
	})
	o.give("workflow", outgoingQueue, o.updateTask(nil, &updatepb.Input{
		Name: "update", Args: o.sealed(o.secret("argument")), Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"carried": o.seal(o.secret("header"))}},
	}))
	wait[*workflowservice.RespondWorkflowTaskCompletedRequest](o)
	o.sealedIn(o.secret("argument"))
	o.sealedIn(o.secret("header"))
}

// memoPlace: the next run inherits the memo.
func memoPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context) error {
		var memo string
		if err := o.converter().FromPayload(workflow.GetInfo(ctx).Memo.GetFields()["m"], &memo); err != nil {
			return err
		}
		if err := workflow.UpsertMemo(ctx, map[string]any{"again": memo}); err != nil {
			return err
		}
		return workflow.NewContinueAsNewError(ctx, "Workflow")
	})
	task := o.workflowTask(nil)
	task.History.Events[0].GetWorkflowExecutionStartedEventAttributes().Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": o.seal(o.secret("memo"))}}
	o.give("workflow", outgoingQueue, task)
	if n := len(o.completed()); n != 2 {
		o.Errorf("%d commands", n)
	}
	o.sealedIn(o.secret("memo"))
}

// rawValuePlace: a payload that is passed on unchanged has metadata that only an envelope has.
func rawValuePlace(o *outgoing) {
	o.start(func(w worker.Worker) {
		w.RegisterActivityWithOptions(func(_ context.Context, raw converter.RawValue) (converter.RawValue, error) { return raw, nil }, activity.RegisterOptions{Name: "Activity"})
	})
	raw := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("x/" + o.secret("encoding")), "messageType": []byte(o.secret("type")), o.secret("key"): []byte("v")}, Data: []byte(o.secret("data"))}
	o.give("activity", outgoingQueue, o.activityTask("Activity", payloads(encode(o, o.codec, outgoingNamespace, raw)...)))
	wait[*workflowservice.RespondActivityTaskCompletedRequest](o)
	for _, what := range []string{"encoding", "type", "key", "data"} {
		o.sealedIn(o.secret(what))
	}
}

// heartbeatPlace: an attempt continues with the details of the previous one.
func heartbeatPlace(o *outgoing) {
	o.start(func(w worker.Worker) {
		w.RegisterActivityWithOptions(func(ctx context.Context) error {
			var details string
			if err := activity.GetHeartbeatDetails(ctx, &details); err != nil {
				return err
			}
			activity.RecordHeartbeat(ctx, details)
			return temporal.NewApplicationError(details, "T", details)
		}, activity.RegisterOptions{Name: "Activity"})
	})
	task := o.activityTask("Activity", nil)
	task.HeartbeatDetails = o.sealed(o.secret("details"))
	o.give("activity", outgoingQueue, task)
	wait[*workflowservice.RecordActivityTaskHeartbeatRequest](o)
	wait[*workflowservice.RespondActivityTaskFailedRequest](o)
	o.sealedIn(o.secret("details"))
}

// scheduleUpdatePlace: the SDK opens summary and details of a schedule's workflow, and sends
// them again.
func scheduleUpdatePlace(o *outgoing) {
	handle, err := o.client.ScheduleClient().Create(o.Context(), client.ScheduleOptions{
		ID: "s", Spec: client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: time.Hour}}},
		Action: &client.ScheduleWorkflowAction{
			ID: "w", Workflow: "Order", TaskQueue: outgoingQueue, Args: []any{o.secret("input")}, Memo: map[string]any{"m": o.secret("memo")},
			StaticSummary: o.secret("summary"), StaticDetails: o.secret("details"),
		},
	})
	if err != nil {
		o.Fatal(err)
	}
	o.server.ForgetOpened()
	if err := handle.Update(o.Context(), client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		return &client.ScheduleUpdate{Schedule: &in.Description.Schedule}, nil
	}}); err != nil {
		o.Fatal(err)
	}
	for _, what := range []string{"input", "memo", "summary", "details"} {
		o.sealedIn(o.secret(what))
	}
}

// workflowMetadataPlace: the SDK itself answers some queries, with values that workflow code
// has set.
func workflowMetadataPlace(o *outgoing) {
	o.startWorkflow(func(ctx workflow.Context, in string) error {
		workflow.SetCurrentDetails(ctx, in)
		workflow.GetSignalChannelWithOptions(ctx, "s", workflow.SignalChannelOptions{Description: in})
		return workflow.Await(ctx, func() bool { return false })
	})
	for _, kind := range []string{"__temporal_workflow_metadata", "__stack_trace", "__open_sessions"} {
		o.give("workflow", outgoingQueue, o.queryTask(kind, nil, o.sealed(o.secret("details"))))
		wait[*workflowservice.RespondQueryTaskCompletedRequest](o)
	}
	o.sealedIn(o.secret("details"))
}

// workerHeartbeatPlace: a worker reports its work, and that it stops.
func workerHeartbeatPlace(o *outgoing) {
	o.start(func(w worker.Worker) {
		w.RegisterActivityWithOptions(func(_ context.Context, in string) error { return errors.New(in) }, activity.RegisterOptions{Name: "Activity"})
	})
	o.give("activity", outgoingQueue, o.activityTask("Activity", o.sealed(o.secret("input"))))
	wait[*workflowservice.RespondActivityTaskFailedRequest](o)
	wait[*workflowservice.RecordWorkerHeartbeatRequest](o)
	o.worker.Stop()
	wait[*workflowservice.ShutdownWorkerRequest](o)
}
