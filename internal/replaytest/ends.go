package replaytest

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// fails fails with an error of its own, caused by that of an activity.
func fails(ctx workflow.Context, in string) error {
	err := workflow.ExecuteActivity(once(ctx), "FailsWithDetails").Get(ctx, nil)
	if wrong := failed(err, activityFailure, activityFailureDetails); wrong != nil {
		return wrong
	}
	return temporal.NewApplicationErrorWithOptions("message of a workflow's failure", "Refused", temporal.ApplicationErrorOptions{Cause: err, Details: []any{in}})
}

const activityPanic = "message of an activity's panic"

func panicsInActivity(context.Context) error { panic(activityPanic) } //nolint:forbidigo // what it is for

// panics ends with the panic of its activity, stack trace and all.
func panics(ctx workflow.Context, _ string) error {
	err := workflow.ExecuteActivity(once(ctx), "PanicsInActivity").Get(ctx, nil)
	var p *temporal.PanicError
	if !errors.As(err, &p) || p.Error() != activityPanic || !strings.Contains(p.StackTrace(), "panicsInActivity") {
		return errors.New("the activity does not panic")
	}
	return err
}

// stumbles fails its first workflow task where it is recorded.
func (s *Script) stumbles(_ workflow.Context, in string) (string, error) {
	if s.Stumble != nil {
		s.Stumble()
	}
	return in, nil
}

// timesOut loses an activity that reported how far it came.
func timesOut(ctx workflow.Context, in string) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Second, DisableEagerExecution: true, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	err := workflow.ExecuteActivity(ctx, "Hangs", in).Get(ctx, nil)
	var timeout *temporal.TimeoutError
	if !errors.As(err, &timeout) {
		return errors.New("the activity does not time out")
	}
	var got string
	if err := timeout.LastHeartbeatDetails(&got); err != nil {
		return err
	}
	if wrong := is("heartbeat", got, in); wrong != nil {
		return wrong
	}
	return err
}

func (s *Script) hangs(ctx context.Context, in string) error {
	activity.RecordHeartbeat(ctx, in)
	<-s.Release
	return nil
}

const activityCanceled = "details of an activity's cancellation"

// canceled ends as canceled, with details, after its activity did.
func canceled(ctx workflow.Context, in string) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: 30 * time.Second, WaitForCancellation: true, DisableEagerExecution: true,
	})
	err := workflow.ExecuteActivity(ctx, "WaitsToBeCanceled", in).Get(ctx, nil)
	if wrong := wasCanceled(err, activityCanceled); wrong != nil {
		return wrong
	}
	return temporal.NewCanceledError(in)
}

func waitsToBeCanceled(ctx context.Context, in string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		activity.RecordHeartbeat(ctx, in)
		select {
		case <-ctx.Done():
			return temporal.NewCanceledError(activityCanceled)
		case <-tick.C:
		}
	}
}

const secondRun = "the second run"

// continuesAsNew carries its memo and headers into a second run.
func continuesAsNew(ctx workflow.Context, in string) (string, error) {
	if err := carries(ctx); err != nil || in == secondRun {
		return in, err
	}
	return "", workflow.NewContinueAsNewError(ctx, ContinuesAs, secondRun)
}

// counts adds one to the result of the run before it.
func counts(ctx workflow.Context, _ string) (int, error) {
	n := 0
	if workflow.HasLastCompletionResult(ctx) {
		if err := workflow.GetLastCompletionResult(ctx, &n); err != nil {
			return 0, err
		}
	}
	return n + 1, carries(ctx)
}

const firstRunFailure = "message of the first run's failure"

// retried fails at its first attempt, and finds that failure at its second.
func retried(ctx workflow.Context, in string) error {
	if workflow.GetInfo(ctx).Attempt == 1 {
		return temporal.NewApplicationError(firstRunFailure, "Refused", in)
	}
	return failed(workflow.GetLastError(ctx), firstRunFailure, in)
}

// What completes the activities of FromOutside.
const (
	OutsideFailure        = "message of a failure from outside"
	OutsideFailureDetails = "details of a failure from outside"
	OutsideFailing        = "fails"
)

// fromOutside waits for activities that its caller completes and fails.
func fromOutside(ctx workflow.Context, in string) (string, error) {
	wait := func(id string) (got string, err error) {
		options := workflow.GetActivityOptions(once(ctx))
		options.ActivityID = id
		err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), "Outside").Get(ctx, &got)
		return got, err
	}
	got, err := wait("succeeds")
	_, refused := wait(OutsideFailing)
	return got, errors.Join(err, is("result", got, in), failed(refused, OutsideFailure, OutsideFailureDetails))
}

func (s *Script) outside(ctx context.Context) (string, error) {
	s.Tokens <- activity.GetInfo(ctx).TaskToken
	return "", activity.ErrResultPending
}

// migrated does the same before and after the signal "go", between which its
// worker gets the plugin, and once more as a new run.
func migrated(ctx workflow.Context, in string) (string, error) {
	if err := migratedPart(ctx, in); err != nil || in == secondRun {
		return in, err
	}
	var got string
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, &got)
	if err := errors.Join(is("signal", got, in), migratedPart(ctx, in)); err != nil {
		return "", err
	}
	return "", workflow.NewContinueAsNewError(ctx, Migrated, secondRun)
}

func migratedPart(ctx workflow.Context, in string) error {
	if err := carries(ctx); err != nil {
		return err
	}
	var far, near, side string
	err := workflow.ExecuteActivity(once(ctx), "Echo", in).Get(ctx, &far)
	refused := workflow.ExecuteActivity(once(ctx), "FailsWithDetails").Get(ctx, nil)
	err2 := workflow.ExecuteLocalActivity(local(ctx), "Echo", in).Get(ctx, &near)
	err3 := workflow.SideEffect(ctx, func(workflow.Context) any { return in }).Get(&side)
	return errors.Join(err, err2, err3, is("activity", far, in), is("local activity", near, in), is("side effect", side, in),
		failed(refused, activityFailure, activityFailureDetails))
}
