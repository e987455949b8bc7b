package codec

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/guard"
	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// Guard is a guard of a client, without the client.
type Guard struct{ g *guard.Guard }

// NewGuard returns the guard of a client in a namespace.
func NewGuard(c *Codec, namespace string) *Guard {
	return &Guard{c.guard(namespace, new(hold.Connection), nil)}
}

// Unary sends a call through the guard to invoke.
func (g *Guard) Unary(ctx context.Context, method string, req, reply proto.Message, invoke func(ctx context.Context, method string, req, reply any) error) error {
	return g.g.Unary(ctx, method, req, reply, nil, func(ctx context.Context, method string, req, reply any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		return invoke(ctx, method, req, reply)
	})
}

// Outgoing returns the request that the guard of a client in a namespace sends for req.
func Outgoing(ctx context.Context, c *Codec, namespace, method string, req proto.Message) (sent proto.Message, err error) {
	err = NewGuard(c, namespace).Unary(ctx, "/service/"+method, req, nil, func(_ context.Context, _ string, req, _ any) error {
		sent, _ = req.(proto.Message)
		return nil
	})
	return sent, err
}

// EachHeader calls f for the payloads of all headers in a message.
func EachHeader(msg proto.Message, f func(*commonpb.Payload)) error {
	return payloadwalk.Each(msg, func(parent proto.Message, p *commonpb.Payload) error {
		if _, header := parent.(*commonpb.Header); header {
			f(p)
		}
		return nil
	})
}
