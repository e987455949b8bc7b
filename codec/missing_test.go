package codec_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waxseal/waxseal/codec"
)

const (
	sealedOnly = `
keys: {a: {uri: "fake://a"}}
seal: [{match: {namespace: "*"}, keys: [a], requireSealed: true}]
`
	dropQueue = "drops"
	missing   = "values that the program reads"
)

// taskServer hands out tasks, and keeps the answers.
type taskServer struct {
	workflowservice.UnimplementedWorkflowServiceServer
	workflows  chan *workflowservice.PollWorkflowTaskQueueResponse
	activities chan *workflowservice.PollActivityTaskQueueResponse
	answers    chan proto.Message
}

func (s *taskServer) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{SdkMetadata: true}}, nil
}

func (s *taskServer) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	return &workflowservice.DescribeNamespaceResponse{NamespaceInfo: &namespacepb.NamespaceInfo{Name: "n"}}, nil
}

func (s *taskServer) PollWorkflowTaskQueue(ctx context.Context, _ *workflowservice.PollWorkflowTaskQueueRequest) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	select {
	case task := <-s.workflows:
		return task, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *taskServer) PollActivityTaskQueue(ctx context.Context, _ *workflowservice.PollActivityTaskQueueRequest) (*workflowservice.PollActivityTaskQueueResponse, error) {
	select {
	case task := <-s.activities:
		return task, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *taskServer) RespondWorkflowTaskCompleted(_ context.Context, r *workflowservice.RespondWorkflowTaskCompletedRequest) (*workflowservice.RespondWorkflowTaskCompletedResponse, error) {
	s.answers <- r
	return &workflowservice.RespondWorkflowTaskCompletedResponse{}, nil
}

func (s *taskServer) RespondWorkflowTaskFailed(_ context.Context, r *workflowservice.RespondWorkflowTaskFailedRequest) (*workflowservice.RespondWorkflowTaskFailedResponse, error) {
	s.answers <- r
	return &workflowservice.RespondWorkflowTaskFailedResponse{}, nil
}

func (s *taskServer) RespondQueryTaskCompleted(_ context.Context, r *workflowservice.RespondQueryTaskCompletedRequest) (*workflowservice.RespondQueryTaskCompletedResponse, error) {
	s.answers <- r
	return &workflowservice.RespondQueryTaskCompletedResponse{}, nil
}

func (s *taskServer) RespondActivityTaskCompleted(_ context.Context, r *workflowservice.RespondActivityTaskCompletedRequest) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	s.answers <- r
	return &workflowservice.RespondActivityTaskCompletedResponse{}, nil
}

func (s *taskServer) RespondActivityTaskFailed(_ context.Context, r *workflowservice.RespondActivityTaskFailedRequest) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	s.answers <- r
	return &workflowservice.RespondActivityTaskFailedResponse{}, nil
}

func (s *taskServer) ShutdownWorker(context.Context, *workflowservice.ShutdownWorkerRequest) (*workflowservice.ShutdownWorkerResponse, error) {
	return &workflowservice.ShutdownWorkerResponse{}, nil
}

// answer waits for the answer to a task.
func (s *taskServer) answer(t *testing.T) proto.Message {
	t.Helper()
	deadline := time.NewTimer(time.Minute) // the test proves nothing about time
	defer deadline.Stop()
	select {
	case m := <-s.answers:
		return m
	case <-deadline.C:
		t.Fatal("the task was not answered")
		return nil
	}
}

// startTaskServer starts a server and a worker with functions that read two values, or one.
func startTaskServer(t *testing.T, plugin client.Plugin) *taskServer {
	t.Helper()
	s := &taskServer{
		workflows: make(chan *workflowservice.PollWorkflowTaskQueueResponse), activities: make(chan *workflowservice.PollActivityTaskQueueResponse),
		answers: make(chan proto.Message, 10),
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	cl, err := client.DialContext(t.Context(), client.Options{HostPort: listener.Addr().String(), Namespace: "n", Plugins: []client.Plugin{plugin}, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	w := worker.New(cl, dropQueue, worker.Options{MaxConcurrentWorkflowTaskPollers: 2})
	registerReaders(w.RegisterWorkflowWithOptions, w.RegisterActivityWithOptions)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return s
}

func registerReaders(addWorkflow func(any, workflow.RegisterOptions), addActivity func(any, activity.RegisterOptions)) {
	workflows := map[string]any{
		"Two": func(_ workflow.Context, a string, b *int) (string, error) { return fmt.Sprint(a, b), nil },
		"One": func(_ workflow.Context, a string) (string, error) { return a, nil },
		"Signalled": func(ctx workflow.Context) (a string, err error) {
			workflow.GetSignalChannel(ctx, "signal").Receive(ctx, &a)
			return a, nil
		},
		"Calling": func(ctx workflow.Context) (string, error) {
			var result *string
			err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute}), "Elsewhere").Get(ctx, &result)
			return fmt.Sprint(result), err
		},
		"Versioned": func(ctx workflow.Context) (int, error) {
			version := workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 1)
			workflow.GetSignalChannel(ctx, "signal").Receive(ctx, nil)
			return int(version), nil
		},
		"Updated": func(ctx workflow.Context) (string, error) {
			updated := false
			err := workflow.SetUpdateHandler(ctx, "update", func(ctx workflow.Context, a string, b int) error {
				updated = true
				return nil
			})
			if err != nil {
				return "", err
			}
			return "", workflow.Await(ctx, func() bool { return updated })
		},
		"Queried": func(ctx workflow.Context) (string, error) {
			return "", workflow.SetQueryHandler(ctx, "query", func(a string) (string, error) { return a, nil })
		},
	}
	for name, f := range workflows {
		addWorkflow(f, workflow.RegisterOptions{Name: name})
	}
	addActivity(func(a string, b int) error { return nil }, activity.RegisterOptions{Name: "Two"})
	addActivity(func(a string) error { return nil }, activity.RegisterOptions{Name: "One"})
}

// silent is a logger that discards everything.
type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// history builds the history of a workflow task.
type dropHistory struct{ events []*historypb.HistoryEvent }

func (h *dropHistory) add(kind enumspb.EventType, set func(*historypb.HistoryEvent)) *dropHistory {
	e := &historypb.HistoryEvent{EventId: int64(len(h.events) + 1), EventType: kind, EventTime: timestamppb.Now()}
	if set != nil {
		set(e)
	}
	h.events = append(h.events, e)
	return h
}

func begin(workflowType string, input *commonpb.Payloads) *dropHistory {
	return new(dropHistory).add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: workflowType}, TaskQueue: &taskqueuepb.TaskQueue{Name: dropQueue}, Attempt: 1, Input: input,
			WorkflowRunTimeout: durationpb.New(time.Hour), WorkflowTaskTimeout: durationpb.New(10 * time.Second),
		}}
	})
}

// task adds the events of a workflow task.
func (h *dropHistory) task() *dropHistory {
	scheduled := int64(len(h.events) + 1)
	return h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{TaskQueue: &taskqueuepb.TaskQueue{Name: dropQueue}, Attempt: 1}}
	}).add(enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowTaskStartedEventAttributes{WorkflowTaskStartedEventAttributes: &historypb.WorkflowTaskStartedEventAttributes{ScheduledEventId: scheduled}}
	})
}

func (h *dropHistory) completed() *dropHistory {
	started := int64(len(h.events))
	return h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{ScheduledEventId: started - 1, StartedEventId: started}}
	})
}

func (h *dropHistory) signal(input *commonpb.Payloads) *dropHistory {
	return h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: "signal", Input: input}}
	})
}

// activity adds an activity with its result.
func (h *dropHistory) activity(result *commonpb.Payloads) *dropHistory {
	scheduled := int64(len(h.events) + 1)
	return h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
			ActivityId: fmt.Sprint(scheduled), ActivityType: &commonpb.ActivityType{Name: "Elsewhere"}, TaskQueue: &taskqueuepb.TaskQueue{Name: dropQueue}, WorkflowTaskCompletedEventId: scheduled - 1,
		}}
	}).add(enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{ScheduledEventId: scheduled}}
	}).add(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: scheduled, StartedEventId: scheduled + 1, Result: result}}
	})
}

// version adds the marker of a version that is not a search attribute.
func (h *dropHistory) version(id, updated, version *commonpb.Payloads) *dropHistory {
	return h.add(enumspb.EVENT_TYPE_MARKER_RECORDED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_MarkerRecordedEventAttributes{MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{
			MarkerName: "Version", WorkflowTaskCompletedEventId: e.GetEventId() - 1,
			Details: map[string]*commonpb.Payloads{"change-id": id, "version-search-attribute-updated": updated, "version": version},
		}}
	})
}

func (h *dropHistory) poll() *workflowservice.PollWorkflowTaskQueueResponse {
	var before int64
	for _, e := range h.events {
		before = max(before, e.GetWorkflowTaskCompletedEventAttributes().GetStartedEventId())
	}
	return &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: []byte("token"), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: rand.Text()}, Attempt: 1, PreviousStartedEventId: before,
		WorkflowType:   h.events[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType(),
		StartedEventId: int64(len(h.events)), ScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(), History: &historypb.History{Events: h.events},
	}
}

// outcome returns how a task was answered: completed, held, refused, or failed permanently.
func outcome(t *testing.T, c *codec.Codec, m proto.Message) (how, why string) {
	t.Helper()
	text := func(f *failurepb.Failure) string {
		return lenientFailures(codec.NewDataConverter(c, "n", nil)).FailureToError(f).Error()
	}
	switch r := m.(type) {
	case *workflowservice.RespondWorkflowTaskFailedRequest:
		return "held", text(r.GetFailure())
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		for _, message := range r.GetMessages() {
			var rejection updatepb.Rejection
			if message.GetBody().UnmarshalTo(&rejection) == nil {
				return "refused", text(rejection.GetFailure())
			}
		}
		for _, command := range r.GetCommands() {
			if f := command.GetFailWorkflowExecutionCommandAttributes(); f != nil {
				return "failed for good", text(f.GetFailure())
			}
		}
		return "completed", ""
	case *workflowservice.RespondQueryTaskCompletedRequest:
		if r.GetCompletedType() == enumspb.QUERY_RESULT_TYPE_FAILED {
			return "refused", text(r.GetFailure())
		}
		return "completed", ""
	case *workflowservice.RespondActivityTaskFailedRequest:
		return "refused", text(r.GetFailure())
	}
	return "completed", ""
}

// Payloads that a server drops do not become zero values where that is refused, and nothing is
// lost: workflow tasks are held; updates, queries and attempts of activities are refused.
func TestDroppedPayloads(t *testing.T) {
	type option = []codec.ConverterOption
	for _, mode := range []struct {
		name    string
		policy  string
		options option
		refused bool
	}{
		{"requireSealed", sealedOnly, nil, true},
		{"requireSealed, not refused", sealedOnly, option{codec.RefuseMissingArguments(false)}, false},
		{"plaintext passes", onePolicy, nil, false},
		{"plaintext passes, refused", onePolicy, option{codec.RefuseMissingArguments(true)}, true},
	} {
		t.Run(mode.name, func(t *testing.T) {
			c, _ := newCodec(t, mode.policy)
			s := startTaskServer(t, codec.NewPlugin(c, mode.options...))
			in := func(values ...any) *commonpb.Payloads {
				var plain []*commonpb.Payload
				for _, v := range values {
					plain = append(plain, payload(t, v))
				}
				return &commonpb.Payloads{Payloads: encode(t, c, "n", plain...)}
			}
			none, empty := (*commonpb.Payloads)(nil), &commonpb.Payloads{}
			query := func(args *commonpb.Payloads) *workflowservice.PollWorkflowTaskQueueResponse {
				task := begin("Queried", none).task().completed().poll()
				task.Query = &querypb.WorkflowQuery{QueryType: "query", QueryArgs: args}
				return task
			}
			update := func(args *commonpb.Payloads) *workflowservice.PollWorkflowTaskQueueResponse {
				body, err := anypb.New(&updatepb.Request{Meta: &updatepb.Meta{UpdateId: "u"}, Input: &updatepb.Input{Name: "update", Args: args}})
				if err != nil {
					t.Fatal(err)
				}
				task := begin("Updated", none).task().poll()
				task.Messages = []*protocolpb.Message{{Id: "u/request", ProtocolInstanceId: "u", Body: body, SequencingId: &protocolpb.Message_EventId{EventId: 2}}}
				return task
			}
			for _, tc := range []struct {
				name string
				task *workflowservice.PollWorkflowTaskQueueResponse
				want string // the result where it is refused
			}{
				{"whole input", begin("Two", in("a", 1)).task().poll(), "completed"},
				{"input without its last argument", begin("Two", in("a")).task().poll(), "held"},
				{"input without its only argument", begin("One", none).task().poll(), "held"},
				{"empty input", begin("One", empty).task().poll(), "held"},
				{"argument too many", begin("One", in("a", 1)).task().poll(), "completed"},
				{"no input for none", begin("Queried", none).task().poll(), "completed"},
				{"whole signal", begin("Signalled", none).signal(in("a")).task().poll(), "completed"},
				{"signal without its argument", begin("Signalled", none).signal(none).task().poll(), "held"},
				{"later signal without its argument", begin("Signalled", none).task().completed().signal(none).task().poll(), "held"},
				{"result", begin("Calling", none).task().completed().activity(in("a")).task().poll(), "completed"},
				{"result that is a nil pointer", begin("Calling", none).task().completed().activity(none).task().poll(), "completed"},
				{"result with a dropped payload", begin("Calling", none).task().completed().activity(empty).task().poll(), "held"},
				{"version", begin("Versioned", none).task().completed().version(in("change"), in(false), in(1)).signal(none).task().poll(), "completed"},
				{"marker without its version", begin("Versioned", none).task().completed().version(in("change"), in(false), empty).signal(none).task().poll(), "held"},
				{"whole update", update(in("a", 1)), "completed"},
				{"update without its last argument", update(in("a")), "refused"},
				{"update without arguments", update(none), "refused"},
				{"whole query", query(in("a")), "completed"},
				{"query without its argument", query(none), "refused"},
			} {
				t.Run(tc.name, func(t *testing.T) {
					s.workflows <- tc.task
					s.check(t, c, mode.refused, tc.want)
				})
			}
			for _, tc := range []struct {
				name, activity string
				input          *commonpb.Payloads
				want           string
			}{
				{"whole activity", "Two", in("a", 1), "completed"},
				{"activity without its last argument", "Two", in("a"), "refused"},
				{"activity without its only argument", "One", none, "refused"},
			} {
				t.Run(tc.name, func(t *testing.T) {
					s.activities <- &workflowservice.PollActivityTaskQueueResponse{
						TaskToken: []byte("token"), WorkflowNamespace: "n", WorkflowType: &commonpb.WorkflowType{Name: "Two"}, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: "run"},
						ActivityType: &commonpb.ActivityType{Name: tc.activity}, ActivityId: "a", Input: tc.input, Attempt: 1,
						ScheduledTime: timestamppb.Now(), CurrentAttemptScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(),
						ScheduleToCloseTimeout: durationpb.New(time.Minute), StartToCloseTimeout: durationpb.New(time.Minute),
					}
					s.check(t, c, mode.refused, tc.want)
				})
			}
		})
	}
}

func (s *taskServer) check(t *testing.T, c *codec.Codec, refused bool, want string) {
	t.Helper()
	if !refused {
		want = "completed"
	}
	how, why := outcome(t, c, s.answer(t))
	if how != want || (want != "completed") != strings.Contains(why, missing) {
		t.Errorf("%s, want %s: %q", how, want, why)
	}
}
