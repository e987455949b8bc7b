package codec_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// userPropagator runs programs as the user that a header names.
type userPropagator struct{}

type userKey struct{}

func (userPropagator) read(r workflow.HeaderReader) (user string, err error) {
	if p, ok := r.Get("user"); ok {
		err = converter.GetDefaultDataConverter().FromPayload(p, &user)
	}
	return user, err
}

func (userPropagator) Inject(context.Context, workflow.HeaderWriter) error { return nil }

func (userPropagator) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	p, err := converter.GetDefaultDataConverter().ToPayload(ctx.Value(userKey{}))
	w.Set("user", p)
	return err
}

func (u userPropagator) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	user, err := u.read(r)
	return context.WithValue(ctx, userKey{}, user), err
}

func (u userPropagator) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	user, err := u.read(r)
	return workflow.WithValue(ctx, userKey{}, user), err
}

// strictWorker is a worker with the SDK in a namespace that requires payloads to be sealed, and
// its hostile server.
type strictWorker struct {
	codec     *codec.Codec
	server    *wireServer
	responses chan proto.Message // the worker's answers to tasks

	mu   sync.Mutex
	seen []string // by user code
}

func (s *strictWorker) saw(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, what)
}

func (s *strictWorker) observe(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if strings.HasPrefix(path.Base(method), "Respond") {
		s.responses <- proto.Clone(req.(proto.Message))
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func startStrictWorker(t *testing.T) *strictWorker {
	t.Helper()
	c, backend := newCodec(t, strictPolicy)
	s := &strictWorker{
		codec: c, responses: make(chan proto.Message, 100),
		server: startWireServer(t, newSecrets(rand.New(rand.NewPCG(1, 2))), openerOf(t, []*kmstest.Fake{backend.Fake("a")})),
	}
	cl, err := client.DialContext(t.Context(), client.Options{
		HostPort: s.server.addr, Namespace: "n", Plugins: []client.Plugin{codec.NewPlugin(c), &sniffer{observe: s.observe}},
		ContextPropagators: []workflow.ContextPropagator{userPropagator{}}, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	w := worker.New(cl, "tasks", worker.Options{DeadlockDetectionTimeout: time.Minute})
	w.RegisterWorkflowWithOptions(s.workflow, workflow.RegisterOptions{Name: "Strict"})
	w.RegisterActivityWithOptions(s.activity, activity.RegisterOptions{Name: "Activity"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return s
}

// workflow notes the values that it receives. It runs a local activity and continues as new, or
// runs a remote activity and passes its failure on.
func (s *strictWorker) workflow(ctx workflow.Context, next string) error {
	user, _ := ctx.Value(userKey{}).(string)
	s.saw("workflow as " + user)
	if next == "continue" {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute})
		if err := workflow.ExecuteLocalActivity(ctx, s.activity).Get(ctx, nil); err != nil {
			return err
		}
		return workflow.NewContinueAsNewError(ctx, "Strict", "stop")
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, ActivityID: "remote"})
	err := workflow.ExecuteActivity(ctx, "Remote").Get(ctx, nil)
	s.saw("activity said " + err.Error())
	return err
}

func (s *strictWorker) activity(ctx context.Context) error {
	user, _ := ctx.Value(userKey{}).(string)
	s.saw("activity as " + user)
	return nil
}

// sniffer sees requests as they are sent, behind the guard.
type sniffer struct {
	clientPluginBase
	observe grpc.UnaryClientInterceptor
}

func (*sniffer) Name() string { return "sniffer" }

func (p *sniffer) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	o.ClientOptions.ConnectionOptions.DialOptions = append(o.ClientOptions.ConnectionOptions.DialOptions, grpc.WithChainUnaryInterceptor(p.observe))
	return nil
}

type clientPluginBase = client.PluginBase

// answer returns the worker's next answer to a task.
func (s *strictWorker) answer(t *testing.T) proto.Message {
	t.Helper()
	select {
	case r := <-s.responses:
		return r
	case <-time.After(time.Minute):
		t.Fatal("the worker does not answer")
		return nil
	}
}

func (s *strictWorker) sawAny(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(strings.Join(s.seen, "\n"), part)
}

// answerOf returns the worker's next answer, which must be a T.
func answerOf[T proto.Message](t *testing.T, s *strictWorker) T {
	t.Helper()
	got := s.answer(t)
	r, ok := got.(T)
	if !ok {
		var why error
		if failed, ok := got.(interface{ GetFailure() *failurepb.Failure }); ok {
			why = codec.NewFailureConverter(codec.NewDataConverter(s.codec, "n", nil)).FailureToError(failed.GetFailure())
		}
		t.Fatalf("the worker answers with a %T: %v", got, why)
	}
	return r
}

// sealed seals a value for namespace n.
func (s *strictWorker) sealed(t *testing.T, value any) *commonpb.Payload {
	return encode(t, s.codec, "n", payload(t, value))[0]
}

func strictTask(token string, started *historypb.WorkflowExecutionStartedEventAttributes, more ...*historypb.HistoryEvent) *workflowservice.PollWorkflowTaskQueueResponse {
	queue := &taskqueuepb.TaskQueue{Name: "tasks", Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
	started.WorkflowType, started.TaskQueue, started.Attempt = &commonpb.WorkflowType{Name: "Strict"}, queue, 1
	started.WorkflowTaskTimeout, started.FirstExecutionRunId, started.OriginalExecutionRunId = durationpb.New(10*time.Second), "run-"+token, "run-"+token
	events := append([]*historypb.HistoryEvent{
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: started}},
		taskScheduled(queue), taskStarted(2),
	}, more...)
	for i, e := range events {
		e.EventId, e.EventTime = int64(i+1), timestamppb.Now()
	}
	return &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: []byte(token), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "w-" + token, RunId: "run-" + token}, WorkflowType: started.GetWorkflowType(),
		StartedEventId: int64(len(events)), Attempt: 1, ScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(), History: &historypb.History{Events: events},
	}
}

func taskScheduled(queue *taskqueuepb.TaskQueue) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{
		WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{TaskQueue: queue, Attempt: 1},
	}}
}

func taskStarted(scheduled int64) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, Attributes: &historypb.HistoryEvent_WorkflowTaskStartedEventAttributes{
		WorkflowTaskStartedEventAttributes: &historypb.WorkflowTaskStartedEventAttributes{ScheduledEventId: scheduled},
	}}
}

// failedActivity returns the events of a first task that started the remote activity, of the
// activity's failure, and of the next task.
func (s *strictWorker) failedActivity(t *testing.T, first *workflowservice.RespondWorkflowTaskCompletedRequest, failure *failurepb.Failure) []*historypb.HistoryEvent {
	t.Helper()
	events := []*historypb.HistoryEvent{{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{
		WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{ScheduledEventId: 2, StartedEventId: 3, SdkMetadata: first.GetSdkMetadata()},
	}}}
	var scheduled int64
	for _, command := range first.GetCommands() {
		if a := command.GetScheduleActivityTaskCommandAttributes(); a != nil {
			events = append(events, &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
				ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{ActivityId: a.GetActivityId(), ActivityType: a.GetActivityType(), TaskQueue: a.GetTaskQueue(), Header: a.GetHeader(), WorkflowTaskCompletedEventId: 4},
			}})
			scheduled = int64(3 + len(events))
		}
	}
	if scheduled == 0 {
		t.Fatalf("the workflow started no activity: %v", first)
	}
	failed := activityFailed(failure)
	failed.GetActivityTaskFailedEventAttributes().ScheduledEventId = scheduled
	return append(events, failed, taskScheduled(&taskqueuepb.TaskQueue{Name: "tasks"}), taskStarted(int64(5+len(events))))
}

// TestStrictWorker: a server puts plaintext into tasks of a worker in a namespace that requires
// payloads to be sealed. User code receives none of it, and none comes back sealed. Sealed
// payloads work as always.
func TestStrictWorker(t *testing.T) {
	s := startStrictWorker(t)
	plain := payload(t, "CANARY root")
	header := func(p *commonpb.Payload) *commonpb.Header {
		return &commonpb.Header{Fields: map[string]*commonpb.Payload{"user": p}}
	}
	activityTask := func(token string, p *commonpb.Payload) *workflowservice.PollActivityTaskQueueResponse {
		return &workflowservice.PollActivityTaskQueueResponse{
			TaskToken: []byte(token), WorkflowNamespace: "n", WorkflowType: &commonpb.WorkflowType{Name: "Lax"},
			WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: "run"}, ActivityType: &commonpb.ActivityType{Name: "Activity"}, ActivityId: "a",
			Attempt: 1, ScheduledTime: timestamppb.Now(), CurrentAttemptScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(),
			ScheduleToCloseTimeout: durationpb.New(time.Minute), StartToCloseTimeout: durationpb.New(time.Minute), Header: header(p),
		}
	}
	started := func(next string, p *commonpb.Payload) *historypb.WorkflowExecutionStartedEventAttributes {
		return &historypb.WorkflowExecutionStartedEventAttributes{Input: payloads(s.sealed(t, next)), Header: header(p)}
	}
	give := func(kind string, task proto.Message) { s.server.queue(kind, "tasks") <- task }

	t.Run("activity", func(t *testing.T) {
		for name, p := range map[string]*commonpb.Payload{"plaintext": plain, "of another namespace": encode(t, s.codec, "other", plain)[0]} {
			give("activity", activityTask("a", p))
			failed := answerOf[*workflowservice.RespondActivityTaskFailedRequest](t, s)
			if err := codec.NewFailureConverter(codec.NewDataConverter(s.codec, "n", nil)).FailureToError(failed.GetFailure()); !strings.Contains(err.Error(), "denied") {
				t.Errorf("%s: the attempt fails with %v", name, err)
			}
		}
		give("activity", activityTask("a", s.sealed(t, "alice")))
		answerOf[*workflowservice.RespondActivityTaskCompletedRequest](t, s)
		if !s.sawAny("activity as alice") {
			t.Errorf("with a sealed header user code saw %q", s.seen)
		}
	})
	t.Run("workflow", func(t *testing.T) {
		memo := started("stop", s.sealed(t, "bob"))
		memo.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": plain}}
		for name, in := range map[string]*historypb.WorkflowExecutionStartedEventAttributes{"header": started("stop", plain), "memo": memo} {
			give("workflow", strictTask(name, in))
			failed := answerOf[*workflowservice.RespondWorkflowTaskFailedRequest](t, s)
			if !strings.Contains(failed.GetFailure().GetMessage(), "a "+name+" is not sealed, and the namespace requires it to be (requireSealed)") {
				t.Errorf("the worker answers %v", failed)
			}
		}
		if s.sawAny("bob") {
			t.Error("the workflow with a plaintext memo ran")
		}
	})
	t.Run("continue as new", func(t *testing.T) {
		in := started("continue", s.sealed(t, "carol"))
		in.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": s.sealed(t, "memo")}}
		give("workflow", strictTask("next", in))
		done := answerOf[*workflowservice.RespondWorkflowTaskCompletedRequest](t, s)
		if !s.sawAny("workflow as carol") || !s.sawAny("activity as carol") {
			t.Fatalf("the worker answers %v, user code saw %q", done, s.seen)
		}
		wantNothingOf(t, s.codec, done)
	})
	t.Run("failure", func(t *testing.T) {
		give("workflow", strictTask("first", started("stop", s.sealed(t, "dave"))))
		first := answerOf[*workflowservice.RespondWorkflowTaskCompletedRequest](t, s)
		forged := &failurepb.Failure{
			Message: "CANARY", StackTrace: "CANARY", EncodedAttributes: payload(t, map[string]string{"message": "CANARY"}),
			FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "T", Details: payloads(plain)}},
		}
		second := strictTask("first", started("stop", s.sealed(t, "dave")), s.failedActivity(t, first, forged)...)
		second.PreviousStartedEventId = 3
		give("workflow", second)
		done := answerOf[*workflowservice.RespondWorkflowTaskCompletedRequest](t, s)
		if len(done.GetCommands()) != 1 || done.GetCommands()[0].GetFailWorkflowExecutionCommandAttributes() == nil {
			t.Fatalf("the worker answers %v", done)
		}
		wantNothingOf(t, s.codec, done)
		if !s.sawAny("activity said activity error") || !s.sawAny("withheld") {
			t.Errorf("user code saw %q", s.seen)
		}
		failure := done.GetCommands()[0].GetFailWorkflowExecutionCommandAttributes().GetFailure()
		var app *temporal.ApplicationError
		if err := codec.NewFailureConverter(codec.NewDataConverter(s.codec, "n", nil)).FailureToError(failure); !errors.As(err, &app) || app.Type() != "T" {
			t.Errorf("the workflow fails with %v", err)
		}
	})
	if s.sawAny("CANARY") {
		t.Errorf("user code saw %q", s.seen)
	}
}
