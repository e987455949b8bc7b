package guard

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// Failures are sealed by the failure converter. Some pass it by: those that a program sends
// with bare gRPC, those that were in a history before the plugin was, and what a Nexus
// service of another make said, which the SDK turns into plaintext details and passes on.
// The guard seals their messages, stack traces and payloads; a failure reports trouble, and
// refusing it would hide that. Where the namespace requires payloads to be sealed, it
// withholds them: the server may have made them, and could hand them out again as envelopes.

// sealTexts seals the texts of a failure in place, with all its causes. A text that cannot
// be sealed is withheld. isSealed is whether a payload in it is sealed.
func (g *Guard) sealTexts(ctx context.Context, namespace string, f *failurepb.Failure, isSealed func(*commonpb.Payload) bool) error {
	if g.Codec.Policy().RequiresSealed(namespace) {
		if err := failure.WithholdPlaintext(f, isSealed); err != nil {
			return err
		}
	}
	texts := failure.New(f)
	for link := f; link != nil; link = link.GetCause() {
		if failure.HasPlaintext(link) {
			texts.Add(link)
		}
	}
	texts.SealOrWithhold(g.Codec.Converter(ctx, namespace), 0)
	return nil
}

// nexusFailure is a link of a Nexus failure that holds a Temporal failure with plaintext.
type nexusFailure struct {
	place payloadwalk.Place
	inner *failurepb.Failure
	plan  *plan // for inner
}

// nexusFailure plans what is to be changed in a link of a Nexus failure. One that holds no
// Temporal failure is refused: which program reads it, and how, is not known.
func (w *planner) nexusFailure(at *payloadwalk.At, link *nexuspb.Failure) error {
	if link.GetMessage() == "" && link.GetStackTrace() == "" && len(link.GetMetadata()) == 0 && len(link.GetDetails()) == 0 {
		return nil
	}
	inner, ok := unpack(link)
	if !ok {
		return refuseAltered(w.method)
	}
	p, err := w.plan(w.method, w.namespace, inner)
	if err == nil && !p.empty() {
		w.out.nexus = append(w.out.nexus, nexusFailure{at.Place(), inner, p})
	}
	return err
}

// sealNexus puts the sealed failure into the link that held it in plaintext.
func (g *Guard) sealNexus(ctx context.Context, namespace string, link *nexuspb.Failure, planned nexusFailure) error {
	if err := g.apply(ctx, namespace, planned.inner, planned.plan); err != nil {
		return err
	}
	link.Message, link.StackTrace, planned.inner.Message = planned.inner.GetMessage(), "", ""
	details, err := protojson.Marshal(planned.inner)
	link.Details = details
	return err
}

// nexusType is what the metadata of a Nexus failure say of one that holds a Temporal
// failure.
const nexusType = "temporal.api.failure.v1.Failure"

// unpack returns the Temporal failure that a Nexus failure holds as JSON; false if it holds
// something else, which cannot be looked into.
func unpack(f *nexuspb.Failure) (*failurepb.Failure, bool) {
	inner := new(failurepb.Failure)
	if f.GetMetadata()["type"] != nexusType || len(f.GetMetadata()) > 1 || protojson.Unmarshal(f.GetDetails(), inner) != nil {
		return nil, false
	}
	if inner.GetMessage() != "" && f.GetMessage() != "" {
		return nil, false // two of them: whichever is dropped may be the one that is read
	}
	if f.GetMessage() != "" {
		inner.Message = f.GetMessage()
	}
	if f.GetStackTrace() != "" {
		inner.StackTrace = f.GetStackTrace()
	}
	return inner, true
}
