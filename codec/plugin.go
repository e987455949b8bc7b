package codec

import (
	"context"
	"slices"
	"sync/atomic"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/guard"
	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// Plugin makes a Temporal client, its workers and workflow replayers seal and
// open with a Codec. It is safe for use in several clients at once.
type Plugin struct {
	clientBase //nolint:unused // the SDK demands it; golangci-lint does not follow the alias
	workerBase
	codec   *Codec
	options []ConverterOption
	clients atomic.Bool // it configured at least one client
}

// Both bases have the same name in the SDK, which a struct cannot embed twice.
type (
	clientBase = client.PluginBase //nolint:unused // as above
	workerBase = worker.PluginBase
)

var (
	_ client.Plugin = (*Plugin)(nil)
	_ worker.Plugin = (*Plugin)(nil)
)

// NewPlugin returns the plugin for client.Options.Plugins. It covers the workers made from that
// client. In worker.Options it is refused (see ConfigureWorker). For a replayer, put it into
// worker.WorkflowReplayerOptions.Plugins.
//
// It wraps the client's DataConverter, sets a FailureConverter that seals messages and stack
// traces, and installs a wire guard: an interceptor that refuses a request with a payload that
// is not sealed, whatever wrote it, and that seals headers where the policy says sealHeaders.
// With an interceptor and a context propagator, activities wait during a KMS outage. The plugin
// reports what the Codec does to the MetricsHandler of the first client that has one. List it
// last if another plugin sets a data converter or a metrics handler.
//
// options are the options of its data converter: see RefuseMissingArguments.
func NewPlugin(c *Codec, options ...ConverterOption) *Plugin {
	return &Plugin{codec: c, options: append(slices.Clip(options), func(d *dataConverter) { d.marked = true })}
}

// pluginName is the name of every Plugin, and of a plugin that embeds one.
const pluginName = "github.com/waxseal/waxseal/codec"

// Name implements client.Plugin and worker.Plugin.
func (*Plugin) Name() string { return pluginName }

// optionsError refuses options of a client or a worker. Its Class is Invalid.
type optionsError struct{ text, hint string }

// Error implements error.
func (e *optionsError) Error() string { return "codec: " + e.text }

// Hint says what to do next.
func (e *optionsError) Hint() string { return e.hint }

// Unwrap gives the error its Class.
func (e *optionsError) Unwrap() error {
	return &kms.Error{Class: kms.Invalid, Op: "configure", Detail: e.text, Advice: e.hint}
}

// ErrFailureConverterSet is returned by client.Dial when the options carry a
// failure converter of their own, which would send messages unsealed. Its Class is Invalid.
var ErrFailureConverterSet error = &optionsError{
	text: "the options already have a FailureConverter, which would send error messages in plaintext",
	hint: "remove it: codec.NewPlugin sets its own",
}

// ConfigureClient implements client.Plugin.
func (p *Plugin) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	opts := o.ClientOptions
	if listed(opts.Plugins) > 1 {
		return ErrPluginTwice
	}
	if opts.FailureConverter != nil {
		return ErrFailureConverterSet
	}
	namespace := opts.Namespace
	if namespace == "" {
		namespace = client.DefaultNamespace
	}
	via := new(hold.Connection)
	g := p.codec.guard(namespace, via, opts.DataConverter)
	g.Drivers = guard.DriverNames(opts.ExternalStorage)
	opts.ExternalStorage = guard.SealedStorage(g.Codec, namespace, opts.ExternalStorage)
	opts.DataConverter = wrapConverter(p.codec, site{namespace: namespace, via: via}, opts.DataConverter, p.options...)
	opts.FailureConverter = NewFailureConverter(opts.DataConverter)
	// First: next to the SDK, so that other interceptors do not see what it passes on.
	opts.Interceptors = append([]interceptor.ClientInterceptor{
		&workflows{changes: p.codec.changes, runs: &p.codec.runs},
		&activities{codec: p.codec, namespace: namespace, failures: opts.FailureConverter},
	}, opts.Interceptors...)
	opts.ContextPropagators = append([]workflow.ContextPropagator{&headerOpener{codec: p.codec, namespace: namespace, via: via}}, opts.ContextPropagators...)
	p.codec.reportTo(opts.MetricsHandler)
	p.codec.notices.To(opts.Logger)
	// Innermost: the SDK and other interceptors add nothing after it.
	opts.ConnectionOptions.DialOptions = append(slices.Clip(opts.ConnectionOptions.DialOptions), grpc.WithChainUnaryInterceptor(g.Unary))
	p.clients.Store(true)
	return nil
}

// ErrPluginTwice is returned by client.Dial, and by the constructor of a replayer, when
// the options list the plugin twice: only one can be next to the SDK and the wire. Its
// Class is Invalid.
var ErrPluginTwice error = &optionsError{
	text: "the options list the Waxseal plugin twice",
	hint: "list one codec.NewPlugin, for the codec that is to seal and open here",
}

// ErrWorkerPlugin is what worker.New panics with when worker.Options.Plugins lists
// the plugin. It has no effect on the client there, and the client converts, sends
// and receives whatever the worker does. Its Class is Invalid.
var ErrWorkerPlugin error = &optionsError{
	text: "worker.Options.Plugins lists the Waxseal plugin, which seals nothing there",
	hint: "move codec.NewPlugin to client.Options.Plugins of the client that the worker is made with; its workers have it from there",
}

// ConfigureWorker implements worker.Plugin. It fails with ErrWorkerPlugin, with which
// worker.New panics, unless the plugin configured the worker's client. The SDK does not pass
// the client. But it calls the plugins of the client's options, which configured that client,
// and those of the worker's options, and the plugin must not be among the latter.
func (p *Plugin) ConfigureWorker(_ context.Context, o worker.PluginConfigureWorkerOptions) error {
	if listed(o.WorkerOptions.Plugins) > 0 || !p.clients.Load() {
		return ErrWorkerPlugin
	}
	return nil
}

// listed counts the Waxseal plugins in a list.
func listed[P interface{ Name() string }](plugins []P) (n int) {
	for _, p := range plugins {
		if p.Name() == pluginName {
			n++
		}
	}
	return n
}

// StopWorker implements worker.Plugin. It returns the held tasks to the server at once;
// otherwise the server would wait for their timeouts.
func (p *Plugin) StopWorker(ctx context.Context, o worker.PluginStopWorkerOptions, next func(context.Context, worker.PluginStopWorkerOptions)) {
	next(ctx, o)
	p.codec.tasks.ReleaseAll(o.WorkerInstanceKey)
}

// ErrUnguarded is returned by client.NewClientFromExistingWithContext when the existing client was
// dialed without this plugin: the new one would share its connection, and so
// have no wire guard. Its Class is Invalid.
var ErrUnguarded error = &optionsError{
	text: "the existing client was dialed without the Waxseal plugin, so nothing guards its connection",
	hint: "dial that one with codec.NewPlugin too",
}

// NewClient implements client.Plugin.
func (p *Plugin) NewClient(ctx context.Context, o client.PluginNewClientOptions, next func(context.Context, client.PluginNewClientOptions) error) error {
	if o.FromExisting == nil {
		return next(ctx, o)
	}
	probe, cancel := context.WithTimeout(ctx, DefaultCallTimeout)
	defer cancel()
	existing, ok := guard.Guards(probe, o.FromExisting.WorkflowService())
	if !ok {
		return ErrUnguarded
	}
	for _, propagator := range o.ClientOptions.ContextPropagators {
		if h, ok := propagator.(*headerOpener); ok && h.codec == p.codec {
			h.via.Shares = existing
		}
	}
	return next(ctx, o)
}

// ConfigureWorkflowReplayer implements worker.Plugin.
func (p *Plugin) ConfigureWorkflowReplayer(_ context.Context, o worker.PluginConfigureWorkflowReplayerOptions) error {
	opts := o.WorkflowReplayerOptions
	if listed(opts.Plugins) > 1 {
		return ErrPluginTwice
	}
	if opts.FailureConverter != nil {
		return ErrFailureConverterSet
	}
	opts.DataConverter = newReplayConverter(p.codec, opts.DataConverter, p.options...)
	opts.FailureConverter = NewFailureConverter(opts.DataConverter)
	opts.Interceptors = append([]interceptor.WorkerInterceptor{&workflows{changes: p.codec.changes, runs: &p.codec.runs}}, opts.Interceptors...)
	return nil
}

// ReplayWorkflow implements worker.Plugin. It opens the sealed headers of the history, as the
// guard does on a live worker.
func (p *Plugin) ReplayWorkflow(ctx context.Context, o worker.PluginReplayWorkflowOptions, next func(context.Context, worker.PluginReplayWorkflowOptions) error) error {
	if o.History != nil {
		o.History = proto.CloneOf(o.History)
		if err := guard.OpenHeaders(ctx, forGuard{codec: p.codec}, "", o.History); err != nil {
			return err
		}
	}
	return next(ctx, o)
}

// guard returns the guard of a client. parent is the client's own data converter.
func (c *Codec) guard(namespace string, via *hold.Connection, parent converter.DataConverter) *guard.Guard {
	return &guard.Guard{Codec: forGuard{c, parent}, Namespace: namespace, Via: via, Tasks: c.tasks, Changes: c.changes}
}

// forGuard is a Codec and a client's own data converter, in the form that the guard uses.
type forGuard struct {
	codec  *Codec
	parent converter.DataConverter
}

var _ guard.Codec = forGuard{}

// Policy implements guard.Codec.
func (f forGuard) Policy() *policy.Policy { return f.codec.policy() }

// Seal implements guard.Codec.
func (f forGuard) Seal(ctx context.Context, namespace string, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return f.codec.Encode(ctx, EncodeOptions{Namespace: namespace}, payloads)
}

// Open implements guard.Codec.
func (f forGuard) Open(ctx context.Context, namespace string, payloads []*commonpb.Payload) ([]*commonpb.Payload, []error) {
	opened, errs := make([]*commonpb.Payload, len(payloads)), make([]error, len(payloads))
	for i, d := range f.codec.Decode(ctx, DecodeOptions{Namespace: namespace}, payloads) {
		opened[i], errs[i] = d.Payload, d.Err
	}
	return opened, errs
}

// Warm implements guard.Codec.
func (f forGuard) Warm(ctx context.Context, namespace string, payloads []*commonpb.Payload) []error {
	return f.codec.warm(ctx, namespace, payloads)
}

// Converter implements guard.Codec.
func (f forGuard) Converter(ctx context.Context, namespace string) converter.DataConverter {
	dc := NewDataConverter(f.codec, namespace, f.parent)
	if aware, ok := dc.(workflow.ContextAware); ok {
		return aware.WithContext(ctx)
	}
	return dc
}
