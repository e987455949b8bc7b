package codec

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// guard is the last look before a request leaves: a gRPC client interceptor
// that walks every payload of every request and refuses a request with one that
// is not sealed. guard_plain.go lists what may leave in plaintext, and why.
//
// Headers it seals itself where the namespace's rule says sealHeaders, because
// context propagators write them past the data converter; elsewhere a plaintext
// header is refused like any other payload. Sealed headers in answers it opens
// whatever the rule says now, except those of activity tasks (see headerOpener).
//
// So does it with what a workflow or a schedule carries over from before it had
// the plugin (see resent), and with failures, whose messages and stack traces
// count as payloads (see plainText); the messages of failed queries are bare
// strings (see sealQueryFailures). No other text is looked at.
//
// It opens workflow tasks ahead of the SDK, and holds those that it cannot open for
// now (see openTasks) or whose workflow code cannot go on for now (see answer).
type guard struct {
	codec     *Codec
	namespace string
	// via is what it guards.
	via *hold.Connection
	// parent is the client's own data converter; nil for the SDK's.
	parent converter.DataConverter
	// drivers are the names of the client's drivers of external storage; nil if it has none.
	drivers map[string]bool
	nexus   nexusContexts
}

// unary implements grpc.UnaryClientInterceptor.
func (g *guard) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if p, ok := ctx.Value(probeKey{}).(*probe); ok {
		p.met, p.via = true, g.via
		return status.Error(codes.Aborted, "waxseal: probe, not sent")
	}
	out, ok := req.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "waxseal: refused to send %s: its request is not a protobuf message", path.Base(method))
	}
	send := func(ctx context.Context, method string, req, reply any) error {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	asked := out
	out, err := g.outgoing(ctx, path.Base(method), out)
	if err != nil {
		out = asked
	}
	if out, err = g.answer(ctx, out, err, send); err != nil {
		return err
	}
	if err := invoke(ctx, method, out, reply, cc, opts...); err != nil {
		return g.openQueryFailure(ctx, req, err)
	}
	if in, ok := reply.(proto.Message); ok {
		if err := sameUpdate(out, in); err != nil {
			return err
		}
		if page, ok := in.(*workflowservice.GetWorkflowExecutionHistoryResponse); ok {
			unpackHistory(page)
		}
		if err := g.nexus.drop(in); err != nil {
			return onTheWire(err)
		}
		if err := g.withholdReferences(g.namespaceOf(out), in); err != nil {
			return onTheWire(err)
		}
		if err := g.openTasks(ctx, out, in, send); err != nil {
			return err
		}
		return g.openAnswer(ctx, out, in)
	}
	return nil
}

// probeKey marks a call that only asks whether a guard stands in its way. Its value is a
// *probe, which the guard fills in.
type probeKey struct{}

type probe struct {
	met bool
	via *hold.Connection
}

// guarded reports whether calls of service pass a guard, and what it guards. Without one
// the probe reaches the server as GetSystemInfo, which carries nothing.
func guarded(ctx context.Context, service workflowservice.WorkflowServiceClient) (*hold.Connection, bool) {
	var p probe
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, probeKey{}, &p), DefaultCallTimeout)
	defer cancel()
	_, _ = service.GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	return p.via, p.met
}

// onTheWire gives an error of ours the gRPC code that makes the SDK try again
// if, and only if, that may help.
func onTheWire(err error) error {
	if err == nil {
		return nil
	}
	if _, has := status.FromError(err); has {
		return err
	}
	code := codes.FailedPrecondition
	switch class := kms.ClassOf(err); {
	case class.Transient():
		code = codes.Unavailable
	case class == kms.Canceled && errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case class == kms.Canceled:
		code = codes.Canceled
	}
	return &wireError{status: status.New(code, err.Error()), why: err}
}

// wireError is an error of ours as gRPC has it, which still knows why. That is for
// us alone: the SDK goes by the code.
type wireError struct {
	status *status.Status
	why    error
}

func (e *wireError) Error() string { return e.status.Err().Error() }

// GRPCStatus is what package status reads.
func (e *wireError) GRPCStatus() *status.Status { return e.status }

// outgoing returns the request to send: req itself, or a copy in which the
// guard sealed what it is there to seal, since the caller may send req or its
// header map again.
func (g *guard) outgoing(ctx context.Context, method string, req proto.Message) (proto.Message, error) {
	namespace := g.namespaceOf(req)
	req = g.withoutForeignChanges(g.sealQueryFailures(ctx, namespace, req))
	err := g.check(method, namespace, req)
	if !errors.Is(err, errToSeal) {
		return req, err
	}
	req = proto.Clone(req)
	if err := g.sealRest(ctx, method, namespace, req); err != nil {
		return nil, err
	}
	err = g.check(method, namespace, req)
	if errors.Is(err, errToSeal) {
		return nil, refuseToSend(method, kms.Corrupt, "it holds a failure or a payload that could not be sealed in place", "what the server sent was altered or cut short; look into the workflow's history")
	}
	return req, err
}

// errToSeal is what check finds where the guard is to seal something first.
var errToSeal = errors.New("codec: something to seal")

// check refuses what must not leave; it is errToSeal if nothing must be refused
// but something is to be sealed. It leaves req alone.
func (g *guard) check(method, namespace string, req proto.Message) error {
	if err := g.checkChanges(req); err != nil {
		return err
	}
	var over []proto.Message
	toSeal, listed := false, false
	err := payloadwalk.Walker{
		Payload: func(parent proto.Message, p *commonpb.Payload) error {
			if g.mayLeave(p) {
				return nil
			}
			if !listed {
				over, listed = resent(req), true
			}
			if p != nil && g.seals(namespace, over, parent) {
				toSeal = true
				return nil
			}
			if slices.Contains(over, parent) {
				return resentRefusal(method, parent)
			}
			return refusal(method, parent, p)
		},
		Failure: func(_ proto.Message, f *failurepb.Failure) error {
			toSeal = toSeal || g.isPlain(f)
			return nil
		},
		NexusFailure: func(_ proto.Message, f *nexuspb.Failure) error {
			toSeal = toSeal || g.isPlainNexus(f)
			return nil
		},
	}.Walk(req)
	switch {
	case errors.Is(err, payloadwalk.ErrOpaque):
		return refuseToSend(method, kms.Denied, "it holds a message of a type that is not known here, which may hold payloads", "use the client of the same go.temporal.io/api that Waxseal was built with")
	case err == nil && toSeal:
		return errToSeal
	case err == nil:
		return refuseWithheld(method, req)
	}
	return err
}

// refusal is the error for a payload that is not sealed.
func refusal(method string, parent proto.Message, p *commonpb.Payload) error {
	in := "a payload in " + string(parent.ProtoReflect().Descriptor().Name())
	hint := "a data converter other than Waxseal's made it, or sealing it failed and the SDK fell back to plaintext (memo); see the log for the cause"
	if _, header := parent.(*commonpb.Header); header {
		hint = "a context propagator or interceptor wrote it: set sealHeaders: true in the namespace's rule"
	}
	if len(p.GetMetadata()[proxy.SystemPayloadMetadataKey]) > 0 {
		hint = "workflow.SignalWithStartWorkflow sends a request to the server itself, of which the SDK seals parts only: call the client's SignalWithStartWorkflow in an activity"
	}
	return refuseToSend(method, kms.Denied, in+" is not sealed", hint)
}

// refuseToSend returns the error for a request that is not sent, which the SDK does not retry.
// Its text is all that a caller has of it: class and hint are in there.
func refuseToSend(method string, class kms.Class, detail, hint string) error {
	return status.Errorf(codes.InvalidArgument, "waxseal: refused to send %s: %s: %s (%s)", method, class, detail, hint)
}

// namespaceOf returns the namespace that a request names, else the client's own.
func (g *guard) namespaceOf(req proto.Message) string {
	if r, ok := req.(interface{ GetNamespace() string }); ok && r.GetNamespace() != "" {
		return r.GetNamespace()
	}
	return g.namespace
}

// sealsHeaders reports whether the rule for a namespace says sealHeaders.
func (c *Codec) sealsHeaders(namespace string) bool {
	rule, err := c.policy().SealRule(policy.Facts{Namespace: namespace})
	return err == nil && rule.SealHeaders
}

// openHeaders opens the sealed headers in a message, in place and all together.
// Headers that are not sealed stay as they are, and so do those that will never
// open here, unless all are to open: their reader reports it, where an error would keep
// the rest of the message from being read, again and again. What may pass is an error.
func (c *Codec) openHeaders(ctx context.Context, namespace string, msg proto.Message, all bool) error {
	var headers []*commonpb.Payload
	each := func(f func(*commonpb.Payload)) error {
		return payloadwalk.EditEach(msg, func(parent proto.Message, p *commonpb.Payload) error {
			if _, header := parent.(*commonpb.Header); header && sealed.Claims(p) {
				f(p)
			}
			return nil
		})
	}
	if err := each(func(p *commonpb.Payload) { headers = append(headers, proto.CloneOf(p)) }); err != nil || len(headers) == 0 {
		return err
	}
	opened := make(map[string]*commonpb.Payload, len(headers)) // by envelope: the order of a walk is not fixed
	for i, d := range c.decode(ctx, policy.Facts{Namespace: namespace}, headers) {
		switch class := kms.ClassOf(d.Err); {
		case d.Err == nil:
			opened[string(headers[i].GetData())] = d.Payload
		case all || class.Transient() || class == kms.Canceled:
			return fmt.Errorf("codec: open header: %w", d.Err)
		}
	}
	return each(func(p *commonpb.Payload) {
		if original, ok := opened[string(p.GetData())]; ok {
			proto.Reset(p)
			proto.Merge(p, original)
		}
	})
}
