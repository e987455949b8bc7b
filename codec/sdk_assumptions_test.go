package codec_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// This page holds the assumptions of package codec about the inside of the Go SDK, with a test
// for each. No Waxseal code runs in the tests of the SDK. A test that fails after an update
// names the assumption that no longer holds:
//
//   - where the SDK fails the workflow task because of a converter.WorkflowTaskFailureError that
//     a converter returns, and where because of a panic with one: TestWhereTheSDKFailsTheTask.
//     dataConverter.hold panics because of the lines in which the two differ;
//   - that it honours the error only from a CodecDataConverter: TestTheSDKHonoursItsOwnErrorsOnly.
//     failTask makes one for that;
//   - that it reports the failure of a first attempt only: TestTheSDKReportsFirstAttemptsOnly.
//     The registry of held tasks reports the others;
//   - that a query needs a completed task: TestQueryNeedsACompletedTask;
//   - that it converts the result of a workflow that a Nexus handler started as a payload of that
//     operation, without the workflow's ID: TestResultsForNexusCallers. site.facts and withheldIn
//     depend on it;
//   - that it seals headers only for converters that expose their codec: TestHeadersPassNoConverter.
//     The guard seals them.

const (
	sealFails = "fails when it is sealed"
	openFails = "fails when it is opened"
	assumed   = "assumed" // a task queue
)

// errAway is the error of the failing converters.
var errAway = errors.New("the KMS is away")

// failingConverter fails for the two values above: with the SDK's error that fails a task, or,
// if panics is set, with a panic with that error.
type failingConverter struct {
	converter.DataConverter
	panics bool
}

func newFailingConverter(panics bool) converter.DataConverter {
	return &failingConverter{converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), failingCodec{}), panics}
}

type failingCodec struct{}

func (failingCodec) Encode(all []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return failIf(all, sealFails)
}

func (failingCodec) Decode(all []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return failIf(all, openFails)
}

func failIf(all []*commonpb.Payload, text string) ([]*commonpb.Payload, error) {
	for _, p := range all {
		if strings.Contains(string(p.GetData()), text) {
			return nil, converter.NewWorkflowTaskFailureError(errAway)
		}
	}
	return all, nil
}

func (c *failingConverter) failed(err error) error {
	if c.panics && errors.Is(err, errAway) {
		panic(err)
	}
	return err
}

func (c *failingConverter) ToPayload(v any) (*commonpb.Payload, error) {
	p, err := c.DataConverter.ToPayload(v)
	return p, c.failed(err)
}

func (c *failingConverter) ToPayloads(v ...any) (*commonpb.Payloads, error) {
	p, err := c.DataConverter.ToPayloads(v...)
	return p, c.failed(err)
}

func (c *failingConverter) FromPayload(p *commonpb.Payload, v any) error {
	return c.failed(c.DataConverter.FromPayload(p, v))
}

func (c *failingConverter) FromPayloads(p *commonpb.Payloads, v ...any) error {
	return c.failed(c.DataConverter.FromPayloads(p, v...))
}

// atTheSDK starts a worker of the SDK, without Waxseal, with code as its workflow.
func atTheSDK(t *testing.T, dc converter.DataConverter, onPanic worker.WorkflowPanicPolicy, code func(workflow.Context) error) *station {
	t.Helper()
	failures := temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc, EncodeCommonAttributes: true})
	s := newStation(t, client.Options{Namespace: "n", DataConverter: dc, FailureConverter: failures}, func(worker.Registry) {})
	s.workflow(onPanic, code)
	return s
}

// workflow starts a worker with one workflow.
func (s *station) workflow(onPanic worker.WorkflowPanicPolicy, code func(workflow.Context) error) {
	s.t.Helper()
	w := worker.New(s.client, assumed, worker.Options{WorkflowPanicPolicy: onPanic, MaxConcurrentWorkflowTaskPollers: 2})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (string, error) {
		return in, code(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute}))
	}, workflow.RegisterOptions{Name: "Order"})
	if err := w.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(w.Stop)
}

// give hands the worker a task of a new run.
func (s *station) give(task *workflowservice.PollWorkflowTaskQueueResponse) {
	task.WorkflowExecution.RunId = string(task.GetTaskToken())
	s.server.queue("workflow", assumed) <- task
}

// addUpdate adds an update to a first task.
func addUpdate(t *testing.T, task *workflowservice.PollWorkflowTaskQueueResponse, r *updatepb.Request) {
	t.Helper()
	r.Meta = &updatepb.Meta{UpdateId: "u"}
	body, err := anypb.New(r)
	if err != nil {
		t.Fatal(err)
	}
	task.Messages = []*protocolpb.Message{{Id: "u/request", ProtocolInstanceId: "u", Body: body, SequencingId: &protocolpb.Message_EventId{EventId: 2}}}
}

// How a workflow task ends.
const (
	taskFails     = "the task fails"
	workflowFails = "the workflow fails"
	completes     = "the task completes"
	plainMemo     = "the task completes, with a plaintext memo"
	rejects       = "the task completes, the update is rejected"
	queryFails    = "the task completes, the query fails"
)

// ends waits for the answer to a task.
func (s *station) ends() string {
	s.t.Helper()
	answer := s.request(func(req proto.Message) bool {
		switch req.(type) {
		case *workflowservice.RespondWorkflowTaskFailedRequest, *workflowservice.RespondWorkflowTaskCompletedRequest, *workflowservice.RespondQueryTaskCompletedRequest:
			return true
		}
		return false
	})
	r, completed := answer.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if !completed {
		return taskFails
	}
	for _, c := range r.GetCommands() {
		memo := c.GetStartChildWorkflowExecutionCommandAttributes().GetMemo()
		if c.GetCommandType() == enumspb.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES {
			memo = c.GetModifyWorkflowPropertiesCommandAttributes().GetUpsertedMemo()
		}
		switch {
		case c.GetCommandType() == enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
			return workflowFails
		case len(memo.GetFields()) > 0:
			return plainMemo
		}
	}
	for _, m := range r.GetMessages() {
		if m.GetBody().MessageIs(new(updatepb.Rejection)) {
			return rejects
		}
	}
	for _, q := range r.GetQueryResults() {
		if q.GetResultType() == enumspb.QUERY_RESULT_TYPE_FAILED {
			return queryFails
		}
	}
	return completes
}

// conversionPlace is where the SDK converts a value of a workflow task.
type conversionPlace struct {
	name string
	code func(ctx workflow.Context) error
	task func(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse // nil: the first task
	// returned and panicked are how the task ends if the converter returns the error, and if it
	// panics with it. failWorkflow is the value of returned under FailWorkflow, if it differs.
	returned, panicked, failWorkflow string
}

func conversionPlaces() []conversionPlace {
	does := func(f func(ctx workflow.Context)) func(ctx workflow.Context) error {
		return func(ctx workflow.Context) error { f(ctx); return nil }
	}
	after := func(build func(t *testing.T, h *history) *history) func(*testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
		return func(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
			return build(t, begun(payload(t, "in")).task()).poll("t")
		}
	}
	activityFails := func(t *testing.T, h *history, f *failurepb.Failure) *history {
		h.activity(payload(t, ""))
		h.events = h.events[:len(h.events)-1]
		return h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, &historypb.ActivityTaskFailedEventAttributes{ScheduledEventId: 5, StartedEventId: 6, Failure: f})
	}
	do := func(ctx workflow.Context) error {
		return workflow.ExecuteActivity(ctx, "Do", "in").Get(ctx, new(string))
	}
	withUpdate := func(arg string) func(*testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
		return func(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
			task := begun(payload(t, "in")).poll("t")
			addUpdate(t, task, &updatepb.Request{Input: &updatepb.Input{Name: "update", Args: payloads(payload(t, arg))}})
			return task
		}
	}
	withQuery := func(arg string) func(*testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
		return func(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
			task := begun(payload(t, "in")).poll("t")
			task.Queries = map[string]*querypb.WorkflowQuery{"q": {QueryType: "query", QueryArgs: payloads(payload(t, arg))}}
			return task
		}
	}
	updates := func(result string) func(ctx workflow.Context) error {
		return func(ctx workflow.Context) error {
			err := workflow.SetUpdateHandler(ctx, "update", func(workflow.Context, string) (string, error) { return result, nil })
			return errors.Join(err, workflow.Await(ctx, func() bool { return false }))
		}
	}
	queries := func(result string) func(ctx workflow.Context) error {
		return func(ctx workflow.Context) error {
			err := workflow.SetQueryHandler(ctx, "query", func(string) (string, error) { return result, nil })
			return errors.Join(err, workflow.Await(ctx, func() bool { return false }))
		}
	}
	honoured := func(name string, code func(workflow.Context) error, task func(*testing.T) *workflowservice.PollWorkflowTaskQueueResponse) conversionPlace {
		return conversionPlace{name: name, code: code, task: task, returned: taskFails, panicked: taskFails}
	}
	return []conversionPlace{
		honoured("workflow input", does(func(workflow.Context) {}), func(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
			return begun(payload(t, openFails)).poll("t")
		}),
		honoured("workflow result", does(func(workflow.Context) {}), func(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
			return begun(payload(t, sealFails)).poll("t")
		}),
		honoured("workflow failure, details", func(workflow.Context) error {
			return temporal.NewApplicationError("m", "T", sealFails)
		}, nil),
		honoured("details of a cancellation", func(workflow.Context) error { return temporal.NewCanceledError(sealFails) }, nil),
		honoured("continue as new", func(ctx workflow.Context) error { return workflow.NewContinueAsNewError(ctx, "Order", sealFails) }, nil),
		honoured("activity input", does(func(ctx workflow.Context) { workflow.ExecuteActivity(ctx, "Do", sealFails) }), nil),
		honoured("activity summary", does(func(ctx workflow.Context) {
			workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, Summary: sealFails}), "Do", "in")
		}), nil),
		honoured("activity result, of which the code drops the error", does(func(ctx workflow.Context) { _ = do(ctx) }),
			after(func(t *testing.T, h *history) *history { return h.activity(payload(t, openFails)) })),
		honoured("child input", does(func(ctx workflow.Context) { workflow.ExecuteChildWorkflow(ctx, "Child", sealFails) }), nil),
		honoured("signal to another workflow", does(func(ctx workflow.Context) { workflow.SignalExternalWorkflow(ctx, "other", "", "s", sealFails) }), nil),
		honoured("input of a Nexus operation", does(func(ctx workflow.Context) {
			workflow.NewNexusClient("e", "s").ExecuteOperation(ctx, "o", sealFails, workflow.NexusOperationOptions{})
		}), nil),
		honoured("side effect", does(func(ctx workflow.Context) {
			workflow.SideEffect(ctx, func(workflow.Context) any { return sealFails })
		}), nil),
		honoured("mutable side effect", does(func(ctx workflow.Context) {
			workflow.MutableSideEffect(ctx, "id", func(workflow.Context) any { return sealFails }, func(a, b any) bool { return a == b })
		}), nil),
		honoured("marker of a version", does(func(ctx workflow.Context) { workflow.GetVersion(ctx, sealFails, workflow.DefaultVersion, 1) }), nil),
		honoured("summary of a timer", does(func(ctx workflow.Context) {
			workflow.NewTimerWithOptions(ctx, time.Hour, workflow.TimerOptions{Summary: sealFails})
		}), nil),
		honoured("summary of a local activity", func(ctx workflow.Context) error {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute, Summary: sealFails})
			return workflow.ExecuteLocalActivity(ctx, func(context.Context) error { return nil }).Get(ctx, nil)
		}, nil),
		honoured("result of an update", updates(sealFails), withUpdate("in")),
		{
			"signal", does(func(ctx workflow.Context) { workflow.GetSignalChannel(ctx, "signal").Receive(ctx, new(string)) }),
			after(func(t *testing.T, h *history) *history { return h.signal(payload(t, openFails)) }), completes, taskFails, "",
		},
		{"EncodedValue", does(func(ctx workflow.Context) {
			_ = workflow.SideEffect(ctx, func(workflow.Context) any { return "" }).Get(new(string))
		}), after(func(t *testing.T, h *history) *history {
			return h.marker("SideEffect", map[string]*commonpb.Payloads{"side-effect-id": payloads(payload(t, 1)), "data": payloads(payload(t, openFails))})
		}), completes, taskFails, ""},
		{"details of an error", does(func(ctx workflow.Context) {
			if e, ok := errors.AsType[*temporal.ApplicationError](do(ctx)); ok {
				_ = e.Details(new(string))
			}
		}), after(func(t *testing.T, h *history) *history {
			return activityFails(t, h, &failurepb.Failure{FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
				ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{NonRetryable: true, Details: payloads(payload(t, openFails))},
			}})
		}), completes, taskFails, ""},
		{"last result", does(func(ctx workflow.Context) { _ = workflow.GetLastCompletionResult(ctx, new(string)) }), func(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
			h := begun(payload(t, "in"))
			h.events[0].GetWorkflowExecutionStartedEventAttributes().LastCompletionResult = payloads(payload(t, openFails))
			return h.poll("t")
		}, completes, taskFails, ""},
		{"message of a failure", does(func(ctx workflow.Context) { _ = do(ctx) }), after(func(t *testing.T, h *history) *history {
			return activityFails(t, h, &failurepb.Failure{EncodedAttributes: payload(t, openFails), FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
				ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{NonRetryable: true},
			}})
		}), completes, taskFails, ""},
		{"memo of a child", does(func(ctx workflow.Context) {
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{Memo: map[string]any{"m": sealFails}})
			workflow.ExecuteChildWorkflow(ctx, "Child", "in")
		}), nil, plainMemo, taskFails, ""},
		{"upserted memo", func(ctx workflow.Context) error { return workflow.UpsertMemo(ctx, map[string]any{"m": sealFails}) }, nil, plainMemo, taskFails, ""},
		{"label of an event group", does(func(ctx workflow.Context) {
			group := workflow.NewEventGroupWithOptions("group", workflow.EventGroupOptions{Label: sealFails})
			workflow.ExecuteActivity(workflow.WithEventGroups(ctx, group), "Do", "in")
		}), nil, taskFails, taskFails, workflowFails},
		{"argument of an update", updates("out"), withUpdate(openFails), rejects, taskFails, ""},
		{"argument of a query", queries("out"), withQuery(openFails), queryFails, "", ""},
		{"result of a query", queries(sealFails), withQuery("in"), queryFails, "", ""},
	}
}

func TestWhereTheSDKFailsTheTask(t *testing.T) {
	for _, at := range conversionPlaces() {
		t.Run(at.name, func(t *testing.T) {
			for _, onPanic := range []worker.WorkflowPanicPolicy{worker.BlockWorkflow, worker.FailWorkflow} {
				for _, panics := range []bool{false, true} {
					want := at.returned
					switch {
					case panics:
						want = at.panicked
					case onPanic == worker.FailWorkflow && at.failWorkflow != "":
						want = at.failWorkflow
					}
					if want == "" {
						continue // a panic there ends the task without an answer
					}
					s := atTheSDK(t, newFailingConverter(panics), onPanic, at.code)
					task := begun(payload(t, "in")).poll("t")
					if at.task != nil {
						task = at.task(t)
					}
					task.TaskToken = fmt.Appendf(nil, "%d", rand.Uint64())
					s.give(task)
					if got := s.ends(); got != want {
						t.Errorf("panics %v, policy %v: %s, want: %s", panics, onPanic, got, want)
					}
				}
			}
		})
	}
}

// unmarked returns the error in the form of a converter that is no CodecDataConverter.
type unmarked struct{ converter.DataConverter }

func (u unmarked) FromPayloads(*commonpb.Payloads, ...any) error {
	return converter.NewWorkflowTaskFailureError(errAway)
}

func TestTheSDKHonoursItsOwnErrorsOnly(t *testing.T) {
	for name, dc := range map[string]converter.DataConverter{
		"from another converter": unmarked{converter.GetDefaultDataConverter()},
		"from workflow code":     converter.GetDefaultDataConverter(),
	} {
		s := atTheSDK(t, dc, worker.BlockWorkflow, func(workflow.Context) error { return converter.NewWorkflowTaskFailureError(errAway) })
		s.give(begun(payload(t, "in")).poll(name))
		if got := s.ends(); got != workflowFails {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestTheSDKReportsFirstAttemptsOnly(t *testing.T) {
	s := atTheSDK(t, newFailingConverter(false), worker.BlockWorkflow, func(workflow.Context) error { return nil })
	again := begun(payload(t, openFails)).poll("second attempt")
	again.Attempt = 2
	s.give(again)
	select {
	case req := <-s.sent:
		if _, failed := req.(*workflowservice.RespondWorkflowTaskFailedRequest); failed {
			t.Error("a second attempt is reported: the registry of held tasks need not do it")
		}
	case <-time.After(time.Second):
	}
	s.give(begun(payload(t, openFails)).poll("first attempt"))
	if got := s.ends(); got != taskFails {
		t.Errorf("first attempt: %s", got)
	}
}

func TestQueryNeedsACompletedTask(t *testing.T) {
	for token, fails := range map[string]bool{"none": true, "one": false} {
		s := atTheSDK(t, converter.GetDefaultDataConverter(), worker.BlockWorkflow, func(ctx workflow.Context) error {
			err := workflow.SetQueryHandler(ctx, "query", func() (string, error) { return "", nil })
			return errors.Join(err, workflow.Await(ctx, func() bool { return false }))
		})
		h := begun(payload(t, "in"))
		if !fails {
			h.task()
		}
		task := h.poll(token)
		task.Query = &querypb.WorkflowQuery{QueryType: "query"}
		s.give(task)
		answer := s.request(func(req proto.Message) bool {
			_, ok := req.(*workflowservice.RespondQueryTaskCompletedRequest)
			return ok
		})
		if got := answer.(*workflowservice.RespondQueryTaskCompletedRequest).GetCompletedType() == enumspb.QUERY_RESULT_TYPE_FAILED; got != fails {
			t.Errorf("%s: failed %v", token, got)
		}
	}
}

// contexts notes the serialization contexts that values are sealed with.
type contexts struct {
	converter.DataConverter
	sc   converter.SerializationContext
	seen *sights
}

func (c contexts) WithSerializationContext(sc converter.SerializationContext) converter.DataConverter {
	c.sc = sc
	return c
}

func (c contexts) ToPayloads(v ...any) (*commonpb.Payloads, error) {
	c.seen.add(fmt.Sprintf("%T", c.sc))
	return c.DataConverter.ToPayloads(v...)
}

func TestResultsForNexusCallers(t *testing.T) {
	for token, want := range map[string]string{"own": "converter.WorkflowSerializationContext", "Nexus": "converter.NexusSerializationContext"} {
		seen := new(sights)
		s := atTheSDK(t, contexts{DataConverter: converter.GetDefaultDataConverter(), seen: seen}, worker.BlockWorkflow, func(workflow.Context) error { return nil })
		h := begun(payload(t, "in"))
		if token == "Nexus" {
			h.events[0].GetWorkflowExecutionStartedEventAttributes().PropagatedNexusSerializationContext = &nexuspb.PropagatedSerializationContext{Endpoint: "e", Service: "s", Operation: "o"}
		}
		s.give(h.poll(token))
		s.ends()
		if got := seen.take(); len(got) != 1 || got[0] != want {
			t.Errorf("%s: sealed with %v, want %s", token, got, want)
		}
	}
}

func TestHeadersPassNoConverter(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	if provider, ok := codec.NewDataConverter(c, "n", nil).(converter.PayloadCodecProvider); ok && provider.Codec() != nil {
		t.Error("the SDK has a codec for headers, and seals them before the guard does")
	}
}

// composed are the options of a client with the SDK's converter and the codec in it.
func composed(c *codec.Codec, namespace string) client.Options {
	return client.Options{Namespace: namespace, DataConverter: converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), c.PayloadCodec(namespace))}
}

// With the errors that only the SDK honours, a workflow survives a KMS outage under both panic
// policies: where workflow code reads its input, and where an update's result is sealed for the
// Nexus handler that sent it, without the workflow's ID.
func TestAKMSOutageKillsNoWorkflow(t *testing.T) {
	for _, onPanic := range []worker.WorkflowPanicPolicy{worker.BlockWorkflow, worker.FailWorkflow} {
		for name, options := range map[string]func(*codec.Codec, string) client.Options{"input": converterAlone, "input of a composed converter": composed, "update": withPlugin} {
			c, backend := newCodec(t, onePolicy)
			task := begun(payload(t, "in")).poll(fmt.Sprint(name, " ", onPanic))
			if name != "update" {
				task = begun(sealedElsewhere(t, "fake://a")).poll(fmt.Sprint(name, " ", onPanic))
			} else {
				addUpdate(t, task, &updatepb.Request{
					Input:                               &updatepb.Input{Name: "update", Args: payloads(payload(t, "in"))},
					PropagatedNexusSerializationContext: &nexuspb.PropagatedSerializationContext{Endpoint: "e", Service: "s", Operation: "o"},
				})
			}
			backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
			s := newStation(t, options(c, testNamespace), func(worker.Registry) {})
			s.workflow(onPanic, func(ctx workflow.Context) error {
				err := workflow.SetUpdateHandler(ctx, "update", func(_ workflow.Context, in string) (string, error) { return in, nil })
				return errors.Join(err, workflow.Await(ctx, func() bool { return false }))
			})
			s.give(task)
			if got := s.ends(); got != taskFails {
				t.Errorf("%s, policy %v: %s", name, onPanic, got)
			}
		}
	}
}

// The SDK sends the request of workflow.SignalWithStartWorkflow as a payload that no converter
// sees, and seals the payloads in it. The rest is plaintext: the guard refuses it.
func TestSystemNexusOperationsAreRefused(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	b := newBench(t, c)
	b.code = func(ctx workflow.Context, _ string) (string, error) {
		options := workflow.SignalWithStartWorkflowOptions{}
		return "", workflow.SignalWithStartWorkflow(ctx, options, "other", "signal", "CANARY", "Order", "CANARY").Get(ctx, nil)
	}
	if saw := b.outcome("workflow", begun(sealedAt(t, c, inWorkflowOf("w"), "in")).poll("system")); !strings.Contains(saw, "workflow.SignalWithStartWorkflow") || strings.Contains(saw, "CANARY") {
		t.Errorf("the task ends with %q", saw)
	}
}
