package e2e

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/e2e/internal/canary"
)

// script holds the workflows and activities that say everything a Temporal
// program can say, each time with a canary of its own. All methods named after
// a kind of payload use that kind's canary; what they are given they compare
// with what it should be, so a run that ends well has also proven that workers
// read what they and others wrote.
type script struct {
	flock *canary.Flock
	// billing is the namespace of the other side.
	billing string

	tokens  chan []byte   // of the activities that are completed from outside
	release chan struct{} // closed when activities that hang may end
	stumble atomic.Bool   // whether the workflow that panics once has done so
	slow    chan struct{} // one value for each local activity that may end
}

func newScript(billing string) *script {
	s := &script{flock: canary.NewFlock(), billing: billing, tokens: make(chan []byte), release: make(chan struct{}), slow: make(chan struct{})}
	s.flock.Word("stack-trace", stackFrame)
	return s
}

// c returns the canary of a kind.
func (s *script) c(kind string) string { return s.flock.Canary(kind) }

// is is an error unless got is the canary of a kind.
func (s *script) is(kind, got string) error {
	if got != s.c(kind) {
		return fmt.Errorf("%s: got %q", kind, got)
	}
	return nil
}

// workflows are those of the first namespace, by name.
func (s *script) workflows() map[string]any {
	return map[string]any{
		s.c("workflow-type"): s.everything, "Child": s.child, "ChildThatFails": s.childThatFails, "ChildThatIsCanceled": s.childThatIsCanceled, "Receiver": s.receiver,
		"Fails": s.fails, "Panics": s.panics, "PanicsOnce": s.panicsOnce, "TimesOut": s.timesOut, "Pending": s.pending, "Canceled": s.canceled,
		"ContinuesAsNew": s.continuesAsNew, "Retried": s.retried, "Scheduled": s.scheduled, "CompletedFromOutside": s.completedFromOutside,
		"Nexus": s.nexus, "NexusPending": s.nexusPending, "Slow": s.slowWorkflow, "Mailbox": s.mailbox,
	}
}

// register adds what a worker of the first namespace runs.
func (s *script) register(w worker.Worker) {
	for name, f := range s.workflows() {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	s.registerActivities(w)
}

// headerContext is the key under which a context holds the value that the
// context propagator puts into headers.
type headerContext struct{}

// propagator carries a string in headers, converted as programs do it: without
// any payload codec.
type propagator struct{ key string }

var _ workflow.ContextPropagator = propagator{}

func (p propagator) Inject(ctx context.Context, w workflow.HeaderWriter) error {
	return p.write(ctx.Value(headerContext{}), w)
}

func (p propagator) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	return p.write(ctx.Value(headerContext{}), w)
}

func (p propagator) write(value any, w workflow.HeaderWriter) error {
	if value == nil {
		return nil
	}
	payload, err := converter.GetDefaultDataConverter().ToPayload(value)
	if err != nil {
		return err
	}
	w.Set(p.key, payload)
	return nil
}

func (p propagator) read(r workflow.HeaderReader) (value string, err error) {
	if payload, ok := r.Get(p.key); ok {
		err = converter.GetDefaultDataConverter().FromPayload(payload, &value)
	}
	return value, err
}

func (p propagator) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	value, err := p.read(r)
	return context.WithValue(ctx, headerContext{}, value), err
}

func (p propagator) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	value, err := p.read(r)
	return workflow.WithValue(ctx, headerContext{}, value), err
}

// with returns a context for calls that send the canary of a kind as a header.
func (s *script) with(ctx context.Context, kind string) context.Context {
	return context.WithValue(ctx, headerContext{}, s.c(kind))
}

// within is with for workflow code.
func (s *script) within(ctx workflow.Context, kind string) workflow.Context {
	return workflow.WithValue(ctx, headerContext{}, s.c(kind))
}

// valuer is both kinds of context.
type valuer interface{ Value(any) any }

// header returns what the propagator found in the headers of a call.
func header(ctx valuer) string {
	value, _ := ctx.Value(headerContext{}).(string)
	return value
}
