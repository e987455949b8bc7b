package replays

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/waxseal/waxseal/internal/replaytest"
)

// input is what most workflows take; in Shared it is worth compressing.
func input(namespace string) string {
	if namespace == replaytest.Shared {
		return strings.Repeat("a line of an order ", 20)
	}
	return "the secret order"
}

// drive runs every workflow to its end.
func (r *recorder) drive(t *testing.T) {
	t.Helper()
	parts := []func(context.Context) error{
		func(ctx context.Context) error {
			return r.receives(ctx, replaytest.Abroad, replaytest.Orders, replaytest.Billing)
		},
		func(ctx context.Context) error { return r.migrated(ctx, t) },
		r.endsBadly, r.startsWithMessages, r.nexus,
	}
	for _, namespace := range []string{replaytest.Orders, replaytest.Claiming, replaytest.Shared} {
		parts = append(parts, func(ctx context.Context) error { return r.messages(ctx, namespace) },
			func(ctx context.Context) error { return r.succeeds(ctx, namespace, replaytest.Activities) },
			func(ctx context.Context) error { return r.succeeds(ctx, namespace, replaytest.Markers) },
		)
	}
	for _, namespace := range []string{replaytest.Orders, replaytest.Claiming} {
		parts = append(parts, func(ctx context.Context) error { return r.receives(ctx, replaytest.Children, namespace, namespace) },
			func(ctx context.Context) error { return r.succeeds(ctx, namespace, replaytest.ContinuesAs) })
		for _, part := range []func(context.Context, string) error{r.canceled, r.cron, r.retried, r.scheduled, r.fromOutside, r.reset} {
			parts = append(parts, func(ctx context.Context) error { return part(ctx, namespace) })
		}
	}
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 3) // a busy server loses an activity that it handed out, and histories are to have none of that
	for _, part := range parts {
		wg.Go(func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			if err := part(replaytest.WithHeader(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// start starts a workflow with what a start can carry.
func (r *recorder) start(ctx context.Context, c client.Client, in, workflow string, o client.StartWorkflowOptions) (client.WorkflowRun, error) {
	o.TaskQueue, o.Memo = taskQueue, map[string]any{"start": "a memo of the start"}
	o.StaticSummary, o.StaticDetails = "summary of a workflow", "details of a workflow"
	o.TypedSearchAttributes = temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword(replaytest.AttributeCustomer).ValueSet("acme"))
	return c.ExecuteWorkflow(ctx, o, workflow, in)
}

// run runs a workflow that succeeds.
func (r *recorder) run(ctx context.Context, namespace, workflow string, o client.StartWorkflowOptions) error {
	run, err := r.start(ctx, r.sealed[namespace], input(namespace), workflow, o)
	if err != nil {
		return err
	}
	return named(namespace+" "+workflow, run.Get(ctx, nil))
}

// succeeds runs a workflow under its type as ID.
func (r *recorder) succeeds(ctx context.Context, namespace, workflow string) error {
	return r.run(ctx, namespace, workflow, client.StartWorkflowOptions{ID: strings.ToLower(workflow)})
}

func named(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// receives runs a workflow that signals the receiver of a namespace.
func (r *recorder) receives(ctx context.Context, workflow, from, to string) error {
	receiver, err := r.start(ctx, r.sealed[to], input(from), replaytest.Receiver, client.StartWorkflowOptions{ID: replaytest.ReceiverID})
	if err != nil {
		return err
	}
	return errors.Join(r.succeeds(ctx, from, workflow), named("receiver", receiver.Get(ctx, nil)))
}

func (r *recorder) messages(ctx context.Context, namespace string) error {
	const id = "messages"
	c, in := r.sealed[namespace], input(namespace)
	run, err := r.start(ctx, c, in, replaytest.Messages, client.StartWorkflowOptions{ID: id})
	if err != nil {
		return err
	}
	if _, err := c.QueryWorkflow(ctx, id, "", "state"); err != nil {
		return err
	}
	update := func(arg string) error {
		handle, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{WorkflowID: id, UpdateName: "set", Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted})
		if err != nil {
			return err
		}
		return handle.Get(ctx, nil)
	}
	if err := update(in); err != nil {
		return err
	}
	if update(replaytest.UpdateFails) == nil || update(replaytest.UpdateIsRejected) == nil {
		return errors.New("an update succeeds that must not")
	}
	return errors.Join(c.SignalWorkflow(ctx, id, "", "mail", in), c.SignalWorkflow(ctx, id, "", "end", nil), run.Get(ctx, nil))
}

func (r *recorder) startsWithMessages(ctx context.Context) error {
	c, in := r.sealed[replaytest.Orders], input(replaytest.Orders)
	options := client.StartWorkflowOptions{ID: "signal-with-start", TaskQueue: taskQueue, Memo: map[string]any{"start": "a memo of the start"}}
	run, err := c.SignalWithStartWorkflow(ctx, options.ID, "mail", in, options, replaytest.Messages, in)
	if err != nil {
		return err
	}
	options.ID, options.WorkflowIDConflictPolicy = "update-with-start", enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	handle, err := c.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: c.NewWithStartWorkflowOperation(options, replaytest.Messages, in),
		UpdateOptions:          client.UpdateWorkflowOptions{UpdateName: "set", Args: []any{in}, WaitForStage: client.WorkflowUpdateStageCompleted},
	})
	if err != nil {
		return err
	}
	return errors.Join(handle.Get(ctx, nil),
		c.SignalWorkflow(ctx, run.GetID(), "", "end", nil), run.Get(ctx, nil),
		c.SignalWorkflow(ctx, options.ID, "", "mail", in), c.SignalWorkflow(ctx, options.ID, "", "end", nil),
		c.GetWorkflow(ctx, options.ID, "").Get(ctx, nil))
}

func (r *recorder) endsBadly(ctx context.Context) error {
	for _, workflow := range []string{replaytest.Fails, replaytest.Panics, replaytest.TimesOut} {
		var failed *temporal.WorkflowExecutionError
		if err := r.succeeds(ctx, replaytest.Orders, workflow); !errors.As(err, &failed) {
			return fmt.Errorf("%s: %w", workflow, err)
		}
	}
	return r.succeeds(ctx, replaytest.Orders, replaytest.Stumbles)
}

func (r *recorder) nexus(ctx context.Context) error {
	return r.succeeds(ctx, replaytest.Orders, replaytest.Nexus)
}

func (r *recorder) canceled(ctx context.Context, namespace string) error {
	c := r.sealed[namespace]
	run, err := r.start(ctx, c, input(namespace), replaytest.Canceled, client.StartWorkflowOptions{ID: "canceled"})
	if err != nil {
		return err
	}
	if err := eventually(ctx, "the activity beats", func() (bool, error) {
		d, err := describe(ctx, c, "canceled", "")
		return err == nil && len(d.GetPendingActivities()) == 1 && d.GetPendingActivities()[0].GetHeartbeatDetails() != nil, err
	}); err != nil {
		return err
	}
	if err := c.CancelWorkflow(ctx, "canceled", ""); err != nil {
		return err
	}
	var canceled *temporal.CanceledError
	if err := run.Get(ctx, nil); !errors.As(err, &canceled) {
		return fmt.Errorf("canceled: %w", err)
	}
	return nil
}

// cron lets two runs end, each with the result of the one before it.
func (r *recorder) cron(ctx context.Context, namespace string) error {
	c := r.sealed[namespace]
	run, err := r.start(ctx, c, input(namespace), replaytest.Counts, client.StartWorkflowOptions{ID: "cron", CronSchedule: "@every 1s"})
	if err != nil {
		return err
	}
	if err := eventually(ctx, "two cron runs ended", func() (bool, error) {
		l, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowId = 'cron' AND ExecutionStatus != 'Running'"})
		return err == nil && len(l.GetExecutions()) >= 2, err
	}); err != nil {
		return err
	}
	return c.TerminateWorkflow(ctx, run.GetID(), "", "two are enough")
}

func (r *recorder) retried(ctx context.Context, namespace string) error {
	return r.run(ctx, namespace, replaytest.Retried, client.StartWorkflowOptions{
		ID: "retried", RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2, InitialInterval: time.Millisecond},
	})
}

// scheduled triggers a schedule twice.
func (r *recorder) scheduled(ctx context.Context, namespace string) error {
	handle, err := r.sealed[namespace].ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: "schedule", Memo: map[string]any{"schedule": "a memo of the schedule"},
		Spec: client.ScheduleSpec{Calendars: []client.ScheduleCalendarSpec{{Year: []client.ScheduleRange{{Start: 2099}}}}},
		Action: &client.ScheduleWorkflowAction{
			ID: "scheduled", Workflow: replaytest.Counts, TaskQueue: taskQueue, Args: []any{input(namespace)},
			Memo: map[string]any{"action": "a memo of the action"}, StaticSummary: "summary of a scheduled workflow",
		},
	})
	if err != nil {
		return err
	}
	for times := 1; times <= 2; times++ {
		if err := handle.Trigger(ctx, client.ScheduleTriggerOptions{}); err != nil {
			return err
		}
		if err := eventually(ctx, "the schedule's workflow ended", func() (bool, error) {
			d, err := handle.Describe(ctx)
			return err == nil && len(d.Info.RecentActions) == times && len(d.Info.RunningWorkflows) == 0, err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) fromOutside(ctx context.Context, namespace string) error {
	c := r.sealed[namespace]
	run, err := r.start(ctx, c, input(namespace), replaytest.FromOutside, client.StartWorkflowOptions{ID: "from-outside"})
	if err != nil {
		return err
	}
	tokens := r.scripts[namespace].Tokens
	if err := c.CompleteActivity(ctx, <-tokens, input(namespace), nil); err != nil {
		return err
	}
	<-tokens
	return errors.Join(
		c.CompleteActivityByID(ctx, namespace, run.GetID(), "", replaytest.OutsideFailing, nil,
			temporal.NewApplicationError(replaytest.OutsideFailure, "Refused", replaytest.OutsideFailureDetails)),
		run.Get(ctx, nil))
}

// reset ends with a run that the server made of the first one's beginning.
func (r *recorder) reset(ctx context.Context, namespace string) error {
	c, in := r.sealed[namespace], input(namespace)
	run, err := r.start(ctx, c, in, replaytest.Messages, client.StartWorkflowOptions{ID: "reset"})
	if err != nil {
		return err
	}
	if _, err := c.QueryWorkflow(ctx, "reset", "", "state"); err != nil { // after the first workflow task
		return err
	}
	if err := errors.Join(c.SignalWorkflow(ctx, "reset", "", "mail", in), c.TerminateWorkflow(ctx, "reset", "", "to be reset", "details of a termination")); err != nil {
		return err
	}
	const firstTaskCompleted = 4
	if _, err := c.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "reset", RunId: run.GetRunID()},
		Reason: "a bug is mended", WorkflowTaskFinishEventId: firstTaskCompleted, RequestId: uuid.NewString(),
	}); err != nil {
		return err
	}
	return errors.Join(c.SignalWorkflow(ctx, "reset", "", "end", nil), c.GetWorkflow(ctx, "reset", "").Get(ctx, nil))
}

// migrated starts a workflow without the plugin, and has it go on with it.
func (r *recorder) migrated(ctx context.Context, t *testing.T) error {
	in := input(replaytest.Migrating)
	stop := r.work(t, r.plain, replaytest.Migrating)
	defer stop()
	run, err := r.start(ctx, r.plain, in, replaytest.Migrated, client.StartWorkflowOptions{ID: "migrated"})
	if err != nil {
		return err
	}
	untouched, err := r.start(ctx, r.plain, in, replaytest.Activities, client.StartWorkflowOptions{ID: "from-before"})
	if err != nil {
		return err
	}
	if err := errors.Join(untouched.Get(ctx, nil), eventually(ctx, "the workflow waits for its signal", func() (bool, error) {
		h, err := describe(ctx, r.plain, run.GetID(), "")
		return err == nil && len(h.GetPendingActivities()) == 0 && h.GetPendingWorkflowTask() == nil && h.GetWorkflowExecutionInfo().GetHistoryLength() >= beforeGo, err
	})); err != nil {
		return err
	}
	stop()
	c := r.sealed[replaytest.Migrating]
	t.Cleanup(r.work(t, c, replaytest.Migrating))
	return errors.Join(c.SignalWorkflow(ctx, run.GetID(), "", "go", in), run.Get(ctx, nil))
}

// beforeGo is the number of events in the history of the workflow Migrated when
// it waits for its signal.
const beforeGo = 18

// eventually waits for a condition; what it waits for is for the error.
func eventually(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited in vain until %s", what), err)
		case <-tick.C:
		}
	}
}

// describe returns what the server says of a workflow.
func describe(ctx context.Context, c client.Client, id, run string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	d, err := c.DescribeWorkflow(ctx, id, run)
	if err != nil {
		return nil, err
	}
	return d.RawResponse, nil
}
