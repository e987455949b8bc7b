package codec_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// secretNumber is a canary that is an integer: as an amount, and as nanoseconds.
const secretNumber = 471_108_154_711

// outgoing is a client and a worker with the plugin, and a scripted server that hands out tasks
// to the worker. The server looks for canaries in every byte of every request.
type outgoing struct {
	testing.TB

	secrets *secrets
	server  *wireServer
	codec   *codec.Codec
	client  client.Client
	worker  worker.Worker
	tasks   int
	sent    chan proto.Message // requests that passed the guard, in order
}

const (
	outgoingNamespace = "n"
	outgoingQueue     = "q"
)

// outgoingPolicy seals headers, and accepts no plaintext.
const outgoingPolicy = `
keys: {a: {uri: "fake://a"}}
seal: [{match: {namespace: "*"}, keys: [a], sealHeaders: true, requireSealed: true}]
`

func newOutgoing(t *testing.T, retiredChanges ...string) *outgoing {
	t.Helper()
	fake := kmstest.NewFake("a")
	p, err := policy.Parse("test.yaml", []byte(outgoingPolicy))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(kmstest.NewBackend(fake)), RetiredChanges: retiredChanges})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	o := &outgoing{TB: t, secrets: newSecrets(rand.New(rand.NewPCG(1, 2))), sent: make(chan proto.Message, 1000), codec: c}
	o.server = startWireServer(t, o.secrets, newCodecOn(t, outgoingPolicy, kmstest.NewBackend(fake.Reopen())))
	t.Cleanup(o.noLeak)
	o.client, err = client.DialContext(t.Context(), client.Options{
		HostPort: o.server.addr, Namespace: outgoingNamespace, Plugins: []client.Plugin{codec.NewPlugin(c), &listener{of: o}}, Logger: unlogged{},
		ContextPropagators: []workflow.ContextPropagator{carryHeader{}}, WorkerHeartbeatInterval: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.client.Close)
	return o
}

// start starts a worker, after register.
func (o *outgoing) start(register func(worker.Worker)) {
	o.Helper()
	o.worker = worker.New(o.client, outgoingQueue, worker.Options{EnableSessionWorker: true, MaxConcurrentWorkflowTaskPollers: 2, MaxConcurrentActivityTaskPollers: 1, MaxConcurrentNexusTaskPollers: 1})
	register(o.worker)
	if err := o.worker.Start(); err != nil {
		o.Fatal(err)
	}
	o.Cleanup(o.worker.Stop)
}

// secret returns a canary that is a string.
func (o *outgoing) secret(what string) string { return o.secrets.of(1, what) }

// seal seals a value for the worker's namespace, as if the program had sealed it before.
func (o *outgoing) seal(value any) *commonpb.Payload {
	o.Helper()
	return encode(o, o.codec, outgoingNamespace, payload(o, value))[0]
}

func (o *outgoing) sealed(values ...any) *commonpb.Payloads {
	o.Helper()
	out := &commonpb.Payloads{}
	for _, v := range values {
		out.Payloads = append(out.Payloads, o.seal(v))
	}
	return out
}

// give hands the worker a task.
func (o *outgoing) give(kind, queue string, task proto.Message) { o.server.queue(kind, queue) <- task }

// wait returns the next request of one type that left.
func wait[T proto.Message](o *outgoing) T {
	o.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		select {
		case m := <-o.sent:
			if r, ok := m.(T); ok {
				return r
			}
			switch m.(type) {
			case *workflowservice.RespondWorkflowTaskFailedRequest, *workflowservice.RespondWorkflowTaskCompletedRequest:
				o.Fatalf("a task ended with %v", m)
			}
		case <-deadline.C:
			o.Fatalf("no %T left", *new(T))
		}
	}
}

// failed returns the text of the next task that fails, opened if it is sealed.
func (o *outgoing) failed() string {
	o.Helper()
	return o.text(wait[*workflowservice.RespondWorkflowTaskFailedRequest](o).GetFailure())
}

// converter is the worker's. So is failures, below.
func (o *outgoing) converter() converter.DataConverter {
	return codec.NewDataConverter(o.codec, outgoingNamespace, nil)
}

func (o *outgoing) failures() converter.FailureConverter {
	return codec.NewFailureConverter(o.converter())
}

// lenientFailures opens failures with dc, and does not withhold plaintext as the failure
// converter of this package does under requireSealed: the guard's own texts are plaintext.
func lenientFailures(dc converter.DataConverter) converter.FailureConverter {
	return temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})
}

// text returns the texts of a failure that left, and of its causes, opened if sealed.
func (o *outgoing) text(f *failurepb.Failure) string {
	var all []string
	for err := lenientFailures(o.converter()).FailureToError(f); err != nil; err = errors.Unwrap(err) {
		all = append(all, err.Error())
	}
	return strings.Join(all, ": ")
}

// noLeak fails the test if a canary left in plaintext.
func (o *outgoing) noLeak() {
	o.Helper()
	for _, leak := range o.server.Leaks() {
		o.Error(leak)
	}
}

// history is the history of a workflow after its first task: events that came with its
// completion and after it, and a second task.
func (o *outgoing) history(input *commonpb.Payloads, events ...*historypb.HistoryEvent) *historypb.History {
	queue := &taskqueuepb.TaskQueue{Name: outgoingQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
	run := o.run()
	first := []*historypb.HistoryEvent{
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: "Workflow"}, TaskQueue: queue, Input: input, Attempt: 1, FirstExecutionRunId: run, OriginalExecutionRunId: run,
			WorkflowRunTimeout: durationpb.New(time.Hour), WorkflowTaskTimeout: durationpb.New(10 * time.Second),
		}}},
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{TaskQueue: queue, Attempt: 1}}},
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, Attributes: &historypb.HistoryEvent_WorkflowTaskStartedEventAttributes{WorkflowTaskStartedEventAttributes: &historypb.WorkflowTaskStartedEventAttributes{ScheduledEventId: 2}}},
	}
	if len(events) > 0 {
		completed := &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{
			WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{ScheduledEventId: 2, StartedEventId: 3},
		}}
		again := []*historypb.HistoryEvent{proto.CloneOf(first[1]), proto.CloneOf(first[2])}
		again[1].GetWorkflowTaskStartedEventAttributes().ScheduledEventId = int64(5 + len(events))
		first = slices.Concat(first, []*historypb.HistoryEvent{completed}, events, again)
	}
	for i, e := range first {
		e.EventId, e.EventTime = int64(i+1), timestamppb.Now()
	}
	return &historypb.History{Events: first}
}

func (o *outgoing) run() string { return fmt.Sprint("run-", o.tasks) }

// workflowTask is a task of a new workflow.
func (o *outgoing) workflowTask(input *commonpb.Payloads, events ...*historypb.HistoryEvent) *workflowservice.PollWorkflowTaskQueueResponse {
	o.tasks++
	h := o.history(input, events...)
	task := &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: []byte(o.run()), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: fmt.Sprint("id-", o.tasks), RunId: o.run()}, WorkflowType: &commonpb.WorkflowType{Name: "Workflow"},
		StartedEventId: int64(len(h.GetEvents())), Attempt: 1, ScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(), History: h,
	}
	if len(events) > 0 {
		task.PreviousStartedEventId = 3
	}
	return task
}

// queryTask is a query of a workflow with a completed first task and no later one.
func (o *outgoing) queryTask(kind string, args, input *commonpb.Payloads, events ...*historypb.HistoryEvent) *workflowservice.PollWorkflowTaskQueueResponse {
	events = append(events, signalEvent("unread", nil))
	task := o.workflowTask(input, events...)
	task.Query = &querypb.WorkflowQuery{QueryType: kind, QueryArgs: args}
	return task
}

// markerEvent is a marker of the SDK, with content that the server chose.
func markerEvent(name string, details map[string]*commonpb.Payloads) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_MARKER_RECORDED, Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{
		MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{MarkerName: name, Details: details, WorkflowTaskCompletedEventId: 4},
	}}
}

// signalEvent is a signal that arrived after the first task.
func signalEvent(name string, input *commonpb.Payloads) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{
		WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: name, Input: input},
	}}
}

// listener records requests that passed the guard.
type listener struct {
	client.PluginBase
	of *outgoing
}

func (*listener) Name() string { return "listener" }

func (l *listener) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	c := &o.ClientOptions.ConnectionOptions
	c.DialOptions = append(slices.Clip(c.DialOptions), grpc.WithChainUnaryInterceptor(l.observe))
	return nil
}

func (l *listener) observe(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	m := proto.Clone(req.(proto.Message))
	if text, err := protojson.Marshal(m); err == nil {
		for _, number := range []string{fmt.Sprint(secretNumber), "471.108154711"} {
			if strings.Contains(string(text), number) {
				l.of.server.leak("%s: %s", path.Base(method), number)
			}
		}
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	l.of.sent <- m
	return err
}

// unlogged discards the SDK's log, which is plaintext and stays in the process.
type unlogged struct{}

var _ log.Logger = unlogged{}

func (unlogged) Debug(string, ...any) {}
func (unlogged) Info(string, ...any)  {}
func (unlogged) Warn(string, ...any)  {}
func (unlogged) Error(string, ...any) {}

// carryHeader passes one header on, as a program's propagator does.
type carryHeader struct{}

type carriedHeader struct{}

func (carryHeader) Inject(ctx context.Context, w workflow.HeaderWriter) error {
	if p, ok := ctx.Value(carriedHeader{}).(*commonpb.Payload); ok {
		w.Set("carried", p)
	}
	return nil
}

func (carryHeader) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	if p, ok := ctx.Value(carriedHeader{}).(*commonpb.Payload); ok {
		w.Set("carried", p)
	}
	return nil
}

func (carryHeader) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	if p, ok := r.Get("carried"); ok {
		return context.WithValue(ctx, carriedHeader{}, p), nil
	}
	return ctx, nil
}

func (carryHeader) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	if p, ok := r.Get("carried"); ok {
		return workflow.WithValue(ctx, carriedHeader{}, p), nil
	}
	return ctx, nil
}
