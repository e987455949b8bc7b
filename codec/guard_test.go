package codec_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	_ "go.temporal.io/api/operatorservice/v1" // its requests are walked
	protocolpb "go.temporal.io/api/protocol/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// recorder is a gRPC server that keeps every request, and returns a set response or an empty
// one.
type recorder struct {
	nexus *nexuspb.PropagatedSerializationContext // with which histories are answered
	workflowservice.UnimplementedWorkflowServiceServer
	addr string

	mu       sync.Mutex
	requests []proto.Message
	history  *historypb.History
	task     *workflowservice.PollWorkflowTaskQueueResponse
}

func startRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = lis.Addr().String()
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		r.mu.Lock()
		r.requests = append(r.requests, req.(proto.Message))
		r.mu.Unlock()
		return next(ctx, req)
	}))
	workflowservice.RegisterWorkflowServiceServer(s, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(lis)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return r
}

func (r *recorder) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{}, nil
}

func (r *recorder) StartWorkflowExecution(context.Context, *workflowservice.StartWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, error) {
	return &workflowservice.StartWorkflowExecutionResponse{RunId: "run"}, nil
}

func (r *recorder) SignalWorkflowExecution(context.Context, *workflowservice.SignalWorkflowExecutionRequest) (*workflowservice.SignalWorkflowExecutionResponse, error) {
	return &workflowservice.SignalWorkflowExecutionResponse{}, nil
}

func (r *recorder) GetWorkflowExecutionHistory(context.Context, *workflowservice.GetWorkflowExecutionHistoryRequest) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	return &workflowservice.GetWorkflowExecutionHistoryResponse{History: r.history, PropagatedNexusSerializationContext: r.nexus}, nil
}

func (r *recorder) PollWorkflowTaskQueue(context.Context, *workflowservice.PollWorkflowTaskQueueRequest) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	return r.task, nil
}

// take returns the requests of type T since the last take.
func take[T proto.Message](r *recorder) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []T
	for _, req := range r.requests {
		if m, ok := req.(T); ok {
			out = append(out, m)
		}
	}
	r.requests = nil
	return out
}

const headersPolicy = `
keys: {a: {uri: "fake://a"}}
seal:
  - {match: {namespace: "headers"}, keys: [a], sealHeaders: true}
  - {match: {namespace: "*"}, keys: [a]}
`

func dial(t *testing.T, c *codec.Codec, r *recorder, change func(*client.Options)) client.Client {
	t.Helper()
	o := client.Options{HostPort: r.addr, Namespace: "headers", Plugins: []client.Plugin{codec.NewPlugin(c)}}
	if change != nil {
		change(&o)
	}
	cl, err := client.DialContext(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// tenantHeader propagates a header that holds a canary.
type tenantHeader struct{}

func (tenantHeader) Inject(_ context.Context, w workflow.HeaderWriter) error {
	p, err := converter.GetDefaultDataConverter().ToPayload("CANARY header")
	w.Set("tenant", p)
	return err
}

func (h tenantHeader) InjectFromWorkflow(_ workflow.Context, w workflow.HeaderWriter) error {
	return h.Inject(context.Background(), w)
}

func (tenantHeader) Extract(ctx context.Context, _ workflow.HeaderReader) (context.Context, error) {
	return ctx, nil
}

func (tenantHeader) ExtractToWorkflow(ctx workflow.Context, _ workflow.HeaderReader) (workflow.Context, error) {
	return ctx, nil
}

func start(cl client.Client, memo map[string]any, args ...any) error {
	_, err := cl.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
		ID: "w", TaskQueue: "q", Memo: memo, StaticSummary: "CANARY summary",
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("Customer").ValueSet("public")),
	}, "Order", args...)
	return err
}

func TestPluginSealsARequest(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, func(o *client.Options) { o.ContextPropagators = []workflow.ContextPropagator{tenantHeader{}} })
	if err := start(cl, map[string]any{"m": "CANARY memo"}, "CANARY input"); err != nil {
		t.Fatal(err)
	}
	req := take[*workflowservice.StartWorkflowExecutionRequest](r)[0]
	if strings.Contains(req.String(), "CANARY") {
		t.Fatalf("plaintext on the wire: %s", req)
	}
	sealed := map[string]*commonpb.Payload{
		`"CANARY input"`: req.GetInput().GetPayloads()[0], `"CANARY memo"`: req.GetMemo().GetFields()["m"],
		`"CANARY header"`: req.GetHeader().GetFields()["tenant"], `"CANARY summary"`: req.GetUserMetadata().GetSummary(),
	}
	for want, p := range sealed {
		if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "headers"}, []*commonpb.Payload{p})[0]; d.Err != nil || !d.Sealed || string(d.Payload.GetData()) != want {
			t.Errorf("%s: %+v", want, d)
		}
	}
	if p := req.GetSearchAttributes().GetIndexedFields()["Customer"]; string(p.GetData()) != `"public"` {
		t.Errorf("search attribute %v", p)
	}
}

func TestGuardRefuses(t *testing.T) {
	sealedBy := func(c *codec.Codec) *commonpb.Payload { return encode(t, c, "headers", payload(t, "x"))[0] }
	storageRef := &commonpb.Payload{
		Metadata:         map[string][]byte{"encoding": []byte("json/protobuf"), "messageType": []byte("temporal.api.sdk.v1.ExternalStorageReference")},
		Data:             []byte(`{"driverName":"s3"}`),
		ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 10}},
	}
	for _, tc := range []struct {
		name    string
		payload func(*codec.Codec) *commonpb.Payload
		storage bool
		sent    bool
	}{
		{"sealed", sealedBy, false, true},
		{"plaintext", func(*codec.Codec) *commonpb.Payload { return payload(t, "CANARY") }, false, false},
		{"empty", func(*codec.Codec) *commonpb.Payload { return &commonpb.Payload{} }, false, false},
		{"merely says it is sealed", func(*codec.Codec) *commonpb.Payload {
			return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(codec.Encoding), codec.MetadataKeyIDs: []byte("fake://a")}, Data: []byte("CANARY")}
		}, false, false},
		{"marked as the SDK's own", func(*codec.Codec) *commonpb.Payload {
			data, err := proto.Marshal(&commonpb.WorkflowType{Name: "CANARY"})
			if err != nil {
				t.Fatal(err)
			}
			return &commonpb.Payload{Metadata: map[string][]byte{
				"encoding": []byte("binary/protobuf"), "messageType": []byte("temporal.api.common.v1.WorkflowType"), proxy.SystemPayloadMetadataKey: []byte("true"),
			}, Data: data}
		}, false, false},
		{"sealed, keys unnamed", func(c *codec.Codec) *commonpb.Payload {
			p := sealedBy(c)
			delete(p.Metadata, codec.MetadataKeyIDs)
			return p
		}, false, false},
		{"sealed, with plaintext in its metadata", func(c *codec.Codec) *commonpb.Payload {
			p := sealedBy(c)
			p.Metadata["note"] = []byte("CANARY")
			return p
		}, false, false},
		{"storage reference without external storage", func(*codec.Codec) *commonpb.Payload { return storageRef }, false, false},
		{"storage reference with external storage", func(*codec.Codec) *commonpb.Payload { return storageRef }, true, true},
		{"says it is a storage reference", func(*codec.Codec) *commonpb.Payload {
			return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/external-storage-reference")}, Data: []byte("CANARY")}
		}, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newCodec(t, headersPolicy)
			r := startRecorder(t)
			cl := dial(t, c, r, func(o *client.Options) {
				if tc.storage {
					o.ExternalStorage = converter.ExternalStorage{Drivers: []converter.StorageDriver{noDriver{}}}
				}
			})
			_, err := cl.WorkflowService().SignalWorkflowExecution(t.Context(), &workflowservice.SignalWorkflowExecutionRequest{
				Namespace: "headers", Input: &commonpb.Payloads{Payloads: []*commonpb.Payload{tc.payload(c)}},
			})
			if tc.sent != (err == nil) || tc.sent != (len(take[*workflowservice.SignalWorkflowExecutionRequest](r)) == 1) {
				t.Fatalf("sent: %v, %v", !tc.sent, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "refused to send SignalWorkflowExecution: denied: a payload in SignalWorkflowExecutionRequest is not sealed") || strings.Contains(err.Error(), "CANARY")) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

type noDriver struct{ converter.StorageDriver }

func (noDriver) Name() string { return "none" }
func (noDriver) Type() string { return "none" }

func TestMemoFallbackIsRefused(t *testing.T) {
	c, backend := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, nil)
	backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	_, err := cl.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "w", TaskQueue: "q", Memo: map[string]any{"m": "CANARY"}}, "Order")
	if err == nil || !strings.Contains(err.Error(), "refused to send StartWorkflowExecution") || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("got %v", err)
	}
	if n := len(take[*workflowservice.StartWorkflowExecutionRequest](r)); n != 0 {
		t.Errorf("%d requests left", n)
	}
}

func TestPlaintextHeaderIsRefusedUnlessSealed(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, func(o *client.Options) {
		o.Namespace = "other"
		o.ContextPropagators = []workflow.ContextPropagator{tenantHeader{}}
	})
	err := start(cl, nil)
	if err == nil || !strings.Contains(err.Error(), "sealHeaders: true") || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("got %v", err)
	}
	if n := len(take[*workflowservice.StartWorkflowExecutionRequest](r)); n != 0 {
		t.Errorf("%d requests left", n)
	}
}

func TestHeaderThatCannotBeSealed(t *testing.T) {
	for class, want := range map[kms.Class]codes.Code{kms.Unavailable: codes.Unavailable, kms.Throttled: codes.Unavailable, kms.Denied: codes.FailedPrecondition, kms.Disabled: codes.FailedPrecondition} {
		t.Run(class.String(), func(t *testing.T) {
			c, backend := newCodec(t, headersPolicy+"resilience: {attempts: 1}\n")
			r := startRecorder(t)
			cl := dial(t, c, r, nil)
			backend.Fake("a").Always(kmstest.Fail(class))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := cl.WorkflowService().SignalWorkflowExecution(ctx, &workflowservice.SignalWorkflowExecutionRequest{
				Namespace: "headers", Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": payload(t, "CANARY")}},
			})
			if s := serviceerror.ToStatus(err); s.Code() != want || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("code %v, want %v: %v", s.Code(), want, err)
			}
			if n := len(take[*workflowservice.SignalWorkflowExecutionRequest](r)); n != 0 {
				t.Errorf("%d requests left", n)
			}
		})
	}
}

// If the caller's deadline ends while the KMS is retried, the error says so, and not that the
// request is invalid.
func TestHeaderThatCannotBeSealedInTime(t *testing.T) {
	c, backend := newCodec(t, headersPolicy)
	cl := dial(t, c, startRecorder(t), nil)
	backend.Fake("a").Always(kmstest.Stall())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := cl.WorkflowService().SignalWorkflowExecution(ctx, &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: "headers", Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": payload(t, "CANARY")}},
	})
	if s := serviceerror.ToStatus(err); s.Code() != codes.DeadlineExceeded || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("code %v: %v", s.Code(), err)
	}
}

func TestGuardDoesNotMutateRequests(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, nil)
	req := &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: "headers", Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": payload(t, "CANARY")}},
	}
	want := proto.CloneOf(req)
	for range 2 {
		if _, err := cl.WorkflowService().SignalWorkflowExecution(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if !proto.Equal(req, want) {
		t.Error("the caller's request was changed")
	}
	for _, got := range take[*workflowservice.SignalWorkflowExecutionRequest](r) {
		if !codec.ClaimsSealed(got.GetHeader().GetFields()["h"]) {
			t.Errorf("sent %v", got)
		}
	}
}

// The SDK's visitor writes back what it visits, into maps that callers share. The guard must
// not.
func TestGuardOnlyReadsWhatItChecks(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, nil)
	shared := &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": encode(t, c, "headers", payload(t, "x"))[0]}}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				_, err := cl.WorkflowService().SignalWorkflowExecution(t.Context(), &workflowservice.SignalWorkflowExecutionRequest{Namespace: "headers", Header: shared})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A request with a plaintext payload, in any place that can hold one, is refused or sealed.
func TestGuardSeesEveryPlaceOfEveryRequest(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	places := 0
	for _, name := range []protoreflect.FullName{"temporal.api.workflowservice.v1.WorkflowService", "temporal.api.operatorservice.v1.OperatorService"} {
		service, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		methods := service.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			if methods.Get(i).IsStreamingClient() || methods.Get(i).IsStreamingServer() {
				t.Errorf("%s streams: the guard is for unary calls only", methods.Get(i).FullName())
			}
			request, err := protoregistry.GlobalTypes.FindMessageByName(methods.Get(i).Input().FullName())
			if err != nil {
				t.Fatal(err)
			}
			eachPlace(request.Descriptor(), nil, func(path []protoreflect.FieldDescriptor) {
				places++
				req := request.New()
				put(t, req, path, payload(t, "CANARY"))
				if err := leaves(t, c, req.Interface()); err != nil {
					t.Errorf("%s with a payload at %v: %v", req.Descriptor().Name(), path, err)
				}
			})
		}
	}
	if places < 100 {
		t.Errorf("%d places for payloads: are these all requests?", places)
	}
	for name, body := range map[string]proto.Message{
		"payload": &updatepb.Request{Input: &updatepb.Input{Args: &commonpb.Payloads{Payloads: []*commonpb.Payload{payload(t, "CANARY")}}}},
		"itself":  payload(t, "CANARY"),
		"list":    &commonpb.Payloads{Payloads: []*commonpb.Payload{payload(t, "CANARY")}},
		"null":    &updatepb.Request{Input: &updatepb.Input{Args: &commonpb.Payloads{Payloads: []*commonpb.Payload{nil}}}},
	} {
		wrapped, err := anypb.New(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := codec.Outgoing(t.Context(), c, "n", "Method", &workflowservice.RespondWorkflowTaskCompletedRequest{Messages: []*protocolpb.Message{{Body: wrapped}}}); err == nil {
			t.Errorf("%s in an Any passes", name)
		}
	}
	unknown := &workflowservice.RespondWorkflowTaskCompletedRequest{Messages: []*protocolpb.Message{{Body: &anypb.Any{TypeUrl: "type.googleapis.com/not.Known", Value: []byte("CANARY")}}}}
	if _, err := codec.Outgoing(t.Context(), c, "n", "Method", unknown); err == nil || !strings.Contains(err.Error(), "not known here") || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("a message of an unknown type: %v", err)
	}
	if _, err := codec.Outgoing(t.Context(), c, "n", "Method", &workflowservice.SignalWorkflowExecutionRequest{Input: &commonpb.Payloads{Payloads: []*commonpb.Payload{nil}}}); err == nil {
		t.Error("a null payload passes")
	}
}

// leaves returns an error if plaintext of a request leaves, or is quoted in the refusal.
func leaves(t *testing.T, c *codec.Codec, req proto.Message) error {
	t.Helper()
	sent, err := codec.Outgoing(t.Context(), c, "n", "Method", req)
	if err != nil {
		if strings.Contains(err.Error(), "CANARY") {
			return err
		}
		return nil
	}
	encoded, err := proto.Marshal(sent)
	if err == nil && strings.Contains(string(encoded), "CANARY") {
		err = errors.New("it leaves")
	}
	return err
}

// eachPlace calls f with the path to every payload that a message can hold, through each type
// once, except in search attributes.
func eachPlace(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor, f func([]protoreflect.FieldDescriptor)) {
	switch d.FullName() {
	case "temporal.api.common.v1.Payload":
		f(path)
		return
	case "temporal.api.common.v1.SearchAttributes":
		return
	}
	for _, field := range path[:max(len(path)-1, 0)] {
		if in := field.Message(); in == d || field.IsMap() && field.MapValue().Message() == d {
			return
		}
	}
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		child := field.Message()
		if field.IsMap() {
			child = field.MapValue().Message()
		}
		if child != nil {
			eachPlace(child, append(slices.Clone(path), field), f)
		}
	}
}

// put sets p at path, and creates the messages on the way.
func put(t *testing.T, m protoreflect.Message, path []protoreflect.FieldDescriptor, p *commonpb.Payload) {
	if len(path) == 0 {
		proto.Merge(m.Interface(), p)
		return
	}
	switch field := path[0]; {
	case field.IsMap():
		v := m.Mutable(field).Map().NewValue()
		put(t, v.Message(), path[1:], p)
		key := protoreflect.ValueOfString("k")
		if field.MapKey().Kind() != protoreflect.StringKind {
			key = protoreflect.ValueOfInt64(1)
		}
		m.Mutable(field).Map().Set(key.MapKey(), v)
	case field.IsList():
		v := m.Mutable(field).List().AppendMutable()
		put(t, v.Message(), path[1:], p)
	default:
		put(t, m.Mutable(field).Message(), path[1:], p)
	}
}
