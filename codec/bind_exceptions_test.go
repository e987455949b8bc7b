package codec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// readAt opens a payload at a place of namespace "n".
func readAt(c *codec.Codec, sc converter.SerializationContext, p *commonpb.Payload) (s string, err error) {
	dc := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, "n", nil), sc)
	return s, dc.FromPayloads(payloads(p), &s)
}

// A server appends a time to the ID of a workflow that a schedule starts.
func TestSchedulesAppendATime(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	const day, next = "nightly-2026-12-01T03:00:00Z", "nightly-2026-12-02T03:00:00Z"
	for _, tc := range []struct {
		sealed, read string
		opens        bool
	}{
		{"nightly", day, true},
		{day, next, true}, // the last result
		{day, day, true},
		{"nightly", "nightly-2026-12-01T03:00:00", false},
		{"nightly", "nightly-2026-12-01T03:00:00+01:00", false},
		{"nightly", "nightly-2026-13-01T03:00:00Z", false},
		{"nightly", "nightly-2", false},
		{"nightly", "weekly-2026-12-01T03:00:00Z", false},
		{"-2026-12-01T03:00:00Z", "-2026-12-02T03:00:00Z", false},
		{day, "nightly-2026-12-01T03:00:00Z-2026-12-01T03:00:00Z", false},
	} {
		_, err := readAt(c, inWorkflowOf(tc.read), sealedAt(t, c, inWorkflowOf(tc.sealed), "x"))
		if (err == nil) != tc.opens {
			t.Errorf("sealed for %q, read in %q: %v", tc.sealed, tc.read, err)
		}
	}
	b := newBench(t, c)
	b.code = func(ctx workflow.Context, _ string) (string, error) {
		var last string
		err := workflow.GetLastCompletionResult(ctx, &last)
		b.note("last", last, err)
		return "", nil
	}
	task := begun(sealedAt(t, c, inWorkflowOf("nightly"), "IN")).poll("t")
	task.WorkflowExecution.WorkflowId = next
	task.History.Events[0].GetWorkflowExecutionStartedEventAttributes().LastCompletionResult = payloads(sealedAt(t, c, inWorkflowOf(day), "LAST"))
	if saw := b.outcome("workflow", task); saw != "input IN; last LAST, error <nil>" {
		t.Error(saw)
	}
}

// record adds the events that a server makes of commands.
func (h *history) record(t *testing.T, commands []*commandpb.Command) {
	t.Helper()
	completed := int64(len(h.events))
	for _, command := range commands {
		switch a := command.GetAttributes().(type) {
		case *commandpb.Command_RecordMarkerCommandAttributes:
			m := a.RecordMarkerCommandAttributes
			h.add(enumspb.EVENT_TYPE_MARKER_RECORDED, &historypb.MarkerRecordedEventAttributes{MarkerName: m.GetMarkerName(), Details: m.GetDetails(), Failure: m.GetFailure(), WorkflowTaskCompletedEventId: completed})
		case *commandpb.Command_UpsertWorkflowSearchAttributesCommandAttributes:
			h.add(enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, &historypb.UpsertWorkflowSearchAttributesEventAttributes{SearchAttributes: a.UpsertWorkflowSearchAttributesCommandAttributes.GetSearchAttributes(), WorkflowTaskCompletedEventId: completed})
		case *commandpb.Command_ScheduleActivityTaskCommandAttributes:
			s := a.ScheduleActivityTaskCommandAttributes
			h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, &historypb.ActivityTaskScheduledEventAttributes{ActivityId: s.GetActivityId(), ActivityType: s.GetActivityType(), WorkflowTaskCompletedEventId: completed})
		case *commandpb.Command_StartChildWorkflowExecutionCommandAttributes:
			s := a.StartChildWorkflowExecutionCommandAttributes
			h.add(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED, &historypb.StartChildWorkflowExecutionInitiatedEventAttributes{Namespace: "n", WorkflowId: s.GetWorkflowId(), WorkflowType: s.GetWorkflowType(), WorkflowTaskCompletedEventId: completed})
		case *commandpb.Command_SignalExternalWorkflowExecutionCommandAttributes:
			s := a.SignalExternalWorkflowExecutionCommandAttributes
			h.add(enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED, &historypb.SignalExternalWorkflowExecutionInitiatedEventAttributes{WorkflowExecution: s.GetExecution(), SignalName: s.GetSignalName(), Control: s.GetControl(), WorkflowTaskCompletedEventId: completed}) //nolint:staticcheck // deprecated, and what the SDK goes by
		default:
			t.Fatalf("unexpected %v", command)
		}
	}
}

// find returns the ID of the last event of a type.
func (h *history) find(kind enumspb.EventType) int64 {
	for _, e := range slices.Backward(h.events) {
		if e.GetEventType() == kind {
			return e.GetEventId()
		}
	}
	return 0
}

// commandOf returns the only command of a type.
func commandOf(t *testing.T, commands []*commandpb.Command, kind enumspb.CommandType) *commandpb.Command {
	t.Helper()
	for _, c := range commands {
		if c.GetCommandType() == kind {
			return c
		}
	}
	t.Fatalf("no %v among %v", kind, commands)
	return nil
}

// commands lets the worker do a workflow task, and returns its commands.
func (b *bench) commands(task *workflowservice.PollWorkflowTaskQueueResponse) []*commandpb.Command {
	b.t.Helper()
	out := b.do("workflow", task)
	r, ok := out.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if !ok {
		b.t.Fatalf("the task failed: %s", failureTexts(b.t, b.codec, out.ProtoReflect()))
	}
	return r.GetCommands()
}

// Payloads that a workflow, its activities, its child, and the workflows that it signals and
// continues as seal for each other open there.
func TestUnmovedPayloadsOpen(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	b := newBench(t, c)
	b.code = func(ctx workflow.Context, in string) (string, error) {
		switch in {
		case "of the child", "next":
			return "of the child", nil
		case "signaled":
			var signal string
			workflow.GetSignalChannel(ctx, "signal").Receive(ctx, &signal)
			b.got.add("signal " + signal)
			return "", nil
		}
		version := workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 7)
		var side, mutable, local, result, child string
		err := workflow.SideEffect(ctx, func(workflow.Context) any { return "side" }).Get(&side)
		err = errors.Join(err, workflow.MutableSideEffect(ctx, "id", func(workflow.Context) any { return "mutable" }, func(a, b any) bool { return a == b }).Get(&mutable))
		localCtx := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute})
		err = errors.Join(err, workflow.ExecuteLocalActivity(localCtx, func(_ context.Context, in string) (string, error) { return in, nil }, "local").Get(ctx, &local))
		done := workflow.ExecuteActivity(workflow.WithStartToCloseTimeout(ctx, time.Minute), "Do", "for the activity")
		childCtx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{StaticSummary: "SUMMARY", Memo: map[string]any{"k": "MEMO"}})
		ended := workflow.ExecuteChildWorkflow(childCtx, "Order", "of the child")
		workflow.SignalExternalWorkflow(ctx, "other", "", "signal", "for another")
		err = errors.Join(err, done.Get(ctx, &result), ended.Get(ctx, &child))
		b.got.add(fmt.Sprintf("%d, %s, %s, %s, %s, %s, error %v", version, side, mutable, local, result, child, err))
		return "", workflow.NewContinueAsNewError(ctx, "Order", "next")
	}
	// By a client, from its own requests.
	if _, err := b.client.ExecuteWorkflow(t.Context(), startOf("w"), "Order", "IN"); err != nil {
		t.Fatal(err)
	}
	input := payloadsIn(t, b.request(func(m proto.Message) bool {
		_, ok := m.(*workflowservice.StartWorkflowExecutionRequest)
		return ok
	}))[0]
	h := begun(input)
	first := b.commands(h.poll("first"))
	h = begun(input).task()
	h.record(t, first)

	scheduled := commandOf(t, first, enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK).GetScheduleActivityTaskCommandAttributes()
	done := b.do("activity", activityTask("a", "n", scheduled.GetInput().GetPayloads()...)).(*workflowservice.RespondActivityTaskCompletedRequest)
	start := commandOf(t, first, enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION).GetStartChildWorkflowExecutionCommandAttributes()
	task := begun(start.GetInput().GetPayloads()...).poll("child")
	task.WorkflowExecution = &commonpb.WorkflowExecution{WorkflowId: start.GetWorkflowId(), RunId: "child-run"}
	ended := b.commands(task)[0].GetCompleteWorkflowExecutionCommandAttributes()
	signal := commandOf(t, first, enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION).GetSignalExternalWorkflowExecutionCommandAttributes()
	task = begun(sealedAt(t, c, inWorkflowOf("other"), "signaled")).signal(signal.GetInput().GetPayloads()[0]).poll("signaled")
	task.WorkflowExecution = &commonpb.WorkflowExecution{WorkflowId: "other", RunId: "other-run"}
	b.do("workflow", task)
	if saw := strings.Join(b.got.take(), "; "); saw != "input IN; activity input for the activity; input of the child; input signaled; signal for another" {
		t.Fatal(saw)
	}

	activityID, childID := h.find(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED), h.find(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED)
	h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, &historypb.ActivityTaskStartedEventAttributes{ScheduledEventId: activityID})
	h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: activityID, Result: done.GetResult()})
	execution := &commonpb.WorkflowExecution{WorkflowId: start.GetWorkflowId(), RunId: "child-run"}
	h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, &historypb.ChildWorkflowExecutionStartedEventAttributes{InitiatedEventId: childID, WorkflowExecution: execution, WorkflowType: start.GetWorkflowType()})
	h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, &historypb.ChildWorkflowExecutionCompletedEventAttributes{InitiatedEventId: childID, WorkflowExecution: execution, WorkflowType: start.GetWorkflowType(), Result: ended.GetResult()})
	last := b.commands(h.poll("last"))
	if saw := strings.Join(b.got.take(), "; "); saw != "input IN; 7, side, mutable, local, of the activity, of the child, error <nil>" {
		t.Error(saw)
	}
	next := commandOf(t, last, enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION).GetContinueAsNewWorkflowExecutionCommandAttributes()
	task = begun(next.GetInput().GetPayloads()...).poll("next")
	task.WorkflowExecution.RunId = "next-run"
	if saw := b.outcome("workflow", task); saw != "input next" {
		t.Error(saw)
	}

	// The child's memo and summary were sealed for its parent.
	b.answers(func(_, reply proto.Message) {
		if r, ok := reply.(*workflowservice.DescribeWorkflowExecutionResponse); ok {
			r.WorkflowExecutionInfo = &workflowpb.WorkflowExecutionInfo{Execution: execution, RootExecution: execution, SearchAttributes: new(commonpb.SearchAttributes), Type: start.GetWorkflowType(), Memo: start.GetMemo()}
			r.ExecutionConfig = &workflowpb.WorkflowExecutionConfig{UserMetadata: commandOf(t, first, enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION).GetUserMetadata()}
		}
	})
	described, err := b.client.DescribeWorkflow(t.Context(), start.GetWorkflowId(), "")
	if err != nil {
		t.Fatal(err)
	}
	var memo string
	summary, err := described.GetStaticSummary()
	if err = errors.Join(err, described.GetMemoValue("k", &memo)); err != nil || summary != "SUMMARY" || memo != "MEMO" {
		t.Errorf("summary %q, memo %q: %v", summary, memo, err)
	}

	// A replayer makes up its IDs.
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: []worker.Plugin{codec.NewPlugin(c)}})
	if err != nil {
		t.Fatal(err)
	}
	replayer.RegisterWorkflowWithOptions(b.code, workflow.RegisterOptions{Name: "Order"})
	if err := replayer.ReplayWorkflowHistory(nil, &historypb.History{Events: h.events}); err != nil {
		t.Error(err)
	}
}

// A program that completes an activity from outside may not know its workflow.
func TestCompletionFromOutsideOpens(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	b := newBench(t, c)
	b.code = func(ctx workflow.Context, in string) (string, error) {
		var result string
		err := workflow.ExecuteActivity(workflow.WithStartToCloseTimeout(ctx, time.Minute), "Do", in).Get(ctx, &result)
		b.note("result", result, err)
		return "", nil
	}
	for name, complete := range map[string]func() error{
		"by token": func() error { return b.client.CompleteActivity(t.Context(), []byte("token"), "DONE", nil) },
		"by ID":    func() error { return b.client.CompleteActivityByID(t.Context(), "n", "w", "", "a", "DONE", nil) },
	} {
		if err := complete(); err != nil {
			t.Fatal(err)
		}
		result := payloadsIn(t, b.request(func(m proto.Message) bool {
			return strings.HasPrefix(string(m.ProtoReflect().Descriptor().Name()), "RespondActivityTaskCompleted")
		}))[0]
		if saw := b.outcome("workflow", begun(sealedAt(t, c, inWorkflowOf("w"), "IN")).task().activity(result).poll("t")); saw != "input IN; result DONE, error <nil>" {
			t.Errorf("%s: %s", name, saw)
		}
	}
}

// The SDK passes a failure on unchanged, with its details.
func TestFailuresArePassedOn(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	in := func(sc converter.SerializationContext) converter.FailureConverter {
		return converter.WithFailureConverterSerializationContext(codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)), sc)
	}
	theirs := in(inActivityOf("other", "Refund")).ErrorToFailure(temporal.NewApplicationError("no such card", "T", "DETAILS"))
	own := in(inWorkflowOf("w")).ErrorToFailure(temporal.NewApplicationErrorWithCause("own", "T", in(inWorkflowOf("w")).FailureToError(theirs)))
	for name, failure := range map[string]*failurepb.Failure{"as it is": theirs, "as a cause": own} {
		b := newBench(t, c)
		b.answers(func(_, reply proto.Message) {
			if r, ok := reply.(*workflowservice.GetWorkflowExecutionHistoryResponse); ok {
				h := new(history).add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, &historypb.WorkflowExecutionFailedEventAttributes{Failure: failure})
				r.History = &historypb.History{Events: h.events}
			}
		})
		err := b.client.GetWorkflow(t.Context(), "w", "run").Get(t.Context(), nil)
		app, details := new(temporal.ApplicationError), ""
		for next := err; next != nil; next = errors.Unwrap(next) {
			if a, ok := next.(*temporal.ApplicationError); ok { //nolint:errorlint // the innermost
				app = a
			}
		}
		if !strings.Contains(err.Error(), "no such card") || app.Details(&details) != nil || details != "DETAILS" {
			t.Errorf("%s: %v, details %q", name, err, details)
		}
	}
}

// An envelope without claims opens anywhere. A reader that does not know its place opens
// everything.
func TestUncomparedPayloadsOpen(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	nexus := converter.NexusSerializationContext{Endpoint: "e", Service: "s", Operation: "o"}
	moved := sealedAt(t, c, inWorkflowOf("other"), "x")
	for name, err := range map[string]error{
		"sealed without claims":       second(readAt(c, inWorkflowOf("w"), encode(t, c, "n", payload(t, "x"))[0])),
		"Nexus input":                 second(readAt(c, inWorkflowOf("w"), sealedAt(t, c, nexus, "x"))),
		"result of a Nexus operation": second(readAt(c, nexus, moved)),
		"another task queue":          second(readAt(c, converter.ActivitySerializationContext{Namespace: "n", WorkflowID: "w", ActivityType: "Do", TaskQueue: "elsewhere"}, sealedAt(t, c, inActivityOf("w", "Do"), "x"))),
		"no context":                  codec.NewDataConverter(c, "n", nil).FromPayloads(payloads(moved), new(string)),
		"codec server":                c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{moved})[0].Err,
		"a composed converter": second(c.PayloadCodec("n").(converter.PayloadCodecWithSerializationContext).
			WithSerializationContext(inWorkflowOf("w")).Decode([]*commonpb.Payload{moved})),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := readAt(c, inWorkflowOf("w"), moved)
	wantClass(t, err, kms.Denied)
	var refused *codec.BindError
	if !errors.As(err, &refused) || refused.Claim != "workflowId" || refused.Known != "w" || refused.Sealed != "other" || !strings.Contains(refused.Hint(), "take workflowId out of bind") {
		t.Errorf("%v", err)
	}
	_, err = readAt(c, inWorkflowOf("w"), sealedAt(t, c, inActivityOf("w", "Do"), "x"))
	if !errors.As(err, &refused) || !strings.Contains(refused.Error(), "read where there is none") {
		t.Errorf("%v", err)
	}
	// An activity without a workflow.
	_, err = readAt(c, inActivityOf("", "Do"), moved)
	wantClass(t, err, kms.Denied)
}

func second[T any](_ T, err error) error { return err }

// A payload that was sealed for another place is sealed again: its reader could not open it
// otherwise.
func TestAMovedPayloadIsSealedAgain(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	moved, own := sealedAt(t, c, inWorkflowOf("other"), "x"), sealedAt(t, c, inWorkflowOf("w"), "x")
	if again := sealedAt(t, c, inWorkflowOf("w"), converter.NewRawValue(own)); !proto.Equal(again, own) {
		t.Error("its own is sealed twice")
	}
	again := sealedAt(t, c, inWorkflowOf("w"), converter.NewRawValue(moved))
	var raw converter.RawValue
	dc := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, "n", nil), inWorkflowOf("w"))
	if err := dc.FromPayloads(payloads(again), &raw); err != nil || !proto.Equal(raw.Payload(), moved) {
		t.Errorf("%v: %v", raw.Payload(), err)
	}
	// A program that does not name an activity's workflow sends the payload unchanged.
	if kept := sealedAt(t, c, converter.ActivitySerializationContext{Namespace: "n"}, converter.NewRawValue(moved)); !proto.Equal(kept, moved) {
		t.Error("sealed twice")
	}
}

// Waiting does not help against a moved payload.
func TestAMovedPayloadHoldsNothing(t *testing.T) {
	c, _ := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], bind: [workflowId], holdWorkflows: true}]}`)
	moved, err := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, testNamespace, nil), beside("other")).ToPayload("x")
	if err != nil {
		t.Fatal(err)
	}
	dc := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, testNamespace, nil), beside(testWorkflow))
	panicked, failed := inWorkflow(t, dc, func(dc converter.DataConverter) error { return dc.FromPayloads(payloads(moved), new(string)) })
	if panicked != nil {
		t.Errorf("panic %v", panicked)
	}
	wantClass(t, failed, kms.Denied)
}

// The SDK's test environment moves nothing.
func TestTheTestEnvironmentWithBind(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	dc := codec.NewDataConverter(c, testNamespace, nil)
	env.SetDataConverter(dc)
	env.SetFailureConverter(codec.NewFailureConverter(dc))
	echo := func(_ context.Context, in string) (string, error) { return in, nil }
	env.RegisterActivity(echo)
	child := func(_ workflow.Context, in string) (string, error) { return in + " child", nil }
	env.RegisterWorkflowWithOptions(child, workflow.RegisterOptions{Name: "Child"})
	env.RegisterDelayedCallback(func() { env.SignalWorkflow("signal", "signaled") }, time.Second)
	env.ExecuteWorkflow(func(ctx workflow.Context, in string) (string, error) {
		var a, b, s string
		err := workflow.ExecuteActivity(workflow.WithStartToCloseTimeout(ctx, time.Minute), echo, in).Get(ctx, &a)
		err = errors.Join(err, workflow.ExecuteChildWorkflow(ctx, "Child", a).Get(ctx, &b))
		workflow.GetSignalChannel(ctx, "signal").Receive(ctx, &s)
		return b + " " + s, err
	}, "in")
	var out string
	if err := errors.Join(env.GetWorkflowError(), env.GetWorkflowResult(&out)); err != nil || out != "in child signaled" {
		t.Errorf("%q: %v", out, err)
	}
}
