package awskms

import (
	"bytes"
	"context"
	"io"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// wipeSerialized makes the SDK's pipeline zero the request that it serialized, once it is
// done with it. The transport sends a copy, which it wipes itself.
func wipeSerialized(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("WaxsealWipe",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if request, ok := in.Request.(*smithyhttp.Request); ok {
				defer clear(underlying(request.GetStream()))
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.Before)
}

// underlying returns the bytes that r reads, where it lets them be seen, and
// leaves r at its start.
func underlying(r io.Reader) []byte {
	reader, ok := r.(*bytes.Reader)
	if !ok {
		return nil
	}
	var seen alias
	_, _ = reader.WriteTo(&seen) // alias takes all it is given
	reader.Reset(seen)
	return seen
}

// alias keeps the slice that is written to it.
type alias []byte

func (a *alias) Write(p []byte) (int, error) {
	*a = p
	return len(p), nil
}
