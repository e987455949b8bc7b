package codec

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// Outgoing is what the guard of a client in a namespace sends for a request.
func Outgoing(ctx context.Context, c *Codec, namespace, method string, req proto.Message) (proto.Message, error) {
	return (&guard{codec: c, namespace: namespace}).outgoing(ctx, method, req)
}

// Guard is a guard of a client, without the client.
type Guard struct{ g *guard }

// NewGuard returns one of a client in a namespace.
func NewGuard(c *Codec, namespace string) *Guard {
	return &Guard{&guard{codec: c, namespace: namespace}}
}

// Unary is a call that goes past the guard to invoke.
func (g *Guard) Unary(ctx context.Context, method string, req, reply proto.Message, invoke func(ctx context.Context, method string, req, reply any) error) error {
	return g.g.unary(ctx, method, req, reply, nil, func(ctx context.Context, method string, req, reply any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		return invoke(ctx, method, req, reply)
	})
}

// ReasonsForPlain are those of guard_plain.go.
func ReasonsForPlain() []string { return []string{plainAttributes, plainReferences} }

// EachHeader calls f for the payloads of all headers in a message.
func EachHeader(msg proto.Message, f func(*commonpb.Payload)) error {
	return payloadwalk.Each(msg, func(parent proto.Message, p *commonpb.Payload) error {
		if _, header := parent.(*commonpb.Header); header {
			f(p)
		}
		return nil
	})
}

// DropNexusContexts is what the guard does to each response.
func DropNexusContexts(msg proto.Message) error { return new(nexusContexts).drop(msg) }
