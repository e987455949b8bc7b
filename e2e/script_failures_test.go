package e2e

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func (s *script) registerActivities(w worker.Worker) {
	for name, f := range map[string]any{
		s.c("activity-type"): s.activity, s.c("local-activity-type"): s.localActivity, "LocalThatFails": s.localThatFails,
		"Fails": s.activityThatFails, "Panics": s.activityThatPanics, "FailsOverAndOver": s.activityThatFailsOverAndOver, "FailsAtLength": s.activityThatFailsAtLength,
		"Hangs": s.activityThatHangs, "WaitsToBeCanceled": s.activityThatWaitsToBeCanceled, "CompletedFromOutside": s.activityCompletedFromOutside,
		"Slow": s.slowLocalActivity, "Standalone": s.standaloneActivity,
	} {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
}

func once(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
}

// fails fails with an error of its own, caused by that of an activity.
func (s *script) fails(ctx workflow.Context) error {
	err := workflow.ExecuteActivity(once(ctx), "Fails").Get(ctx, nil)
	if wrong := s.failed(err, "activity-failure", "activity-failure-details"); wrong != nil {
		return wrong
	}
	return temporal.NewApplicationErrorWithOptions(s.c("workflow-failure"), s.c("error-type"), temporal.ApplicationErrorOptions{
		Cause: err, Details: []any{s.c("workflow-failure-details")},
	})
}

func (s *script) activityThatFails(context.Context) error {
	return temporal.NewApplicationErrorWithOptions(s.c("activity-failure"), s.c("error-type"), temporal.ApplicationErrorOptions{
		Cause: errors.New(s.c("activity-failure-cause")), Details: []any{s.c("activity-failure-details")},
	})
}

// stackFrame is the name of a function that stack traces must not show.
const stackFrame = "panicsInAFunctionThatStackTracesName"

//go:noinline
func panicsInAFunctionThatStackTracesName(message string) { panic(message) }

func (s *script) panics(ctx workflow.Context) error {
	return workflow.ExecuteActivity(once(ctx), "Panics").Get(ctx, nil)
}

func (s *script) activityThatPanics(context.Context) error {
	panicsInAFunctionThatStackTracesName(s.c("activity-panic"))
	return nil
}

// panicsOnce fails its first workflow task.
func (s *script) panicsOnce(workflow.Context) error {
	if s.stumble.CompareAndSwap(false, true) {
		panicsInAFunctionThatStackTracesName(s.c("workflow-panic"))
	}
	return nil
}

// timesOut loses an activity that has reported its progress.
func (s *script) timesOut(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Second, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	err := workflow.ExecuteActivity(ctx, "Hangs").Get(ctx, nil)
	var timeout *temporal.TimeoutError
	if !errors.As(err, &timeout) {
		return errors.New("heartbeat-of-timeout: no timeout")
	}
	var got string
	if err := timeout.LastHeartbeatDetails(&got); err != nil {
		return err
	}
	if wrong := s.is("heartbeat-of-timeout", got); wrong != nil {
		return wrong
	}
	return err
}

func (s *script) activityThatHangs(ctx context.Context) error {
	activity.RecordHeartbeat(ctx, s.c("heartbeat-of-timeout"))
	<-s.release
	return nil
}

// pending keeps activities that fail and are to be tried again much later.
func (s *script) pending(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Millisecond, BackoffCoefficient: 1},
	})
	a, b := workflow.ExecuteActivity(ctx, "FailsOverAndOver"), workflow.ExecuteActivity(ctx, "FailsAtLength")
	return errors.Join(a.Get(ctx, nil), b.Get(ctx, nil))
}

// longBreak is how long an activity waits that shall stay pending.
const longBreak = time.Hour

func (s *script) activityThatFailsOverAndOver(ctx context.Context) error {
	if activity.GetInfo(ctx).Attempt == 1 {
		activity.RecordHeartbeat(ctx, s.c("heartbeat"))
		return errors.New(s.c("activity-failure-first"))
	}
	var got string
	if err := activity.GetHeartbeatDetails(ctx, &got); err != nil {
		return err
	}
	return temporal.NewApplicationErrorWithOptions(s.c("activity-failure-pending"), "Pending", temporal.ApplicationErrorOptions{
		Cause: s.is("heartbeat", got), NextRetryDelay: longBreak, Details: []any{s.c("activity-failure-pending-details")},
	})
}

// activityThatFailsAtLength fails with more than the server keeps of a pending
// activity's failure.
func (s *script) activityThatFailsAtLength(context.Context) error {
	return temporal.NewApplicationErrorWithOptions(s.c("activity-failure-long")+strings.Repeat(" and so on", 1000), "Long", temporal.ApplicationErrorOptions{
		NextRetryDelay: longBreak, Details: []any{s.c("activity-failure-long-details")},
	})
}

// canceled ends as canceled, with details, after its activity did.
func (s *script) canceled(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, HeartbeatTimeout: 30 * time.Second, WaitForCancellation: true})
	err := workflow.ExecuteActivity(ctx, "WaitsToBeCanceled").Get(ctx, nil)
	if wrong := s.wasCanceled(err, "activity-canceled-details"); wrong != nil {
		return wrong
	}
	return temporal.NewCanceledError(s.c("workflow-canceled-details"))
}

func (s *script) activityThatWaitsToBeCanceled(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		activity.RecordHeartbeat(ctx, s.c("heartbeat-of-canceled"))
		select {
		case <-ctx.Done():
			return temporal.NewCanceledError(s.c("activity-canceled-details"))
		case <-s.release:
			return nil
		case <-tick.C:
		}
	}
}

func (s *script) continuesAsNew(ctx workflow.Context, in string) (string, error) {
	if in == s.c("workflow-input") {
		return "", workflow.NewContinueAsNewError(s.within(ctx, "header-continue-as-new"), "ContinuesAsNew", s.c("continue-as-new-input"))
	}
	return in, errors.Join(s.is("continue-as-new-input", in), s.is("header-continue-as-new", header(ctx)))
}

// retried fails at its first attempt, and finds that failure at its second.
func (s *script) retried(ctx workflow.Context) error {
	if workflow.GetInfo(ctx).Attempt == 1 {
		return temporal.NewApplicationError(s.c("workflow-failure-continued"), "Continued", s.c("workflow-failure-continued-details"))
	}
	return s.failed(workflow.GetLastError(ctx), "workflow-failure-continued", "workflow-failure-continued-details")
}

// scheduled finds the result of the run before it, if there was one.
func (s *script) scheduled(ctx workflow.Context, in string) (string, error) {
	var last string
	if workflow.HasLastCompletionResult(ctx) {
		if err := workflow.GetLastCompletionResult(ctx, &last); err != nil {
			return "", err
		}
		if err := errors.Join(s.is("schedule-result", last), s.is("schedule-input-updated", in)); err != nil {
			return "", err
		}
	} else if err := s.is("schedule-input", in); err != nil {
		return "", err
	}
	return s.c("schedule-result"), s.is("header-schedule", header(ctx))
}

// completedFromOutside waits for activities that others complete, fail and
// cancel, one after the other.
func (s *script) completedFromOutside(ctx workflow.Context) error {
	ctx, cancel := workflow.WithCancel(once(ctx))
	wait := func(id string) (result string, err error) {
		options := workflow.GetActivityOptions(ctx)
		options.ActivityID, options.WaitForCancellation = id, true
		err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), "CompletedFromOutside").Get(ctx, &result)
		return result, err
	}
	byToken, err := wait("by-token")
	if err != nil {
		return err
	}
	byID, err := wait("by-id")
	if err != nil {
		return err
	}
	_, failed := wait("failed-by-id")
	workflow.Go(ctx, func(ctx workflow.Context) {
		workflow.GetSignalChannel(ctx, "cancel").Receive(ctx, nil)
		cancel()
	})
	_, canceled := wait("canceled-by-id")
	return errors.Join(s.is("async-activity-result", byToken), s.is("async-activity-result-by-id", byID),
		s.failed(failed, "async-activity-failure", "async-activity-failure-details"), s.wasCanceled(canceled, "async-activity-canceled-details"))
}

func (s *script) activityCompletedFromOutside(ctx context.Context) (string, error) {
	select {
	case s.tokens <- activity.GetInfo(ctx).TaskToken:
	case <-s.release:
	}
	return "", activity.ErrResultPending
}

// slowWorkflow sits in a local activity, so that queries wait for its workflow
// task and are answered together with it.
func (s *script) slowWorkflow(ctx workflow.Context) error {
	if err := s.handlers(ctx); err != nil {
		return err
	}
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute})
	for {
		var again bool
		workflow.GetSignalChannel(ctx, "again").Receive(ctx, &again)
		if !again {
			return nil
		}
		if err := workflow.ExecuteLocalActivity(ctx, "Slow").Get(ctx, nil); err != nil {
			return err
		}
	}
}

func (s *script) slowLocalActivity(context.Context) error {
	select {
	case <-s.slow:
	case <-s.release:
	}
	return nil
}

// standaloneActivity runs without a workflow.
func (s *script) standaloneActivity(ctx context.Context, in string) (string, error) {
	if in == s.c("standalone-activity-input-failing") {
		activity.RecordHeartbeat(ctx, s.c("standalone-activity-heartbeat"))
		return "", temporal.NewApplicationErrorWithOptions(s.c("standalone-activity-failure"), "Standalone", temporal.ApplicationErrorOptions{
			NextRetryDelay: longBreak, Details: []any{s.c("standalone-activity-failure-details")},
		})
	}
	return s.c("standalone-activity-result"), errors.Join(s.is("standalone-activity-input", in), s.is("header-standalone-activity", header(ctx)))
}
