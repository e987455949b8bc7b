package codec

import (
	"context"
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms"
)

// A workflow that was started before its workers had the plugin has a plaintext
// memo, and failures of its activities may have plaintext details. The SDK sends
// both again as they are: the memo when the workflow continues as new, the
// failure when the workflow fails with it. A program that updates a schedule that
// is as old sends its input and memo back as the server sent them. Refusing them
// would leave every such workflow and schedule stuck, so the guard seals them.
//
// It refuses them where the namespace requires payloads to be sealed: nothing shows that
// they are old. The server could make them up, and hand the envelopes out as an input.

// resent returns the messages in a request whose payloads may be what the
// server sent before, sent back.
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

// seals reports whether the guard is to seal the payloads that stand right in
// parent, instead of refusing them.
func (g *guard) seals(namespace string, resent []proto.Message, parent proto.Message) bool {
	if _, header := parent.(*commonpb.Header); header {
		return g.codec.sealsHeaders(namespace)
	}
	return slices.Contains(resent, parent) && !g.codec.policy().RequiresSealed(namespace)
}

// resentRefusal refuses to seal what is sent back in plaintext.
func resentRefusal(method string, parent proto.Message) error {
	what := "a payload in " + string(parent.ProtoReflect().Descriptor().Name()) + ", which may be what the server sent, is not sealed, and the namespace requires it to be (requireSealed)"
	return refuseToSend(method, kms.Denied, what, "set it anew in the program that sends it, or turn requireSealed off while plaintext from before the migration is still around")
}

// sealRest seals, in place and together, what others left in plaintext and the
// guard is there for: headers, failures, and what is carried over.
func (g *guard) sealRest(ctx context.Context, method, namespace string, req proto.Message) error {
	over := resent(req)
	err := payloadwalk.Walker{
		Edit: true,
		Payload: func(parent proto.Message, p *commonpb.Payload) error {
			if p == nil || g.mayLeave(p) || !g.seals(namespace, over, parent) {
				return nil
			}
			return g.sealInPlace(ctx, namespace, p)
		},
		Failure:      func(_ proto.Message, f *failurepb.Failure) error { return g.sealFailure(ctx, namespace, f) },
		NexusFailure: func(_ proto.Message, f *nexuspb.Failure) error { return g.sealNexusFailure(ctx, namespace, f) },
	}.Walk(req)
	if err != nil {
		return onTheWire(fmt.Errorf("codec: seal headers, failures and what is carried over in %s: %w", method, err))
	}
	return nil
}

// sealInPlace seals payloads of a message that the guard owns.
func (g *guard) sealInPlace(ctx context.Context, namespace string, payloads ...*commonpb.Payload) error {
	if len(payloads) == 0 {
		return nil
	}
	out, err := g.codec.Encode(ctx, EncodeOptions{Namespace: namespace}, payloads)
	if err != nil {
		return err
	}
	for i, p := range payloads {
		proto.Reset(p)
		proto.Merge(p, out[i])
	}
	return nil
}
