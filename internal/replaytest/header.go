package replaytest

import (
	"context"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"
)

// headerField is the header that Propagator writes.
const headerField = "tenant"

// Header is the value that every caller of a workflow sends in its headers.
const Header = "the header: tenant acme"

type headerKey struct{}

// WithHeader returns a context for calls that carry Header.
func WithHeader(ctx context.Context) context.Context {
	return context.WithValue(ctx, headerKey{}, Header)
}

// Propagator carries a string in headers. It converts it as programs do, without
// any payload codec, so that only the client plugin can seal it.
type Propagator struct{}

var _ workflow.ContextPropagator = Propagator{}

// Inject implements workflow.ContextPropagator.
func (Propagator) Inject(ctx context.Context, w workflow.HeaderWriter) error {
	return write(ctx, w)
}

// InjectFromWorkflow implements workflow.ContextPropagator.
func (Propagator) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	return write(ctx, w)
}

// Extract implements workflow.ContextPropagator.
func (Propagator) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	value, err := read(r)
	return context.WithValue(ctx, headerKey{}, value), err
}

// ExtractToWorkflow implements workflow.ContextPropagator.
func (Propagator) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	value, err := read(r)
	return workflow.WithValue(ctx, headerKey{}, value), err
}

// valuer is both kinds of context.
type valuer interface{ Value(any) any }

func write(ctx valuer, w workflow.HeaderWriter) error {
	value := header(ctx)
	if value == "" {
		return nil
	}
	payload, err := converter.GetDefaultDataConverter().ToPayload(value)
	if err != nil {
		return err
	}
	w.Set(headerField, payload)
	return nil
}

func read(r workflow.HeaderReader) (value string, err error) {
	if payload, ok := r.Get(headerField); ok {
		err = converter.GetDefaultDataConverter().FromPayload(payload, &value)
	}
	return value, err
}

// header returns what the propagator found in the headers of a call.
func header(ctx valuer) string {
	value, _ := ctx.Value(headerKey{}).(string)
	return value
}
