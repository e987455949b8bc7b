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

// The failure converter seals failures. Some do not pass it: failures that a program sends with
// bare gRPC, those in a history from before the plugin, and those of a foreign Nexus service,
// which the SDK passes on with plaintext details. The guard seals their messages, stack traces
// and payloads: a failure reports trouble, and refusing it would hide that. Where the namespace
// requires payloads to be sealed, the guard withholds them: the server may have made them, and
// could hand them out again as envelopes.

// sealTexts seals the texts of a failure and of all its causes, in place. It withholds a text
// that cannot be sealed. isSealed reports whether a payload in the failure is sealed.
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

// nexusFailure plans the changes in a link of a Nexus failure. It refuses one that holds no
// Temporal failure: the guard does not know which program reads it, and how.
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

// sealNexus replaces the plaintext failure in a link by the sealed one.
func (g *Guard) sealNexus(ctx context.Context, namespace string, link *nexuspb.Failure, planned nexusFailure) error {
	if err := g.apply(ctx, namespace, planned.inner, planned.plan); err != nil {
		return err
	}
	link.Message, link.StackTrace, planned.inner.Message = planned.inner.GetMessage(), "", ""
	details, err := protojson.Marshal(planned.inner)
	link.Details = details
	return err
}

// nexusType is the metadata of a Nexus failure that holds a Temporal failure.
const nexusType = "temporal.api.failure.v1.Failure"

// unpack returns the Temporal failure that a Nexus failure holds as JSON; false if it holds
// something else, which the guard cannot read.
func unpack(f *nexuspb.Failure) (*failurepb.Failure, bool) {
	inner := new(failurepb.Failure)
	if f.GetMetadata()["type"] != nexusType || len(f.GetMetadata()) > 1 || protojson.Unmarshal(f.GetDetails(), inner) != nil {
		return nil, false
	}
	if inner.GetMessage() != "" && f.GetMessage() != "" {
		return nil, false // two messages: the reader may read the one that is dropped
	}
	if f.GetMessage() != "" {
		inner.Message = f.GetMessage()
	}
	if f.GetStackTrace() != "" {
		inner.StackTrace = f.GetStackTrace()
	}
	return inner, true
}
