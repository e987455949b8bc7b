package e2e

import (
	"context"
	"errors"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

func (a *arm) driveFailures(ctx context.Context) error {
	runs := make(map[string]client.WorkflowRun)
	for _, name := range []string{"Fails", "Panics", "PanicsOnce", "TimesOut", "Retried"} {
		options := client.StartWorkflowOptions{ID: name, TaskQueue: a.c("task-queue")}
		if name == "Retried" {
			options.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 2}
		}
		run, err := a.orders.ExecuteWorkflow(ctx, options, name)
		if err != nil {
			return err
		}
		runs[name] = run
	}
	return errors.Join(
		ended[*temporal.ApplicationError](a, runs["Fails"], "workflow-failure", "activity-failure", "activity-failure-cause"),
		ended[*temporal.PanicError](a, runs["Panics"], "activity-panic"),
		ended[*temporal.TimeoutError](a, runs["TimesOut"]),
		runs["PanicsOnce"].Get(ctx, nil), runs["Retried"].Get(ctx, nil),
	)
}

// drivePending waits until both activities have failed as often as they do.
func (a *arm) drivePending(ctx context.Context) error {
	if _, err := a.start(ctx, "Pending"); err != nil {
		return err
	}
	if err := eventually(ctx, "both activities are pending", func() (bool, error) {
		d, err := describe(ctx, a.orders, "Pending", "")
		if err != nil {
			return false, err
		}
		attempts := make(map[string]int32)
		for _, p := range d.GetPendingActivities() {
			if p.GetLastFailure() != nil {
				attempts[p.GetActivityType().GetName()] = p.GetAttempt()
			}
		}
		return attempts["FailsOverAndOver"] == 3 && attempts["FailsAtLength"] == 2, nil
	}); err != nil {
		return err
	}
	_, err := a.orders.WorkflowService().PauseActivity(ctx, &workflowservice.PauseActivityRequest{
		Namespace: orders, Execution: &commonpb.WorkflowExecution{WorkflowId: "Pending"}, Reason: a.c("pause-reason"),
		Activity: &workflowservice.PauseActivityRequest_Type{Type: "FailsAtLength"},
	})
	return err
}

func (a *arm) driveCancellation(ctx context.Context) error {
	run, err := a.start(ctx, "Canceled")
	if err != nil {
		return err
	}
	if err := eventually(ctx, "the activity beats", func() (bool, error) {
		d, err := describe(ctx, a.orders, "Canceled", "")
		return err == nil && len(d.GetPendingActivities()) == 1 && d.GetPendingActivities()[0].GetHeartbeatDetails() != nil, err
	}); err != nil {
		return err
	}
	if err := a.orders.CancelWorkflowWithOptions(ctx, client.CancelWorkflowOptions{WorkflowID: "Canceled", Reason: a.c("cancel-reason")}); err != nil {
		return err
	}
	return a.wasCanceled(run.Get(ctx, nil), "workflow-canceled-details")
}

// driveTermination terminates a workflow, and resets it to what it was before.
func (a *arm) driveTermination(ctx context.Context) error {
	run, err := a.orders.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "terminated", TaskQueue: a.c("task-queue")}, "Mailbox", a.c("workflow-input"))
	if err != nil {
		return err
	}
	// A query is answered after the first workflow task only.
	if _, err := a.orders.QueryWorkflow(ctx, "terminated", "", a.c("query-name"), a.c("query-input")); err != nil {
		return err
	}
	if err := a.orders.TerminateWorkflow(ctx, "terminated", "", a.c("terminate-reason"), a.c("terminate-details")); err != nil {
		return err
	}
	if err := ended[*temporal.TerminatedError](a, run); err != nil {
		return err
	}
	const firstTaskCompleted = 4
	if _, err := a.orders.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: orders, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "terminated", RunId: run.GetRunID()},
		Reason: a.c("reset-reason"), WorkflowTaskFinishEventId: firstTaskCompleted, RequestId: uuid.NewString(),
	}); err != nil {
		return err
	}
	return a.orders.SignalWorkflow(ctx, "terminated", "", "mail", "end")
}

func (a *arm) driveContinueAsNew(ctx context.Context) error {
	run, err := a.orders.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "ContinuesAsNew", TaskQueue: a.c("task-queue"), EnableEagerStart: true, Memo: map[string]any{"carried": a.c("continue-as-new-memo")},
	}, "ContinuesAsNew", a.c("workflow-input"))
	if err != nil {
		return err
	}
	var got string
	if err := run.Get(ctx, &got); err != nil {
		return err
	}
	return a.is("continue-as-new-input", got)
}

func (a *arm) driveFromOutside(ctx context.Context) error {
	run, err := a.start(ctx, "CompletedFromOutside")
	if err != nil {
		return err
	}
	token := <-a.tokens
	if err := errors.Join(
		a.orders.RecordActivityHeartbeat(ctx, token, a.c("async-activity-heartbeat")),
		a.orders.CompleteActivity(ctx, token, a.c("async-activity-result"), nil),
	); err != nil {
		return err
	}
	byID := func(id string, result any, failure error) error {
		<-a.tokens
		err := a.orders.RecordActivityHeartbeatByID(ctx, orders, run.GetID(), "", id, a.c("async-activity-heartbeat-by-id"))
		if err == nil && id == "canceled-by-id" {
			err = a.requestCancel(ctx, run)
		}
		if err != nil {
			return err
		}
		return a.orders.CompleteActivityByID(ctx, orders, run.GetID(), "", id, result, failure)
	}
	if err := byID("by-id", a.c("async-activity-result-by-id"), nil); err != nil {
		return err
	}
	if err := byID("failed-by-id", nil, temporal.NewApplicationError(a.c("async-activity-failure"), "Outside", a.c("async-activity-failure-details"))); err != nil {
		return err
	}
	if err := byID("canceled-by-id", nil, temporal.NewCanceledError(a.c("async-activity-canceled-details"))); err != nil {
		return err
	}
	return run.Get(ctx, nil)
}

// requestCancel makes the workflow request the cancellation of its activity.
func (a *arm) requestCancel(ctx context.Context, run client.WorkflowRun) error {
	if err := a.orders.SignalWorkflow(ctx, run.GetID(), "", "cancel", nil); err != nil {
		return err
	}
	return eventually(ctx, "the activity shall be canceled", func() (bool, error) {
		d, err := describe(ctx, a.orders, run.GetID(), "")
		return err == nil && len(d.GetPendingActivities()) == 1 &&
			d.GetPendingActivities()[0].GetState() == enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED, err
	})
}
