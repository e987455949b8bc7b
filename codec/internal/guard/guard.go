package guard

import (
	"context"
	"path"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/policy"
)

// Codec is the interface of a codec.Codec and the client's data converter that a guard needs.
type Codec interface {
	// Policy returns the current policy.
	Policy() *policy.Policy
	// Seal seals payloads for a namespace, all or none.
	Seal(ctx context.Context, namespace string, payloads []*commonpb.Payload) ([]*commonpb.Payload, error)
	// Open opens payloads for a reader in a namespace. It returns an original or an error for
	// each.
	Open(ctx context.Context, namespace string, payloads []*commonpb.Payload) ([]*commonpb.Payload, []error)
	// Warm puts the data keys of payloads into the cache. It returns an error for each and
	// decrypts no payload.
	Warm(ctx context.Context, namespace string, payloads []*commonpb.Payload) []error
	// Converter returns the client's data converter for a namespace, bounded by ctx.
	Converter(ctx context.Context, namespace string) converter.DataConverter
}

// Guard guards the connection of one client. It is safe for concurrent use.
type Guard struct {
	Codec     Codec
	Namespace string
	// Via is the connection that it guards.
	Via *hold.Connection
	// Tasks knows the workflow tasks that came through it.
	Tasks *hold.Tasks
	// Changes knows the change IDs that the program names.
	Changes *Changes
	// Drivers are the names of the client's drivers of external storage; nil if it has none.
	Drivers map[string]bool
}

// Unary implements grpc.UnaryClientInterceptor.
func (g *Guard) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if p, ok := ctx.Value(probeKey{}).(*probe); ok {
		p.met, p.via = true, g.Via
		return status.Error(codes.Aborted, "waxseal: probe, not sent")
	}
	in, ok := req.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "waxseal: refused to send %s: its request is not a protobuf message", path.Base(method))
	}
	send := func(ctx context.Context, method string, req, reply any) error {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	namespace := g.namespaceOf(in)
	out, withheld, refused := g.outgoing(ctx, path.Base(method), namespace, in)
	out, err := g.Tasks.BeforeSending(ctx, hold.Sending{
		Via: g.Via, Namespace: namespace, Request: out, Refused: onTheWire(refused), Withheld: withheld, Send: send,
	})
	if err != nil {
		return err
	}
	if err := send(ctx, method, out, reply); err != nil {
		return g.openQueryFailure(ctx, in, err)
	}
	if reply, ok := reply.(proto.Message); ok {
		return g.incoming(ctx, namespace, out, reply, send)
	}
	return nil
}

// namespaceOf returns the namespace that a request names, else the client's own.
func (g *Guard) namespaceOf(req proto.Message) string {
	if r, ok := req.(interface{ GetNamespace() string }); ok && r.GetNamespace() != "" {
		return r.GetNamespace()
	}
	return g.Namespace
}

// probeKey marks a call that only tests for a guard. Its value is a *probe, which the guard
// fills in.
type probeKey struct{}

type probe struct {
	met bool
	via *hold.Connection
}

// Guards reports whether a guard sees the calls of service, and returns the connection that it
// guards. Without a guard the probe reaches the server as GetSystemInfo, which carries nothing.
// The caller bounds ctx.
func Guards(ctx context.Context, service workflowservice.WorkflowServiceClient) (*hold.Connection, bool) {
	var p probe
	_, _ = service.GetSystemInfo(context.WithValue(ctx, probeKey{}, &p), &workflowservice.GetSystemInfoRequest{})
	return p.via, p.met
}
