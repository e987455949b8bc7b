package codec

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

// walker goes through a message. It only reads: the visitor of
// go.temporal.io/api/proxy writes back what it visits, which races with a
// caller that sends one header in two requests, and it looks inside a payload
// that is marked as the SDK's own instead of showing it.
type walker struct {
	// payload is called for every payload and the message it stands in, except
	// those that whyPlain excuses.
	payload func(parent proto.Message, p *commonpb.Payload) error
	// failure, if set, is called for every failure instead of what is in it; so
	// is nexusFailure.
	failure      func(parent proto.Message, f *failurepb.Failure) error
	nexusFailure func(parent proto.Message, f *nexuspb.Failure) error
	// event, if set, is called for every event of a history instead of what is in it.
	event func(e *historypb.HistoryEvent) error
	// edit says that they change what they are called for, in a message that is
	// nobody else's.
	edit bool
}

// errOpaque is in the chain of the error for a message that cannot be looked
// into: an Any of a type, or a payload in a shape, that is not known here.
var errOpaque = errors.New("codec: a message that cannot be looked into")

// eachPayload calls f for every payload in msg and the message it stands in,
// and stops at the first error.
func eachPayload(msg proto.Message, f func(parent proto.Message, p *commonpb.Payload) error) error {
	return walker{payload: f}.walk(msg)
}

// editPayloads is eachPayload for an f that changes payloads in place.
func editPayloads(msg proto.Message, f func(parent proto.Message, p *commonpb.Payload) error) error {
	return walker{payload: f, edit: true}.walk(msg)
}

// walk goes through what is in msg, and stops at the first error.
func (w walker) walk(msg proto.Message) error {
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

// visit goes through a message that stands in parent.
func (w walker) visit(parent proto.Message, child protoreflect.Message) error {
	switch m := child.Interface().(type) {
	case *commonpb.Payload:
		return w.payload(parent, m)
	case *commonpb.Payloads: // only a list: what it is in says more
		for _, p := range m.GetPayloads() {
			if err := w.payload(parent, p); err != nil {
				return err
			}
		}
		return nil
	case *failurepb.Failure:
		if w.failure != nil {
			return w.failure(parent, m)
		}
		return w.walk(m)
	case *nexuspb.Failure:
		if w.nexusFailure != nil {
			return w.nexusFailure(parent, m)
		}
		return w.walk(m)
	case *historypb.HistoryEvent:
		if w.event != nil {
			return w.event(m)
		}
		return w.walk(m)
	case *anypb.Any:
		return w.any(parent, m)
	default:
		if whyPlain(m) != "" {
			return nil
		}
		if opaque(child.Descriptor().FullName()) {
			return errOpaque
		}
		return w.walk(m)
	}
}

func (w walker) any(parent proto.Message, m *anypb.Any) error {
	inner, err := m.UnmarshalNew()
	switch {
	case err != nil && w.edit: // of a type that we do not know: there is nothing to edit
		return nil
	case err != nil:
		return errors.Join(errOpaque, err)
	}
	if err := w.visit(parent, inner.ProtoReflect()); err != nil || !w.edit {
		return err
	}
	return m.MarshalFrom(inner)
}

// opaque tells the types that are known by their Go types, and so must not come
// as any other: a dynamic message would pass as one without payloads.
func opaque(name protoreflect.FullName) bool {
	switch name {
	case "temporal.api.common.v1.Payload", "temporal.api.common.v1.Payloads",
		"temporal.api.failure.v1.Failure", "temporal.api.nexus.v1.Failure", "google.protobuf.Any":
		return true
	}
	return false
}
