package codec

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// Failures are sealed by the failure converter. Some pass it by: those that a
// program sends with bare gRPC, those that were in a history before the plugin
// was, and what a Nexus service of another make said, which the SDK turns into
// plaintext details and passes on. The guard seals their messages, stack traces
// and payloads; a failure reports trouble, and refusing it would hide that. Where the
// namespace requires payloads to be sealed, it withholds them: the server may have made
// them, and could hand them out again as envelopes (see failure_plaintext.go).

// isPlain reports whether anything in a failure is in plaintext.
func (g *guard) isPlain(f *failurepb.Failure) bool {
	for link := f; link != nil; link = link.GetCause() {
		if failure.HasPlaintext(link) {
			return true
		}
	}
	plain := false
	err := payloadwalk.Each(f, func(_ proto.Message, p *commonpb.Payload) error {
		plain = plain || !g.mayLeave(p)
		return nil
	})
	return plain || err != nil
}

// sealFailure seals a failure in place, with all its causes. A text that cannot
// be sealed is withheld; a payload that cannot is an error.
func (g *guard) sealFailure(ctx context.Context, namespace string, f *failurepb.Failure) error {
	if g.codec.policy().RequiresSealed(namespace) {
		if err := failure.WithholdPlaintext(f, g.mayLeave); err != nil {
			return err
		}
	}
	texts := failure.New(f)
	for link := f; link != nil; link = link.GetCause() {
		if failure.HasPlaintext(link) {
			texts.Add(link)
		}
	}
	texts.SealOrWithhold(g.converter(ctx, namespace), 0)
	var plain []*commonpb.Payload
	if err := payloadwalk.Each(f, func(_ proto.Message, p *commonpb.Payload) error {
		if p != nil && !sealed.Claims(p) && !sealed.IsStorageReference(p) {
			plain = append(plain, p)
		}
		return nil
	}); err != nil {
		return err
	}
	return g.sealInPlace(ctx, namespace, plain...)
}

// nexusType is what the metadata of a Nexus failure say of one that holds a
// Temporal failure.
const nexusType = "temporal.api.failure.v1.Failure"

// unpack returns the Temporal failure that a Nexus failure holds as JSON; false
// if it holds something else, which cannot be looked into.
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

// isPlainNexus is isPlain for a Nexus failure, in whose JSON a failure or
// anything else may be.
func (g *guard) isPlainNexus(f *nexuspb.Failure) bool {
	for link := f; link != nil; link = link.GetCause() {
		if link.GetMessage() == "" && link.GetStackTrace() == "" && len(link.GetMetadata()) == 0 && len(link.GetDetails()) == 0 {
			continue
		}
		inner, ok := unpack(link)
		if !ok || g.isPlain(inner) {
			return true
		}
	}
	return false
}

// sealNexusFailure is sealFailure for a Nexus failure. One that holds no
// Temporal failure stays as it is, to be refused: which program
// reads it, and how, is not known.
func (g *guard) sealNexusFailure(ctx context.Context, namespace string, f *nexuspb.Failure) error {
	for link := f; link != nil; link = link.GetCause() {
		inner, ok := unpack(link)
		if !ok || !g.isPlain(inner) {
			continue
		}
		if err := g.sealFailure(ctx, namespace, inner); err != nil {
			return err
		}
		link.Message, link.StackTrace, inner.Message = inner.GetMessage(), "", ""
		details, err := protojson.Marshal(inner)
		if err != nil {
			return err
		}
		link.Details = details
	}
	return nil
}
