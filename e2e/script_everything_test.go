package e2e

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// The search attributes that the servers of these tests know.
const (
	attributeCustomer = "Customer"
	attributeTier     = "Tier"
)

func (s *script) attribute(name, kind string) temporal.SearchAttributeUpdate {
	return temporal.NewSearchAttributeKeyKeyword(name).ValueSet(s.c(kind))
}

// everything is the workflow that says most of it.
func (s *script) everything(ctx workflow.Context, in string) (string, error) {
	if err := errors.Join(s.is("workflow-input", in), s.is("header-start", header(ctx))); err != nil {
		return "", err
	}
	if err := s.handlers(ctx); err != nil {
		return "", err
	}
	workflow.SetCurrentDetails(ctx, s.c("current-details"))
	if err := errors.Join(
		workflow.UpsertMemo(ctx, map[string]any{s.c("memo-key"): s.c("memo-upsert")}),
		workflow.UpsertTypedSearchAttributes(ctx, s.attribute(attributeTier, "search-attribute-upsert")),
	); err != nil {
		return "", err
	}
	for _, step := range []func(workflow.Context) error{s.activities, s.localActivities, s.markers, s.timers, s.children, s.signals} {
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	var signal string
	workflow.GetSignalChannelWithOptions(ctx, s.c("signal-name"), workflow.SignalChannelOptions{Description: s.c("signal-description")}).Receive(ctx, &signal)
	return s.c("workflow-result"), s.is("signal", signal)
}

// handlers answers queries and updates.
func (s *script) handlers(ctx workflow.Context) error {
	query := func(arg string) (string, error) {
		if arg == s.c("query-input-failing") {
			return "", errors.New(s.c("query-failure"))
		}
		return s.c("query-result"), s.is("query-input", arg)
	}
	update := func(ctx workflow.Context, arg string) (string, error) {
		switch arg {
		case s.c("update-input-failing"):
			return "", temporal.NewApplicationError(s.c("update-failure"), "Refused", s.c("update-failure-details"))
		case s.c("update-input-canceled"):
			return "", temporal.NewCanceledError(s.c("update-canceled-details"))
		case s.c("update-with-start-input"):
			return s.c("update-with-start-result"), s.is("header-update-with-start", header(ctx))
		}
		return s.c("update-result"), errors.Join(s.is("update-input", arg), s.is("header-update", header(ctx)))
	}
	validate := func(_ workflow.Context, arg string) error {
		if arg == s.c("update-input-rejected") {
			return temporal.NewApplicationError(s.c("update-rejection"), "Rejected", s.c("update-rejection-details"))
		}
		return nil
	}
	return errors.Join(
		workflow.SetQueryHandlerWithOptions(ctx, s.c("query-name"), query, workflow.QueryHandlerOptions{Description: s.c("query-description")}),
		workflow.SetUpdateHandlerWithOptions(ctx, s.c("update-name"), update, workflow.UpdateHandlerOptions{Validator: validate, Description: s.c("update-description")}),
	)
}

// activities runs one activity that the server may hand over with the answer to
// the workflow task, and one that is polled for.
func (s *script) activities(ctx workflow.Context) error {
	options := workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, ActivityID: s.c("activity-id"), Summary: s.c("activity-summary"),
		EventGroups: []workflow.EventGroup{workflow.NewEventGroupWithOptions(s.c("event-group-id"), workflow.EventGroupOptions{Label: s.c("event-group-label")})},
		Priority:    temporal.Priority{FairnessKey: s.c("fairness-key")},
		RetryPolicy: &temporal.RetryPolicy{NonRetryableErrorTypes: []string{s.c("non-retryable-error-type")}},
	}
	var eager, polled string
	ctx1 := workflow.WithActivityOptions(s.within(ctx, "header-activity"), options)
	if err := workflow.ExecuteActivity(ctx1, s.c("activity-type"), s.c("activity-input")).Get(ctx, &eager); err != nil {
		return err
	}
	options.ActivityID, options.DisableEagerExecution = "polled", true
	ctx2 := workflow.WithActivityOptions(s.within(ctx, "header-activity"), options)
	if err := workflow.ExecuteActivity(ctx2, s.c("activity-type"), s.c("activity-input")).Get(ctx, &polled); err != nil {
		return err
	}
	return errors.Join(s.is("activity-result", eager), s.is("activity-result", polled))
}

func (s *script) localActivities(ctx workflow.Context) error {
	ctx = workflow.WithLocalActivityOptions(s.within(ctx, "header-local-activity"), workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: time.Minute, Summary: s.c("local-activity-summary"),
	})
	var result string
	if err := workflow.ExecuteLocalActivity(ctx, s.c("local-activity-type"), s.c("local-activity-input")).Get(ctx, &result); err != nil {
		return err
	}
	err := workflow.ExecuteLocalActivity(ctx, "LocalThatFails").Get(ctx, nil)
	return errors.Join(s.is("local-activity-result", result), s.failed(err, "local-activity-failure", "local-activity-failure-details"))
}

// failed is an error unless err is an application error with the canaries of
// these kinds as message and detail.
func (s *script) failed(err error, message, detail string) error {
	var application *temporal.ApplicationError
	if !errors.As(err, &application) {
		return errors.New(message + ": got another error")
	}
	var got string
	if detail != "" {
		if err := application.Details(&got); err != nil {
			return err
		}
		if err := s.is(detail, got); err != nil {
			return err
		}
	}
	return s.is(message, application.Message())
}

func (s *script) markers(ctx workflow.Context) error {
	var side, mutable string
	if err := workflow.SideEffectWithOptions(ctx, workflow.SideEffectOptions{Summary: s.c("side-effect-summary")}, func(workflow.Context) any {
		return s.c("side-effect")
	}).Get(&side); err != nil {
		return err
	}
	if err := workflow.MutableSideEffectWithOptions(ctx, s.c("mutable-side-effect-id"), workflow.MutableSideEffectOptions{Summary: s.c("mutable-side-effect-summary")},
		func(workflow.Context) any { return s.c("mutable-side-effect") }, func(a, b any) bool { return a == b }).Get(&mutable); err != nil {
		return err
	}
	workflow.GetVersion(ctx, s.c("change-id"), workflow.DefaultVersion, 1)
	return errors.Join(s.is("side-effect", side), s.is("mutable-side-effect", mutable))
}

func (s *script) timers(ctx workflow.Context) error {
	if err := workflow.NewTimerWithOptions(ctx, time.Millisecond, workflow.TimerOptions{Summary: s.c("timer-summary")}).Get(ctx, nil); err != nil {
		return err
	}
	_, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{Timeout: time.Millisecond, TimerOptions: workflow.TimerOptions{Summary: s.c("await-summary")}}, func() bool { return false })
	return err
}

func (s *script) children(ctx workflow.Context) error {
	var near, far string
	ctx1 := workflow.WithChildOptions(s.within(ctx, "header-child"), workflow.ChildWorkflowOptions{
		WorkflowID: s.c("child-workflow-id"), Memo: map[string]any{"child": s.c("child-memo")},
		TypedSearchAttributes: temporal.NewSearchAttributes(s.attribute(attributeCustomer, "search-attribute-child")),
		StaticSummary:         s.c("child-summary"), StaticDetails: s.c("child-details"),
	})
	if err := workflow.ExecuteChildWorkflow(ctx1, "Child", s.c("child-input")).Get(ctx, &near); err != nil {
		return err
	}
	ctx2 := workflow.WithChildOptions(s.within(ctx, "header-child"), workflow.ChildWorkflowOptions{Namespace: s.billing}) //nolint:staticcheck // deprecated, and in use
	if err := workflow.ExecuteChildWorkflow(ctx2, "Child", s.c("child-input")).Get(ctx, &far); err != nil {
		return err
	}
	failed := workflow.ExecuteChildWorkflow(ctx, "ChildThatFails").Get(ctx, nil)
	canceled := workflow.ExecuteChildWorkflow(ctx, "ChildThatIsCanceled").Get(ctx, nil)
	return errors.Join(s.is("child-result", near), s.is("child-result", far),
		s.failed(failed, "child-failure", "child-failure-details"),
		s.wasCanceled(canceled, "child-canceled-details"))
}

// wasCanceled is an error unless err is one of cancellation with the canary of
// this kind as detail.
func (s *script) wasCanceled(err error, detail string) error {
	var canceled *temporal.CanceledError
	if !errors.As(err, &canceled) {
		return errors.New(detail + ": not canceled")
	}
	var got string
	if err := canceled.Details(&got); err != nil {
		return err
	}
	return s.is(detail, got)
}

func (s *script) child(ctx workflow.Context, in string) (string, error) {
	return s.c("child-result"), errors.Join(s.is("child-input", in), s.is("header-child", header(ctx)))
}

func (s *script) childThatFails(workflow.Context) error {
	return temporal.NewApplicationError(s.c("child-failure"), "Child", s.c("child-failure-details"))
}

func (s *script) childThatIsCanceled(workflow.Context) error {
	return temporal.NewCanceledError(s.c("child-canceled-details"))
}

// signals sends one to another workflow of this namespace, and one to a
// workflow of the other.
func (s *script) signals(ctx workflow.Context) error {
	ctx = s.within(ctx, "header-external-signal")
	near := workflow.SignalExternalWorkflow(ctx, "receiver", "", s.c("external-signal-name"), s.c("external-signal"))
	far := workflow.SignalExternalWorkflow(workflow.WithWorkflowNamespace(ctx, s.billing), "receiver", "", s.c("external-signal-name"), s.c("external-signal")) //nolint:staticcheck // deprecated, and in use
	return errors.Join(near.Get(ctx, nil), far.Get(ctx, nil))
}

func (s *script) receiver(ctx workflow.Context) error {
	var got string
	workflow.GetSignalChannel(ctx, s.c("external-signal-name")).Receive(ctx, &got)
	return s.is("external-signal", got)
}

// mailbox ends with what the first signal says.
func (s *script) mailbox(ctx workflow.Context, in string) (string, error) {
	if err := s.handlers(ctx); err != nil {
		return "", err
	}
	var got string
	workflow.GetSignalChannel(ctx, "mail").Receive(ctx, &got)
	return in + " and " + got, nil
}

func (s *script) activity(ctx context.Context, in string) (string, error) {
	return s.c("activity-result"), errors.Join(s.is("activity-input", in), s.is("header-activity", header(ctx)))
}

func (s *script) localActivity(ctx context.Context, in string) (string, error) {
	return s.c("local-activity-result"), errors.Join(s.is("local-activity-input", in), s.is("header-local-activity", header(ctx)))
}

func (s *script) localThatFails(context.Context) error {
	return temporal.NewNonRetryableApplicationError(s.c("local-activity-failure"), "Local", nil, s.c("local-activity-failure-details"))
}
