package replaytest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Script is the workflows and activities. Each compares what it reads with what was written and fails on a difference,
// so a history that ends well has proven that its worker read everything.
type Script struct {
	// Stumble runs at the start of the workflow "Stumbles". Nil does nothing; the
	// recorder's panics once, so that the history has a failed workflow task.
	Stumble func()
	// Tokens receives the task token of each activity "Outside", which is completed
	// by the receiver. Only the recorder runs that activity.
	Tokens chan []byte
	// Release ends the activity "Hangs" when it is closed.
	Release chan struct{}
}

// The types of the workflows that the recorder starts.
const (
	Activities  = "Activities"
	Markers     = "Markers"
	Messages    = "Messages"
	Children    = "Children"
	Abroad      = "Abroad"
	Child       = "Child"
	Receiver    = "Receiver"
	Fails       = "Fails"
	Panics      = "Panics"
	Stumbles    = "Stumbles"
	TimesOut    = "TimesOut"
	Canceled    = "Canceled"
	ContinuesAs = "ContinuesAsNew"
	Counts      = "Counts"
	Retried     = "Retried"
	FromOutside = "FromOutside"
	Nexus       = "Nexus"
	Migrated    = "Migrated"
)

// Workflows returns the workflows by type.
func (s *Script) Workflows() map[string]any {
	return map[string]any{
		Activities: activities, Markers: markers, Messages: messages, Children: children, Abroad: abroad, Child: child, Receiver: receiver,
		"ChildThatFails": childThatFails, "ChildThatIsCanceled": childThatIsCanceled,
		Fails: fails, Panics: panics, Stumbles: s.stumbles, TimesOut: timesOut, Canceled: canceled,
		ContinuesAs: continuesAsNew, Counts: counts, Retried: retried, FromOutside: fromOutside,
		Nexus: nexusOperations, NexusHandler: NexusWorkflow, Migrated: migrated,
	}
}

// Activities returns the activities by type.
func (s *Script) Activities() map[string]any {
	return map[string]any{
		"Echo": echo, "FailsWithDetails": failsWithDetails, "BeatsAndFails": beatsAndFails, "PanicsInActivity": panicsInActivity,
		"Hangs": s.hangs, "WaitsToBeCanceled": waitsToBeCanceled, "Outside": s.outside,
	}
}

// is is an error unless got is want.
func is(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s: got %q", what, got)
	}
	return nil
}

// carries is an error unless the caller's headers came.
func carries(ctx valuer) error { return is("header", header(ctx), Header) }

// failed is an error unless err is an application error with this message and detail.
func failed(err error, message, detail string) error {
	var application *temporal.ApplicationError
	if !errors.As(err, &application) {
		return errors.New(message + ": got another error")
	}
	var got string
	if err := application.Details(&got); err != nil {
		return err
	}
	return errors.Join(is("message", application.Message(), message), is("details", got, detail))
}

// wasCanceled is an error unless err is one of cancellation with this detail.
func wasCanceled(err error, detail string) error {
	var e *temporal.CanceledError
	if !errors.As(err, &e) {
		return errors.New(detail + ": not canceled")
	}
	var got string
	if err := e.Details(&got); err != nil {
		return err
	}
	return is("details", got, detail)
}

// Names of search attributes, which stay in plaintext.
const (
	AttributeCustomer = "Customer"
	AttributeTier     = "Tier"
)

func once(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, DisableEagerExecution: true, Summary: "summary of an activity",
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
}

func local(ctx workflow.Context) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: time.Minute, Summary: "summary of a local activity", RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
}

func echo(ctx context.Context, in string) (string, error) { return in, carries(ctx) }

const (
	activityFailure        = "message of an activity's failure"
	activityFailureDetails = "details of an activity's failure"
)

func failsWithDetails(context.Context) error {
	return temporal.NewApplicationErrorWithOptions(activityFailure, "Refused", temporal.ApplicationErrorOptions{
		Cause: errors.New("cause of an activity's failure"), Details: []any{activityFailureDetails},
	})
}

// beatsAndFails fails at its first attempt and finds its heartbeat at the second.
func beatsAndFails(ctx context.Context, in string) (got string, err error) {
	if activity.GetInfo(ctx).Attempt == 1 {
		activity.RecordHeartbeat(ctx, in)
		return "", errors.New("the first attempt fails")
	}
	err = activity.GetHeartbeatDetails(ctx, &got)
	return got, errors.Join(err, is("heartbeat", got, in))
}

func activities(ctx workflow.Context, in string) (string, error) {
	if err := carries(ctx); err != nil {
		return "", err
	}
	var polled, near, second string
	err := workflow.ExecuteActivity(once(ctx), "Echo", in).Get(ctx, &polled)
	refused := workflow.ExecuteActivity(once(ctx), "FailsWithDetails").Get(ctx, nil)
	err2 := workflow.ExecuteLocalActivity(local(ctx), "Echo", in).Get(ctx, &near)
	refusedNear := workflow.ExecuteLocalActivity(local(ctx), "FailsWithDetails").Get(ctx, nil)
	again := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, DisableEagerExecution: true,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Millisecond, MaximumAttempts: 2},
	})
	err3 := workflow.ExecuteActivity(again, "BeatsAndFails", in).Get(ctx, &second)
	return in, errors.Join(err, err2, err3, is("activity", polled, in), is("local activity", near, in), is("second attempt", second, in),
		failed(refused, activityFailure, activityFailureDetails), failed(refusedNear, activityFailure, activityFailureDetails))
}

func markers(ctx workflow.Context, in string) (string, error) {
	var side, mutable string
	if err := workflow.SideEffectWithOptions(ctx, workflow.SideEffectOptions{Summary: "summary of a side effect"}, func(workflow.Context) any { return in }).Get(&side); err != nil {
		return "", err
	}
	if err := is("side effect", side, in); err != nil {
		return "", err
	}
	equal := func(a, b any) bool { return a == b }
	for _, value := range []string{in + " 1", in + " 1", in + " 2"} { // the second adds no marker
		if err := workflow.MutableSideEffect(ctx, "mutable", func(workflow.Context) any { return value }, equal).Get(&mutable); err != nil {
			return "", err
		}
		if err := is("mutable side effect", mutable, value); err != nil {
			return "", err
		}
	}
	workflow.SetCurrentDetails(ctx, in)
	fees := workflow.GetVersion(ctx, "fees", workflow.DefaultVersion, 1)
	if err := workflow.NewTimerWithOptions(ctx, time.Millisecond, workflow.TimerOptions{Summary: "summary of a timer"}).Get(ctx, nil); err != nil {
		return "", err
	}
	limits, feesAgain := workflow.GetVersion(ctx, "limits", 1, 3), workflow.GetVersion(ctx, "fees", workflow.DefaultVersion, 1)
	if fees != 1 || feesAgain != 1 || limits != 3 {
		return "", fmt.Errorf("versions %d, %d and %d", fees, feesAgain, limits)
	}
	return in, errors.Join(
		workflow.UpsertMemo(ctx, map[string]any{"note": in, "start": nil}),
		workflow.UpsertTypedSearchAttributes(ctx, temporal.NewSearchAttributeKeyKeyword(AttributeTier).ValueSet("gold")),
	)
}

const (
	updateFailure        = "message of an update's failure"
	updateFailureDetails = "details of an update's failure"
)

// Arguments of the update "set".
const (
	UpdateFails      = "fail"
	UpdateIsRejected = "reject"
)

// messages ends with the signal "mail", which the signal "end" must follow.
func messages(ctx workflow.Context, in string) (string, error) {
	if err := workflow.SetQueryHandler(ctx, "state", func() (string, error) { return in, nil }); err != nil {
		return "", err
	}
	update := func(ctx workflow.Context, arg string) (string, error) {
		if arg == UpdateFails {
			return "", temporal.NewApplicationError(updateFailure, "Refused", updateFailureDetails)
		}
		var out string
		err := workflow.ExecuteActivity(once(ctx), "Echo", arg).Get(ctx, &out)
		return out, errors.Join(err, is("update", out, arg))
	}
	validate := func(_ workflow.Context, arg string) error {
		if arg == UpdateIsRejected {
			return errors.New("the update is rejected")
		}
		return nil
	}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, "set", update, workflow.UpdateHandlerOptions{Validator: validate, Description: "sets what there is"}); err != nil {
		return "", err
	}
	var side, mail string
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return in }).Get(&side); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "mail").Receive(ctx, &mail)
	if err := errors.Join(is("side effect", side, in), is("signal", mail, in)); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
	return mail, workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}
