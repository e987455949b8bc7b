package codec_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec"
)

// rawBytes has gRPC hand over messages as they came, with what no type of ours
// would show.
type rawBytes struct{}

func (rawBytes) Name() string { return "proto" }

func (rawBytes) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawBytes) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// wireServer stands in for a Temporal server. It looks for secrets in the bytes
// of every request, whatever its method, and notes which come out of envelopes.
type wireServer struct {
	addr    string
	secrets *secrets
	opener  *codec.Codec // a healthy one

	mu        sync.Mutex
	leaks     []string
	requests  map[string]int                                    // by method
	fields    map[string]bool                                   // in which a sealed payload came
	opened    map[string]bool                                   // secrets that came out of envelopes
	schedules map[string]*workflowservice.CreateScheduleRequest // by namespace and ID
	queues    map[string]chan proto.Message
}

func startWireServer(t *testing.T, s *secrets, opener *codec.Codec) *wireServer {
	t.Helper()
	w := &wireServer{
		secrets: s, opener: opener, requests: make(map[string]int), fields: make(map[string]bool), opened: make(map[string]bool),
		schedules: make(map[string]*workflowservice.CreateScheduleRequest), queues: make(map[string]chan proto.Message),
	}
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = lis.Addr().String()
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawBytes{}), grpc.UnknownServiceHandler(w.handle))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return w
}

// handle serves any method of any service.
func (w *wireServer) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	var raw []byte
	if err := stream.RecvMsg(&raw); err != nil {
		return err
	}
	service, name, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	md, _ := metadata.FromIncomingContext(stream.Context())
	if where := w.secrets.find([]byte(fmt.Sprint(md))); where != "" {
		w.leak("%s: %s in its gRPC metadata", name, where)
	}
	if where := w.secrets.find(raw); where != "" {
		w.leak("%s: %s", name, where)
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return status.Errorf(codes.Unimplemented, "no service %s", service)
	}
	method := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	req, err := parseAs(method.Input().FullName(), raw)
	if err != nil {
		return err
	}
	if err := w.open(context.WithoutCancel(stream.Context()), name, req); err != nil {
		w.leak("%s: %v", name, err)
	}
	reply := w.answer(stream.Context(), req)
	if reply == nil {
		if reply, err = parseAs(method.Output().FullName(), nil); err != nil {
			return err
		}
	}
	out, err := proto.Marshal(reply)
	if err != nil {
		return err
	}
	return stream.SendMsg(&out)
}

func parseAs(name protoreflect.FullName, raw []byte) (proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, err
	}
	m := t.New().Interface()
	return m, proto.Unmarshal(raw, m)
}

func (w *wireServer) leak(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaks = append(w.leaks, fmt.Sprintf(format, args...))
}

// open opens all payloads of a request, and notes the secrets in them.
func (w *wireServer) open(ctx context.Context, method string, req proto.Message) error {
	found := make(map[string]bool)
	fields := make(map[string]bool)
	err := findPayloads(req.ProtoReflect(), "", func(field string, p *commonpb.Payload) error {
		if field == "temporal.api.common.v1.SearchAttributes.indexed_fields" {
			return nil
		}
		d := w.opener.Decode(ctx, "", []*commonpb.Payload{p})[0]
		if d.Err != nil || !d.Sealed {
			return fmt.Errorf("%s: sealed %v, %w", field, d.Sealed, d.Err)
		}
		fields[field] = true
		b, err := proto.Marshal(d.Payload)
		if err != nil {
			return err
		}
		for _, s := range w.secrets.all(b) {
			found[s] = true
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests[method]++
	for s := range found {
		w.opened[s] = true
	}
	for f := range fields {
		w.fields[f] = true
	}
	return err
}

// hasOpened reports whether a secret came out of an envelope.
func (w *wireServer) hasOpened(secret string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened[secret]
}

// findPayloads is a walk of its own, so that the guard's is not checked by
// itself. It also looks into the failures that Nexus carries as JSON.
func findPayloads(m protoreflect.Message, in string, f func(field string, p *commonpb.Payload) error) error {
	switch v := m.Interface().(type) {
	case *commonpb.Payload:
		return f(in, v)
	case *anypb.Any:
		inner, err := v.UnmarshalNew()
		if err != nil {
			return err
		}
		return findPayloads(inner.ProtoReflect(), in, f)
	case *nexuspb.Failure:
		if len(v.GetDetails()) > 0 {
			var failure failurepb.Failure
			if err := protojson.Unmarshal(v.GetDetails(), &failure); err != nil {
				return err
			}
			if err := findPayloads(failure.ProtoReflect(), in, f); err != nil {
				return err
			}
		}
	}
	var errs []error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(fd.FullName())
		if name == "temporal.api.common.v1.Payloads.payloads" {
			name = in
		}
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				errs = append(errs, findPayloads(v.Message(), name, f))
				return true
			})
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				errs = append(errs, findPayloads(v.List().Get(i).Message(), name, f))
			}
		default:
			errs = append(errs, findPayloads(v.Message(), name, f))
		}
		return true
	})
	return errors.Join(errs...)
}

// queue returns the tasks of one kind that wait for the workers of a task queue.
func (w *wireServer) queue(kind, taskQueue string) chan proto.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := kind + " " + taskQueue
	if w.queues[name] == nil {
		w.queues[name] = make(chan proto.Message, 1)
	}
	return w.queues[name]
}

// poll waits for a task; nil if there is none before the worker gives up.
func (w *wireServer) poll(ctx context.Context, kind, taskQueue string) proto.Message {
	select {
	case task := <-w.queue(kind, taskQueue):
		return task
	case <-ctx.Done():
		return nil
	}
}

// answer is what a Temporal server might say; nil is an empty reply.
func (w *wireServer) answer(ctx context.Context, req proto.Message) proto.Message {
	switch r := req.(type) {
	case *workflowservice.GetSystemInfoRequest:
		return &workflowservice.GetSystemInfoResponse{ServerVersion: "1.32.1", Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{
			SignalAndQueryHeader: true, InternalErrorDifferentiation: true, ActivityFailureIncludeHeartbeat: true, SupportsSchedules: true,
			EncodedFailureAttributes: true, UpsertMemo: true, SdkMetadata: true, CountGroupByExecutionStatus: true, Nexus: true,
		}}
	case *workflowservice.DescribeNamespaceRequest:
		return &workflowservice.DescribeNamespaceResponse{NamespaceInfo: &namespacepb.NamespaceInfo{
			Name: r.GetNamespace(), State: enumspb.NAMESPACE_STATE_REGISTERED, Capabilities: &namespacepb.NamespaceInfo_Capabilities{WorkerHeartbeats: true},
		}}
	case *workflowservice.StartWorkflowExecutionRequest:
		return &workflowservice.StartWorkflowExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.SignalWithStartWorkflowExecutionRequest:
		return &workflowservice.SignalWithStartWorkflowExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.StartActivityExecutionRequest:
		return &workflowservice.StartActivityExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.StartNexusOperationExecutionRequest:
		return &workflowservice.StartNexusOperationExecutionResponse{RunId: "run", Started: true}
	case *workflowservice.UpdateWorkflowExecutionRequest:
		return w.updated(r)
	case *workflowservice.ExecuteMultiOperationRequest:
		out := &workflowservice.ExecuteMultiOperationResponse{}
		for _, op := range r.GetOperations() {
			one := &workflowservice.ExecuteMultiOperationResponse_Response{Response: &workflowservice.ExecuteMultiOperationResponse_Response_StartWorkflow{
				StartWorkflow: &workflowservice.StartWorkflowExecutionResponse{RunId: "run", Started: true},
			}}
			if u := op.GetUpdateWorkflow(); u != nil {
				one.Response = &workflowservice.ExecuteMultiOperationResponse_Response_UpdateWorkflow{UpdateWorkflow: w.updated(u)}
			}
			out.Responses = append(out.Responses, one)
		}
		return out
	case *workflowservice.QueryWorkflowRequest: // the arguments come back as the result
		return &workflowservice.QueryWorkflowResponse{QueryResult: r.GetQuery().GetQueryArgs()}
	case *workflowservice.CreateScheduleRequest:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.schedules[r.GetNamespace()+" "+r.GetScheduleId()] = r
	case *workflowservice.UpdateScheduleRequest:
		w.mu.Lock()
		defer w.mu.Unlock()
		if stored := w.schedules[r.GetNamespace()+" "+r.GetScheduleId()]; stored != nil {
			stored.Schedule = r.GetSchedule()
		}
	case *workflowservice.DescribeScheduleRequest:
		w.mu.Lock()
		defer w.mu.Unlock()
		stored := w.schedules[r.GetNamespace()+" "+r.GetScheduleId()]
		return &workflowservice.DescribeScheduleResponse{Schedule: stored.GetSchedule(), Info: &schedulepb.ScheduleInfo{}, Memo: stored.GetMemo(), SearchAttributes: stored.GetSearchAttributes()}
	case *workflowservice.PollWorkflowTaskQueueRequest:
		return w.poll(ctx, "workflow", r.GetTaskQueue().GetName())
	case *workflowservice.PollActivityTaskQueueRequest:
		return w.poll(ctx, "activity", r.GetTaskQueue().GetName())
	case *workflowservice.PollNexusTaskQueueRequest:
		return w.poll(ctx, "nexus", r.GetTaskQueue().GetName())
	}
	return nil
}

// updated has an update succeed with its own arguments.
func (w *wireServer) updated(r *workflowservice.UpdateWorkflowExecutionRequest) *workflowservice.UpdateWorkflowExecutionResponse {
	return &workflowservice.UpdateWorkflowExecutionResponse{
		UpdateRef: &updatepb.UpdateRef{WorkflowExecution: r.GetWorkflowExecution(), UpdateId: r.GetRequest().GetMeta().GetUpdateId()},
		Stage:     enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED,
		Outcome:   &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: r.GetRequest().GetInput().GetArgs()}},
	}
}
