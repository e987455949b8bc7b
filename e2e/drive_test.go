package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/waxseal/waxseal/e2e/internal/wiretap"
)

// drive plays the whole script from the clients' side, and fails the test unless each
// reader got what was written. When it returns, what stays pending is pending.
func (a *arm) drive(t *testing.T) {
	t.Helper()
	parts := map[string]func(context.Context) error{
		"everything": a.driveEverything, "queries that fail": a.driveSlow, "signal with start": a.driveSignalWithStart,
		"update with start": a.driveUpdateWithStart, "failures": a.driveFailures, "pending": a.drivePending,
		"cancellation": a.driveCancellation, "termination": a.driveTermination, "continue as new": a.driveContinueAsNew, "from outside": a.driveFromOutside,
		"schedule": a.driveSchedule, "nexus": a.driveNexus, "standalone activity": a.driveStandaloneActivity,
		"standalone nexus": a.driveStandaloneNexus, "deployment": a.driveDeployment, "batch": a.driveBatch,
	}
	var wg sync.WaitGroup
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		wg.Go(func() {
			if err := parts[name](t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func (a *arm) driveEverything(ctx context.Context) error {
	id := a.c("workflow-id")
	for _, c := range []client.Client{a.orders, a.billing} {
		if _, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "receiver", TaskQueue: a.c("task-queue")}, "Receiver"); err != nil {
			return err
		}
	}
	run, err := a.orders.ExecuteWorkflow(a.with(ctx, "header-start"), client.StartWorkflowOptions{
		ID: id, TaskQueue: a.c("task-queue"), Memo: map[string]any{"start": a.c("memo")},
		TypedSearchAttributes: temporal.NewSearchAttributes(a.attribute(attributeCustomer, "search-attribute-start")),
		StaticSummary:         a.c("workflow-summary"), StaticDetails: a.c("workflow-details"),
	}, a.c("workflow-type"), a.c("workflow-input"))
	if err != nil {
		return err
	}
	if err := errors.Join(a.queries(ctx, id), a.updates(ctx, id)); err != nil {
		return err
	}
	if err := a.orders.SignalWorkflow(a.with(ctx, "header-signal"), id, "", a.c("signal-name"), a.c("signal")); err != nil {
		return err
	}
	var result string
	if err := run.Get(ctx, &result); err != nil {
		return err
	}
	return errors.Join(a.is("workflow-result", result), a.described(ctx, id))
}

// described reads memo and metadata as a client does.
func (a *arm) described(ctx context.Context, id string) error {
	d, err := a.orders.DescribeWorkflow(ctx, id, "")
	if err != nil {
		return err
	}
	var memo string
	if err := a.dataConverter().FromPayload(d.Memo.GetFields()["start"], &memo); err != nil {
		return err
	}
	summary, err := d.GetStaticSummary()
	if err != nil {
		return err
	}
	details, err := d.GetStaticDetails()
	return errors.Join(err, a.is("memo", memo), a.is("workflow-summary", summary), a.is("workflow-details", details))
}

// dataConverter is for what the SDK hands over as it came.
func (a *arm) dataConverter() converter.DataConverter {
	if a.codec == nil {
		return converter.GetDefaultDataConverter()
	}
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), a.codec.PayloadCodec(orders))
}

// queryMetadata is the query with which the Web UI gets current details and descriptions.
const queryMetadata = "__temporal_workflow_metadata"

func (a *arm) queries(ctx context.Context, id string) error {
	answer, err := a.orders.QueryWorkflow(a.with(ctx, "header-query"), id, "", a.c("query-name"), a.c("query-input"))
	if err != nil {
		return err
	}
	var result, stack string
	if err := answer.Get(&result); err != nil {
		return err
	}
	trace, err := a.orders.QueryWorkflow(ctx, id, "", client.QueryTypeStackTrace)
	if err != nil {
		return err
	}
	if err := trace.Get(&stack); err != nil {
		return err
	}
	said, err := a.orders.QueryWorkflow(ctx, id, "", queryMetadata)
	if err != nil {
		return err
	}
	var metadata sdkpb.WorkflowMetadata
	if err := said.Get(&metadata); err != nil {
		return err
	}
	return errors.Join(a.is("query-result", result), a.is("current-details", metadata.GetCurrentDetails()))
}

// queryFails runs a query that fails and looks at how.
func (a *arm) queryFails(ctx context.Context, id string) error {
	_, err := a.orders.QueryWorkflow(ctx, id, "", a.c("query-name"), a.c("query-input-failing"))
	var failed *serviceerror.QueryFailed
	if !errors.As(err, &failed) {
		return fmt.Errorf("query: %w", err)
	}
	return a.is("query-failure", failed.Message)
}

func (a *arm) updates(ctx context.Context, id string) error {
	update := func(kind, updateID string) (string, error) {
		handle, err := a.orders.UpdateWorkflow(a.with(ctx, "header-update"), client.UpdateWorkflowOptions{
			UpdateID: updateID, WorkflowID: id, UpdateName: a.c("update-name"), Args: []any{a.c(kind)}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err != nil {
			return "", err
		}
		var result string
		err = handle.Get(ctx, &result)
		return result, err
	}
	result, err := update("update-input", a.c("update-id"))
	_, failed := update("update-input-failing", "")
	_, rejected := update("update-input-rejected", "")
	_, canceled := update("update-input-canceled", "")
	return errors.Join(err, a.is("update-result", result),
		a.failed(failed, "update-failure", "update-failure-details"), a.failed(rejected, "update-rejection", "update-rejection-details"),
		a.wasCanceled(canceled, "update-canceled-details"))
}

// driveSlow has one query fail in each of the two ways in which a worker can
// answer: by itself, and together with a workflow task.
func (a *arm) driveSlow(ctx context.Context) error {
	run, err := a.start(ctx, "Slow")
	if err != nil {
		return err
	}
	if err := a.queryFails(ctx, "Slow"); err != nil {
		return err
	}
	const completed = "/temporal.api.workflowservice.v1.WorkflowService/RespondWorkflowTaskCompleted"
	err = eventually(ctx, "a query was answered together with a workflow task", func() (bool, error) {
		if err := a.orders.SignalWorkflow(ctx, "Slow", "", "again", true); err != nil {
			return false, err
		}
		answered := make(chan error, 1)
		go func() { answered <- a.queryFails(ctx, "Slow") }()
		select {
		case a.slow <- struct{}{}: // the local activity is under way, and may end now
			if err := <-answered; err != nil {
				return false, err
			}
		case err := <-answered: // the query was answered first, by itself
			a.slow <- struct{}{}
			if err != nil {
				return false, err
			}
		}
		return a.tap.Any(func(c wiretap.Call) bool { return c.Method == completed && hasFailedQuery(c.Request) }), nil
	})
	if err != nil {
		return err
	}
	return errors.Join(a.orders.SignalWorkflow(ctx, "Slow", "", "again", false), run.Get(ctx, nil))
}

func (a *arm) driveSignalWithStart(ctx context.Context) error {
	run, err := a.orders.SignalWithStartWorkflow(a.with(ctx, "header-signal-with-start"), "signal-with-start", "mail", a.c("signal-with-start-signal"),
		client.StartWorkflowOptions{
			TaskQueue: a.c("task-queue"), Memo: map[string]any{"mail": a.c("signal-with-start-memo")},
			StaticSummary: a.c("signal-with-start-summary"), StaticDetails: a.c("signal-with-start-details"),
		}, "Mailbox", a.c("signal-with-start-input"))
	if err != nil {
		return err
	}
	var got string
	if err := run.Get(ctx, &got); err != nil {
		return err
	}
	if want := a.c("signal-with-start-input") + " and " + a.c("signal-with-start-signal"); got != want {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func (a *arm) driveUpdateWithStart(ctx context.Context) error {
	op := a.orders.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: "update-with-start", TaskQueue: a.c("task-queue"), WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		Memo: map[string]any{"mail": a.c("update-with-start-memo")},
	}, "Mailbox", a.c("update-with-start-workflow-input"))
	handle, err := a.orders.UpdateWithStartWorkflow(a.with(ctx, "header-update-with-start"), client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: op,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateName: a.c("update-name"), Args: []any{a.c("update-with-start-input")}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		return err
	}
	var result string
	if err := handle.Get(ctx, &result); err != nil {
		return err
	}
	return errors.Join(a.is("update-with-start-result", result), a.orders.SignalWorkflow(ctx, "update-with-start", "", "mail", "end"))
}

// ended is an error unless the error's chain has an error of type E, and the
// text the canaries of these kinds.
func ended[E error](a *arm, run client.WorkflowRun, kinds ...string) error {
	err := run.Get(context.Background(), nil)
	if _, ok := errors.AsType[E](err); !ok {
		return fmt.Errorf("%s ended with %w", run.GetID(), err)
	}
	for _, kind := range kinds {
		if !strings.Contains(err.Error(), a.c(kind)) {
			return fmt.Errorf("%s ended with %w, which lacks %s", run.GetID(), err, kind)
		}
	}
	return nil
}
