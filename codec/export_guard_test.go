package codec

import (
	"context"

	"google.golang.org/protobuf/proto"
)

// Outgoing is what the guard of a client in a namespace sends for a request.
func Outgoing(ctx context.Context, c *Codec, namespace, method string, req proto.Message) (proto.Message, error) {
	return (&guard{codec: c, namespace: namespace}).outgoing(ctx, method, req)
}

// ReasonsForPlain are those of guard_plain.go.
func ReasonsForPlain() []string { return []string{plainAttributes, plainReferences} }
