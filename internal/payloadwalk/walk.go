package payloadwalk

import (
	"errors"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Visitor holds the functions that a walk calls. Each may be nil. An error ends the walk.
type Visitor struct {
	// Payload is called for each payload, except for those that WhyPlain excuses.
	Payload func(at *At, p *commonpb.Payload) error
	// Message is called for each message that has other content to check than payloads:
	// *failure.Failure and *nexus.Failure (each link, before its payloads and its cause),
	// *common.SearchAttributes and *nexus.PropagatedSerializationContext.
	Message func(at *At, m proto.Message) error
	// Opaque is called for a message that cannot be looked into. If it is nil, the walk
	// ends with ErrOpaque.
	Opaque func(at *At) error
}

// ErrOpaque is in the chain of the error for a message of an unknown type: an Any, or a
// dynamic message with the name of a type that carries payloads.
var ErrOpaque = errors.New("payloadwalk: a message of an unknown type")

// Each calls f for each payload in msg, with the message that contains it, and stops at the
// first error.
func Each(msg proto.Message, f func(parent proto.Message, p *commonpb.Payload) error) error {
	return Walk(msg, Visitor{Payload: func(at *At, p *commonpb.Payload) error { return f(at.Parent(), p) }})
}

// Walk calls the functions of v for the payloads and messages in msg. It only reads. The
// visitor of go.temporal.io/api/proxy writes back what it visits, which races with a caller
// that sends one header in two requests. It also looks inside a payload that is marked as the
// SDK's own instead of passing it on.
func Walk(msg proto.Message, v Visitor) error {
	w := walk{Visitor: v, at: At{parent: msg}}
	return w.visit(msg.ProtoReflect())
}

// At is the position of a walk. It is valid only during the call that receives it.
type At struct {
	path    Place
	parent  proto.Message
	event   *historypb.HistoryEvent
	failure *failurepb.Failure
}

// Parent returns the message that contains the current one. A list of payloads and an Any do
// not count: their parent says what they hold.
func (at *At) Parent() proto.Message { return at.parent }

// Event returns the history event around the current message; nil if there is none.
func (at *At) Event() *historypb.HistoryEvent { return at.event }

// Failure returns the outermost link of the failure around the current message, which may be
// that message; nil if there is none.
func (at *At) Failure() *failurepb.Failure { return at.failure }

// Field returns the name of the field of the walked message that contains the current one.
func (at *At) Field() protoreflect.Name {
	if len(at.path) == 0 || at.path[0].field == nil { // the walked message itself, or an Any
		return ""
	}
	return at.path[0].field.Name()
}

// Place returns the current place, for a later edit.
func (at *At) Place() Place { return slices.Clone(at.path) }

// walk is a walk under way.
type walk struct {
	Visitor

	at At
}

// fields walks the fields of a message.
func (w *walk) fields(m protoreflect.Message) (err error) {
	parent := m.Interface()
	for _, f := range reaching(m.Descriptor()) {
		if !m.Has(f) {
			continue
		}
		v := m.Get(f)
		switch {
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				err = w.step(parent, step{field: f, key: key}, v.Message())
				return err == nil
			})
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = w.step(parent, step{field: f, index: i}, v.List().Get(i).Message())
			}
		default:
			err = w.step(parent, step{field: f}, v.Message())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// step visits a message one step below, in parent.
func (w *walk) step(parent proto.Message, s step, m protoreflect.Message) error {
	w.at.parent, w.at.path = parent, append(w.at.path, s)
	err := w.visit(m)
	w.at.path = w.at.path[:len(w.at.path)-1]
	return err
}

// visit walks a message.
func (w *walk) visit(child protoreflect.Message) error {
	switch m := child.Interface().(type) {
	case *commonpb.Payload:
		return w.payload(m)
	case *commonpb.Payloads:
		for i, p := range m.GetPayloads() {
			w.at.path = append(w.at.path, step{field: payloadsField, index: i})
			err := w.payload(p)
			w.at.path = w.at.path[:len(w.at.path)-1]
			if err != nil {
				return err
			}
		}
		return nil
	case *failurepb.Failure:
		return w.failure(child, m)
	case *nexuspb.Failure, *commonpb.SearchAttributes, *nexuspb.PropagatedSerializationContext:
		return w.message(child, m)
	case *historypb.HistoryEvent:
		w.at.event = m
		defer func() { w.at.event = nil }()
		return w.fields(child)
	case *anypb.Any:
		inner, err := m.UnmarshalNew()
		if err != nil {
			return w.opaque(err)
		}
		return w.step(w.at.parent, step{inner: inner}, inner.ProtoReflect())
	}
	if interesting(child.Descriptor().FullName()) {
		return w.opaque(nil)
	}
	return w.fields(child)
}

func (w *walk) payload(p *commonpb.Payload) error {
	if w.Payload == nil {
		return nil
	}
	return w.Payload(&w.at, p)
}

func (w *walk) failure(child protoreflect.Message, m *failurepb.Failure) error {
	if w.at.failure == nil {
		w.at.failure = m
		defer func() { w.at.failure = nil }()
	}
	return w.message(child, m)
}

// message calls Message, and walks the fields.
func (w *walk) message(child protoreflect.Message, m proto.Message) error {
	if w.Message != nil {
		if err := w.Message(&w.at, m); err != nil {
			return err
		}
	}
	if WhyPlain(m) != "" {
		return nil
	}
	return w.fields(child)
}

func (w *walk) opaque(why error) error {
	if w.Opaque == nil {
		return errors.Join(ErrOpaque, why)
	}
	return w.Opaque(&w.at)
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
