package guard

import (
	"context"
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// plan holds the changes that the guard makes in a request, and the failures that it found
// there.
type plan struct {
	payloads   []plainPayload
	failures   []*foundFailure
	nexus      []nexusFailure
	attributes []payloadwalk.Place // search attributes with a change to leave out
}

// plainPayload is a payload in plaintext.
type plainPayload struct {
	place payloadwalk.Place
	// text says that it is the text of a failure, which sealTexts handles with the failure.
	text bool
}

// foundFailure is a failure with all its causes.
type foundFailure struct {
	*failurepb.Failure

	place  payloadwalk.Place
	plain  bool // something in it is in plaintext
	ofTask bool // it stands in a command or a message of a completed task
}

// empty reports whether there is nothing to change.
func (p *plan) empty() bool {
	return len(p.payloads)+len(p.nexus)+len(p.attributes) == 0 && !slices.ContainsFunc(p.failures, func(f *foundFailure) bool { return f.plain })
}

// withheld returns the reasons why texts of a task's failures could not be sealed.
func (p *plan) withheld() (why []error) {
	for _, f := range p.failures {
		for link := f.Failure; f.ofTask && link != nil; link = link.GetCause() {
			if err := failure.Withheld(link); err != nil {
				why = append(why, err)
			}
		}
	}
	return why
}

// outgoing returns the request to send: req itself, or a copy with the parts sealed that the
// guard seals. On an error it returns req. withheld holds the reasons why failures of a
// completed task could not be sealed.
func (g *Guard) outgoing(ctx context.Context, method, namespace string, req proto.Message) (out proto.Message, withheld []error, err error) {
	out = g.sealQueryFailures(ctx, namespace, req)
	p, err := g.plan(method, namespace, out)
	if err != nil {
		return req, nil, err
	}
	if !p.empty() {
		if out == req {
			out = proto.Clone(req)
		}
		if err := g.apply(ctx, namespace, out, p); err != nil {
			return req, nil, fmt.Errorf("codec: seal headers, failures and what is carried over in %s: %w", method, err)
		}
	}
	if err := refuseWithheld(method, out); err != nil {
		return req, nil, err
	}
	return out, p.withheld(), nil
}

// plan walks a request. It refuses what must not leave, and plans the changes. It changes
// nothing.
func (g *Guard) plan(method, namespace string, req proto.Message) (*plan, error) {
	w := &planner{Guard: g, out: new(plan), method: method, namespace: namespace, req: req}
	err := payloadwalk.Walk(req, payloadwalk.Visitor{
		Payload: w.payload,
		Message: w.message,
		Opaque: func(*payloadwalk.At) error {
			return refuseToSend(method, kms.Denied, "it holds a message of a type that is not known here, which may hold payloads", "use the client of the same go.temporal.io/api that Waxseal was built with")
		},
	})
	return w.out, err
}

// planner is the walk of a request.
type planner struct {
	*Guard

	out               *plan
	method, namespace string
	req               proto.Message
	carried           []proto.Message // see resent
	listed            bool            // carried is filled in
}

func (w *planner) payload(at *payloadwalk.At, p *commonpb.Payload) error {
	if w.mayLeave(p) {
		return nil
	}
	strict := w.Codec.Policy().RequiresSealed(w.namespace)
	if at.Failure() != nil {
		if p == nil || !strict && (sealed.Claims(p) || sealed.IsStorageReference(p)) {
			return refuseAltered(w.method)
		}
		link, inLink := at.Parent().(*failurepb.Failure)
		w.out.failures[len(w.out.failures)-1].plain = true
		w.out.payloads = append(w.out.payloads, plainPayload{at.Place(), strict && inLink && link.GetEncodedAttributes() == p})
		return nil
	}
	if !w.listed {
		w.carried, w.listed = resent(w.req), true
	}
	seals := false
	if _, header := at.Parent().(*commonpb.Header); header {
		seals = w.sealsHeaders(w.namespace)
	} else if slices.Contains(w.carried, at.Parent()) {
		if seals = !strict; strict {
			return refuseResent(w.method, at.Parent())
		}
	}
	if p == nil || !seals {
		return refusePayload(w.method, at.Parent(), p)
	}
	w.out.payloads = append(w.out.payloads, plainPayload{place: at.Place()})
	return nil
}

func (w *planner) message(at *payloadwalk.At, m proto.Message) error {
	switch m := m.(type) {
	case *failurepb.Failure:
		if at.Failure() == m {
			_, completes := w.req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
			ofTask := completes && (at.Field() == "commands" || at.Field() == "messages")
			w.out.failures = append(w.out.failures, &foundFailure{Failure: m, place: at.Place(), ofTask: ofTask})
		}
		if failure.HasPlaintext(m) {
			w.out.failures[len(w.out.failures)-1].plain = true
		}
	case *nexuspb.Failure:
		return w.nexusFailure(at, m)
	case *commonpb.SearchAttributes:
		return w.searchAttributes(at, m)
	}
	return nil
}

// apply makes the planned changes in a request, which the guard owns. It seals all payloads
// together.
func (g *Guard) apply(ctx context.Context, namespace string, req proto.Message, p *plan) error {
	edit := payloadwalk.Edit(req)
	plain := make(map[*commonpb.Payload]bool, len(p.payloads))
	var toSeal []*commonpb.Payload
	for _, planned := range p.payloads {
		if found, ok := edit.At(planned.place).(*commonpb.Payload); ok {
			plain[found] = true
			if !planned.text {
				toSeal = append(toSeal, found)
			}
		}
	}
	for _, planned := range p.failures {
		if found, ok := edit.At(planned.place).(*failurepb.Failure); ok && planned.plain {
			planned.Failure = found
			if err := g.sealTexts(ctx, namespace, found, func(p *commonpb.Payload) bool { return !plain[p] }); err != nil {
				return err
			}
		}
	}
	for _, planned := range p.nexus {
		if found, ok := edit.At(planned.place).(*nexuspb.Failure); ok {
			if err := g.sealNexus(ctx, namespace, found, planned); err != nil {
				return err
			}
		}
	}
	for _, place := range p.attributes {
		if found, ok := edit.At(place).(*commonpb.SearchAttributes); ok {
			delete(found.GetIndexedFields(), changeAttribute)
		}
	}
	if err := g.sealInPlace(ctx, namespace, toSeal); err != nil {
		return err
	}
	return edit.Done()
}

// sealInPlace seals payloads of a message that the guard owns.
func (g *Guard) sealInPlace(ctx context.Context, namespace string, payloads []*commonpb.Payload) error {
	if len(payloads) == 0 {
		return nil
	}
	out, err := g.Codec.Seal(ctx, namespace, payloads)
	if err != nil {
		return err
	}
	for i, p := range payloads {
		replace(p, out[i])
	}
	return nil
}

// replace replaces a payload by another one.
func replace(p, with *commonpb.Payload) {
	proto.Reset(p)
	proto.Merge(p, with)
}

// sealsHeaders reports whether the rule for a namespace says sealHeaders.
func (g *Guard) sealsHeaders(namespace string) bool {
	rule, err := g.Codec.Policy().SealRule(policy.Facts{Namespace: namespace})
	return err == nil && rule.SealHeaders
}

// A workflow that was started before its workers had the plugin has a plaintext memo. The SDK
// sends it again unchanged when the workflow continues as new. A program that updates a
// schedule of that age sends its input and memo back as the server sent them. Refusing them
// would leave every such workflow and schedule stuck, so the guard seals them.
//
// It refuses them where the namespace requires payloads to be sealed: nothing proves their age.
// The server could make them up, and hand the envelopes out as an input.

// resent returns the messages in a request that have payloads which the server may have sent
// before.
func resent(req proto.Message) (in []proto.Message) {
	switch r := req.(type) {
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		for _, command := range r.GetCommands() {
			if memo := command.GetContinueAsNewWorkflowExecutionCommandAttributes().GetMemo(); memo != nil {
				in = append(in, memo)
			}
		}
	case *workflowservice.UpdateScheduleRequest:
		if start := r.GetSchedule().GetAction().GetStartWorkflow(); start != nil {
			in = append(in, start)
			if memo := start.GetMemo(); memo != nil {
				in = append(in, memo)
			}
		}
	}
	return in
}

// refuseResent refuses to seal plaintext that is sent back.
func refuseResent(method string, parent proto.Message) error {
	what := "a payload in " + string(parent.ProtoReflect().Descriptor().Name()) + ", which may be what the server sent, is not sealed, and the namespace requires it to be (requireSealed)"
	return refuseToSend(method, kms.Denied, what, "set it anew in the program that sends it, or turn requireSealed off while plaintext from before the migration is still around")
}

// refuseAltered refuses a payload in a failure that claims to be sealed and is not: no program
// writes that.
func refuseAltered(method string) error {
	return refuseToSend(method, kms.Corrupt, "it holds a failure or a payload that could not be sealed in place", "what the server sent was altered or cut short; look into the workflow's history")
}

// refusePayload refuses a payload that is not sealed.
func refusePayload(method string, parent proto.Message, p *commonpb.Payload) error {
	hint := "a data converter other than Waxseal's made it, or sealing it failed and the SDK fell back to plaintext (memo); see the log for the cause"
	if _, header := parent.(*commonpb.Header); header {
		hint = "a context propagator or interceptor wrote it: set sealHeaders: true in the namespace's rule"
	}
	if len(p.GetMetadata()[proxy.SystemPayloadMetadataKey]) > 0 {
		hint = "workflow.SignalWithStartWorkflow sends a request to the server itself, of which the SDK seals parts only: call the client's SignalWithStartWorkflow in an activity"
	}
	return refuseToSend(method, kms.Denied, "a payload in "+string(parent.ProtoReflect().Descriptor().Name())+" is not sealed", hint)
}
