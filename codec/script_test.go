package codec_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waxseal/waxseal/codec"
)

const scriptQueue = "tasks"

// station is a client and its worker, of the real SDK, connected to a scripted server.
type station struct {
	t      *testing.T
	server *wireServer
	client client.Client
	sent   chan proto.Message // all requests that left, behind the guard

	mu    sync.Mutex
	reply func(req, reply proto.Message)
}

// answers changes the server's responses, except to polls.
func (s *station) answers(change func(req, reply proto.Message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = change
}

// newStation connects a client to a new server, and starts a worker.
func newStation(t *testing.T, o client.Options, register func(worker.Registry)) *station {
	t.Helper()
	keys, _ := newCodec(t, onePolicy) // the server opens nothing, and its findings are ignored
	s := &station{t: t, server: startWireServer(t, newSecrets(rand.New(rand.NewPCG(1, 2))), keys), sent: make(chan proto.Message, 1000)}
	o.HostPort = s.server.addr
	o.Plugins = append(slices.Clip(o.Plugins), &behindGuard{station: s})
	o = quiet(o)
	cl, err := client.DialContext(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	s.client = cl
	s.work(cl, register)
	return s
}

// work starts a worker of a client at the station's server.
func (s *station) work(cl client.Client, register func(worker.Registry)) {
	s.t.Helper()
	w := worker.New(cl, scriptQueue, worker.Options{MaxConcurrentWorkflowTaskPollers: 2, MaxConcurrentActivityTaskPollers: 1, MaxConcurrentNexusTaskPollers: 1})
	register(w)
	if err := w.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(w.Stop)
}

func quiet(o client.Options) client.Options {
	if o.Logger == nil {
		o.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	}
	return o
}

// withPlugin are the options of a client with the plugin, converterAlone the options of one
// without.
func withPlugin(c *codec.Codec, namespace string) client.Options {
	return client.Options{Namespace: namespace, Plugins: []client.Plugin{codec.NewPlugin(c)}}
}

func converterAlone(c *codec.Codec, namespace string) client.Options {
	dc := codec.NewDataConverter(c, namespace, nil)
	return client.Options{Namespace: namespace, DataConverter: dc, FailureConverter: codec.NewFailureConverter(dc)}
}

// behindGuard stands behind the guard.
type behindGuard struct {
	client.PluginBase
	station *station
}

func (*behindGuard) Name() string { return "behindGuard" }

func (r *behindGuard) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	c := &o.ClientOptions.ConnectionOptions
	c.DialOptions = append(slices.Clip(c.DialOptions), grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if name := path.Base(method); name[:min(4, len(name))] != "Poll" {
			r.station.sent <- proto.Clone(req.(proto.Message))
			r.station.mu.Lock()
			change := r.station.reply
			r.station.mu.Unlock()
			if change != nil {
				change(req.(proto.Message), reply.(proto.Message))
			}
		}
		return err
	}))
	return nil
}

// answer returns the first request that leaves with a task token.
func (s *station) answer(token string) proto.Message {
	s.t.Helper()
	late := time.NewTimer(time.Minute) // the test proves nothing about time, and machines are slow
	defer late.Stop()
	for {
		select {
		case req := <-s.sent:
			r, ok := req.(interface{ GetTaskToken() []byte })
			if _, beat := req.(*workflowservice.RecordActivityTaskHeartbeatRequest); ok && !beat && string(r.GetTaskToken()) == token {
				return req
			}
		case <-late.C:
			s.t.Fatalf("no answer to %s", token)
		}
	}
}

// do lets the worker do a task, and returns its answer.
func (s *station) do(kind string, task proto.Message) proto.Message {
	s.t.Helper()
	s.server.queue(kind, scriptQueue) <- task
	return s.answer(string(task.(interface{ GetTaskToken() []byte }).GetTaskToken()))
}

// activityTask is a task of an activity "Do" of workflow "w".
func activityTask(token, namespace string, input ...*commonpb.Payload) *workflowservice.PollActivityTaskQueueResponse {
	return &workflowservice.PollActivityTaskQueueResponse{
		TaskToken: []byte(token), WorkflowNamespace: namespace, WorkflowType: &commonpb.WorkflowType{Name: "Order"},
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: "run"}, ActivityType: &commonpb.ActivityType{Name: "Do"}, ActivityId: "a",
		Input: payloads(input...), Attempt: 1, ScheduledTime: timestamppb.Now(), CurrentAttemptScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(),
		ScheduleToCloseTimeout: durationpb.New(time.Minute), StartToCloseTimeout: durationpb.New(time.Minute), HeartbeatTimeout: durationpb.New(time.Minute),
	}
}

// history is the server's history of workflow "w" of type "Order".
type history struct {
	events []*historypb.HistoryEvent
	before int64 // when the last answered workflow task started
}

// add adds an event. The type of its attributes determines its own.
func (h *history) add(kind enumspb.EventType, attributes proto.Message) *history {
	e := &historypb.HistoryEvent{EventId: int64(len(h.events) + 1), EventType: kind, EventTime: timestamppb.Now()}
	m := e.ProtoReflect()
	fields := m.Descriptor().Oneofs().ByName("attributes").Fields()
	for i := range fields.Len() {
		if fields.Get(i).Message() == attributes.ProtoReflect().Descriptor() {
			m.Set(fields.Get(i), protoreflect.ValueOfMessage(attributes.ProtoReflect()))
		}
	}
	h.events = append(h.events, e)
	return h
}

// begun is a history that begins with a workflow's start.
func begun(input ...*commonpb.Payload) *history {
	return new(history).add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowType: &commonpb.WorkflowType{Name: "Order"}, TaskQueue: &taskqueuepb.TaskQueue{Name: scriptQueue}, Attempt: 1,
		FirstExecutionRunId: "run", OriginalExecutionRunId: "run", Input: payloads(input...),
		WorkflowRunTimeout: durationpb.New(time.Hour), WorkflowTaskTimeout: durationpb.New(10 * time.Second),
	})
}

// task adds a workflow task that the worker answered.
func (h *history) task() *history {
	h.open()
	last := int64(len(h.events))
	h.before = last
	return h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, &historypb.WorkflowTaskCompletedEventAttributes{ScheduledEventId: last - 1, StartedEventId: last})
}

// open begins a workflow task.
func (h *history) open() *history {
	h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, &historypb.WorkflowTaskScheduledEventAttributes{TaskQueue: &taskqueuepb.TaskQueue{Name: scriptQueue}, Attempt: 1})
	return h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, &historypb.WorkflowTaskStartedEventAttributes{ScheduledEventId: int64(len(h.events))})
}

// poll returns a task with this history.
func (h *history) poll(token string) *workflowservice.PollWorkflowTaskQueueResponse {
	h.open()
	return &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: []byte(token), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: "run"}, WorkflowType: &commonpb.WorkflowType{Name: "Order"},
		StartedEventId: int64(len(h.events)), PreviousStartedEventId: h.before, Attempt: 1, ScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(),
		History: &historypb.History{Events: h.events}, WorkflowExecutionTaskQueue: &taskqueuepb.TaskQueue{Name: scriptQueue},
	}
}

// sights records what user code received.
type sights struct {
	mu  sync.Mutex
	all []string
}

func (s *sights) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, what)
}

func (s *sights) take() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, s.all = s.all, nil
	return all
}

// request returns the next request that leaves and that wanted accepts.
func (s *station) request(wanted func(proto.Message) bool) proto.Message {
	s.t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for {
		select {
		case req := <-s.sent:
			if wanted(req) {
				return req
			}
		case <-late.C:
			s.t.Fatal("no such request")
		}
	}
}

func startOf(id string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{ID: id, TaskQueue: scriptQueue}
}
