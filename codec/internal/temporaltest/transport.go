package temporaltest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Request is a received request.
type Request struct {
	Method   string // without its service
	Metadata metadata.MD
	Raw      []byte
	Message  proto.Message // Raw, unmarshalled
}

// Handler is the script of a server. Its methods are called in many goroutines at once.
type Handler interface {
	// Receive sees a request before it is answered.
	Receive(ctx context.Context, r Request)
	// Answer returns the response to a request; nil stands for one without a field set.
	Answer(ctx context.Context, req proto.Message) (proto.Message, error)
}

// Listen serves h on a loopback address, which it returns, until the test ends.
func Listen(t *testing.T, h Handler) (addr string) {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// The SDK pings idle connections. By default gRPC servers close a connection for that.
	pings := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})
	server := grpc.NewServer(pings, grpc.ForceServerCodecV2(rawBytes{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		return handle(h, stream)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return lis.Addr().String()
}

// handle serves any method of any service.
func handle(h Handler, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	r := Request{}
	if err := stream.RecvMsg(&r.Raw); err != nil {
		return err
	}
	var service string
	service, r.Method, _ = strings.Cut(strings.TrimPrefix(full, "/"), "/")
	r.Metadata, _ = metadata.FromIncomingContext(stream.Context())
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return status.Errorf(codes.Unimplemented, "no service %s", service)
	}
	method := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(r.Method))
	if r.Message, err = parseAs(method.Input().FullName(), r.Raw); err != nil {
		return err
	}
	h.Receive(context.WithoutCancel(stream.Context()), r)
	reply, err := h.Answer(stream.Context(), r.Message)
	if err != nil {
		return err
	}
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

// rawBytes makes gRPC pass messages on as the received bytes, including fields that no Go type
// has.
type rawBytes struct{}

func (rawBytes) Name() string { return "proto" }

func (rawBytes) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawBytes) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
