package e2e

import (
	"context"
	"errors"
	"fmt"

	batchpb "go.temporal.io/api/batch/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// payloads converts a canary for a call that the SDK has no function for.
func (a *arm) payloads(kind string) *commonpb.Payloads {
	p, err := a.dataConverter().ToPayloads(a.c(kind))
	if err != nil {
		panic(err) // a string always converts, and the keyring is a file
	}
	return p
}

// driveBatch signals and terminates workflows in batches, one after the other
// because the server allows no more.
func (a *arm) driveBatch(ctx context.Context) error {
	for _, operation := range []*workflowservice.StartBatchOperationRequest{
		{JobId: "batch-signal", Operation: &workflowservice.StartBatchOperationRequest_SignalOperation{
			SignalOperation: &batchpb.BatchOperationSignal{Signal: "mail", Input: a.payloads("batch-signal")},
		}},
		{JobId: "batch-terminate", Operation: &workflowservice.StartBatchOperationRequest_TerminationOperation{
			TerminationOperation: &batchpb.BatchOperationTermination{Details: a.payloads("batch-terminate-details")},
		}},
	} {
		run, err := a.orders.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "workflow-of-" + operation.GetJobId(), TaskQueue: a.c("task-queue")}, "Mailbox", a.c("workflow-input"))
		if err != nil {
			return err
		}
		operation.Namespace, operation.Reason = orders, a.c("batch-reason")
		operation.TargetExecutions = []*commonpb.Execution{{Type: enumspb.EXECUTION_TYPE_WORKFLOW, BusinessId: run.GetID(), RunId: run.GetRunID()}}
		if err := eventually(ctx, "the batch operation is accepted", func() (bool, error) {
			_, err := a.orders.WorkflowService().StartBatchOperation(ctx, operation)
			return err == nil, err
		}); err != nil {
			return err
		}
		var got string
		err = run.Get(ctx, &got)
		if operation.GetTerminationOperation() != nil {
			if err := ended[*temporal.TerminatedError](a, run); err != nil {
				return err
			}
		} else if want := a.c("workflow-input") + " and " + a.c("batch-signal"); err != nil || got != want {
			return fmt.Errorf("got %q, %w", got, err)
		}
	}
	return nil
}

func (a *arm) driveSchedule(ctx context.Context) error {
	handle, err := a.orders.ScheduleClient().Create(a.with(ctx, "header-schedule"), client.ScheduleOptions{
		ID: a.c("schedule-id"), Note: a.c("schedule-note"), Memo: map[string]any{"schedule": a.c("schedule-memo")},
		Spec:                  client.ScheduleSpec{Calendars: []client.ScheduleCalendarSpec{{Year: []client.ScheduleRange{{Start: 2099}}, Comment: a.c("schedule-comment")}}},
		TypedSearchAttributes: temporal.NewSearchAttributes(a.attribute(attributeCustomer, "search-attribute-schedule")),
		Action: &client.ScheduleWorkflowAction{
			ID: "scheduled", Workflow: "Scheduled", TaskQueue: a.c("task-queue"), Args: []any{a.c("schedule-input")},
			Memo: map[string]any{"action": a.c("schedule-action-memo")}, StaticSummary: a.c("schedule-summary"), StaticDetails: a.c("schedule-details"),
		},
	})
	if err != nil {
		return err
	}
	triggered := func(times int) error {
		if err := handle.Trigger(ctx, client.ScheduleTriggerOptions{}); err != nil {
			return err
		}
		return eventually(ctx, "the schedule's workflow ended", func() (bool, error) {
			d, err := handle.Describe(ctx)
			if err != nil || len(d.Info.RecentActions) < times || len(d.Info.RunningWorkflows) > 0 {
				return false, err
			}
			last := d.Info.RecentActions[times-1].StartWorkflowResult
			return true, a.orders.GetWorkflow(ctx, last.WorkflowID, last.FirstExecutionRunID).Get(ctx, nil)
		})
	}
	if err := triggered(1); err != nil {
		return err
	}
	if err := handle.Update(a.with(ctx, "header-schedule"), client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		s := in.Description.Schedule
		s.Action.(*client.ScheduleWorkflowAction).Args = []any{a.c("schedule-input-updated")}
		return &client.ScheduleUpdate{Schedule: &s}, nil
	}}); err != nil {
		return err
	}
	if err := triggered(2); err != nil {
		return err
	}
	return handle.Pause(ctx, client.SchedulePauseOptions{Note: a.c("schedule-pause-note")})
}

func (a *arm) driveNexus(ctx context.Context) error {
	run, err := a.start(ctx, "Nexus")
	if err != nil {
		return err
	}
	if _, err := a.start(ctx, "NexusPending"); err != nil {
		return err
	}
	return errors.Join(
		ended[*temporal.NexusOperationError](a, run, "nexus-handler-failure"),
		eventually(ctx, "the Nexus operation has failed and is tried again", func() (bool, error) {
			d, err := describe(ctx, a.orders, "NexusPending", "")
			return err == nil && len(d.GetPendingNexusOperations()) == 1 && d.GetPendingNexusOperations()[0].GetLastAttemptFailure() != nil, err
		}),
	)
}

func (a *arm) driveStandaloneActivity(ctx context.Context) error {
	options := client.StartActivityOptions{
		ID: a.c("standalone-activity-id"), TaskQueue: a.c("task-queue"), StartToCloseTimeout: longBreak,
		Summary: a.c("standalone-activity-summary"), StaticDetails: a.c("standalone-activity-details"),
		TypedSearchAttributes: temporal.NewSearchAttributes(a.attribute(attributeCustomer, "search-attribute-activity")),
	}
	handle, err := a.orders.ExecuteActivity(a.with(ctx, "header-standalone-activity"), options, "Standalone", a.c("standalone-activity-input"))
	if err != nil {
		return err
	}
	var got string
	if err := handle.Get(ctx, &got); err != nil {
		return err
	}
	options.ID = "standalone-pending"
	pending, err := a.orders.ExecuteActivity(ctx, options, "Standalone", a.c("standalone-activity-input-failing"))
	if err != nil {
		return err
	}
	if err := eventually(ctx, "the activity has failed and is tried again", func() (bool, error) {
		d, err := pending.Describe(ctx, client.DescribeActivityOptions{IncludeHeartbeatDetails: true, IncludeLastFailure: true})
		return err == nil && d.HasLastFailure() && d.HasHeartbeatDetails(), err
	}); err != nil {
		return err
	}
	return a.is("standalone-activity-result", got)
}

func (a *arm) driveStandaloneNexus(ctx context.Context) error {
	c, err := a.orders.NewNexusClient(client.NexusClientOptions{Endpoint: a.c("nexus-endpoint"), Service: a.c("nexus-service")})
	if err != nil {
		return err
	}
	execute := func(id, kind string, result any) error {
		handle, err := c.ExecuteOperation(ctx, a.c("nexus-operation"), a.c(kind), client.StartNexusOperationOptions{ID: id, Summary: a.c("standalone-nexus-summary")})
		if err != nil {
			return err
		}
		return handle.Get(ctx, result)
	}
	var got string
	if err := execute(a.c("standalone-nexus-id"), "standalone-nexus-input", &got); err != nil {
		return err
	}
	failed := execute("standalone-nexus-failing", "standalone-nexus-input-failing", nil)
	return errors.Join(a.is("standalone-nexus-result", got), a.failed(failed, "standalone-nexus-failure", ""))
}

// driveDeployment puts metadata on a worker deployment version.
func (a *arm) driveDeployment(ctx context.Context) error {
	version := worker.WorkerDeploymentVersion{DeploymentName: a.c("deployment-name"), BuildID: a.c("build-id")}
	w := worker.New(a.orders, "deployment", worker.Options{DeploymentOptions: worker.DeploymentOptions{
		UseVersioning: true, Version: version, DefaultVersioningBehavior: workflow.VersioningBehaviorPinned,
	}})
	w.RegisterWorkflowWithOptions(a.child, workflow.RegisterOptions{Name: "Child"})
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	return eventually(ctx, "the deployment version has metadata", func() (bool, error) {
		_, err := a.orders.WorkerDeploymentClient().GetHandle(version.DeploymentName).UpdateVersionMetadata(ctx, client.WorkerDeploymentUpdateVersionMetadataOptions{
			Version:        version,
			MetadataUpdate: client.WorkerDeploymentMetadataUpdate{UpsertEntries: map[string]any{a.c("deployment-metadata-key"): a.c("deployment-metadata")}},
		})
		return err == nil, err
	})
}
