package payloadwalk

import (
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Walker walks a message. Without Edit it only reads: the visitor of
// go.temporal.io/api/proxy writes back what it visits, which races with a
// caller that sends one header in two requests, and it looks inside a payload
// that is marked as the SDK's own instead of passing it on.
type Walker struct {
	// Payload is called for each payload and the message that it stands in, except
	// for payloads that WhyPlain excuses.
	Payload func(parent proto.Message, p *commonpb.Payload) error
	// Failure, if set, is called for each failure instead of for its payloads.
	// NexusFailure is the same for failures of Nexus.
	Failure      func(parent proto.Message, f *failurepb.Failure) error
	NexusFailure func(parent proto.Message, f *nexuspb.Failure) error
	// Event, if set, is called for each event of a history instead of for its payloads.
	Event func(e *historypb.HistoryEvent) error
	// Edit says that the functions change their arguments in place. The caller owns the
	// message then.
	Edit bool
}

// ErrOpaque is in the chain of the error for a message of an unknown type: an Any, or a
// dynamic message with the name of a type that carries payloads.
var ErrOpaque = errors.New("payloadwalk: a message of an unknown type")

// Each calls f for each payload in msg and the message that it stands in, and stops at
// the first error.
func Each(msg proto.Message, f func(parent proto.Message, p *commonpb.Payload) error) error {
	return Walker{Payload: f}.Walk(msg)
}

// EditEach is Each for an f that changes payloads in place.
func EditEach(msg proto.Message, f func(parent proto.Message, p *commonpb.Payload) error) error {
	return Walker{Payload: f, Edit: true}.Walk(msg)
}

// Walk walks the fields of msg, and stops at the first error.
func (w Walker) Walk(msg proto.Message) error {
	var failed error
	visit := func(child protoreflect.Message) bool {
		failed = w.visit(msg, child)
		return failed == nil
	}
	msg.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { return visit(v.Message()) })
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < v.List().Len() && failed == nil; i++ {
				visit(v.List().Get(i).Message())
			}
		default:
			visit(v.Message())
		}
		return failed == nil
	})
	return failed
}

// visit walks a message that stands in parent.
func (w Walker) visit(parent proto.Message, child protoreflect.Message) error {
	switch m := child.Interface().(type) {
	case *commonpb.Payload:
		return w.Payload(parent, m)
	case *commonpb.Payloads: // a list: its own parent says what the payloads are
		for _, p := range m.GetPayloads() {
			if err := w.Payload(parent, p); err != nil {
				return err
			}
		}
		return nil
	case *failurepb.Failure:
		if w.Failure != nil {
			return w.Failure(parent, m)
		}
		return w.Walk(m)
	case *nexuspb.Failure:
		if w.NexusFailure != nil {
			return w.NexusFailure(parent, m)
		}
		return w.Walk(m)
	case *historypb.HistoryEvent:
		if w.Event != nil {
			return w.Event(m)
		}
		return w.Walk(m)
	case *anypb.Any:
		return w.any(parent, m)
	default:
		if WhyPlain(m) != "" {
			return nil
		}
		if opaque(child.Descriptor().FullName()) {
			return ErrOpaque
		}
		return w.Walk(m)
	}
}

func (w Walker) any(parent proto.Message, m *anypb.Any) error {
	inner, err := m.UnmarshalNew()
	switch {
	case err != nil && w.Edit: // an unknown type has nothing to edit
		return nil
	case err != nil:
		return errors.Join(ErrOpaque, err)
	}
	if err := w.visit(parent, inner.ProtoReflect()); err != nil || !w.Edit {
		return err
	}
	return m.MarshalFrom(inner)
}

// opaque reports whether a message that is not of the Go type of its name is refused: a
// dynamic message of such a type would pass as one without payloads.
func opaque(name protoreflect.FullName) bool {
	switch name {
	case "temporal.api.common.v1.Payload", "temporal.api.common.v1.Payloads",
		"temporal.api.failure.v1.Failure", "temporal.api.nexus.v1.Failure", "google.protobuf.Any":
		return true
	}
	return false
}

// PlainAttributes is why search attributes are in plaintext.
const PlainAttributes = "the server indexes and compares them"

// WhyPlain returns why all payloads in a message may be in plaintext; empty if they may
// not. docs/what-is-encrypted.md gives users the same reasons.
func WhyPlain(m proto.Message) string {
	if _, ok := m.(*commonpb.SearchAttributes); ok {
		return PlainAttributes
	}
	return ""
}
