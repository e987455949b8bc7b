package payloadwalk

import (
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Place is the path from a walked message to a message in it. It is also valid in a clone of
// the walked message.
type Place []step

// step leads from a message to one of its fields, to an entry of a list or a map, or from an
// Any to the message that it holds.
type step struct {
	field protoreflect.FieldDescriptor
	index int
	key   protoreflect.MapKey
	inner proto.Message
}

var payloadsField = (*commonpb.Payloads)(nil).ProtoReflect().Descriptor().Fields().ByName("payloads")

// Editor edits a message at places that a walk found, in the walked message or in a clone of
// it. Places in an Any are edited in the message that the walk unmarshalled from it: a walk has
// one Editor, and Done writes them back.
type Editor struct {
	msg  protoreflect.Message
	anys []opened
}

type opened struct {
	packed *anypb.Any
	inner  proto.Message
}

// Edit returns an Editor. The caller owns msg.
func Edit(msg proto.Message) *Editor { return &Editor{msg: msg.ProtoReflect()} }

// At returns the message at a place.
func (e *Editor) At(p Place) proto.Message { return e.follow(p).Interface() }

// Clear clears the field that leads to the message at a place.
func (e *Editor) Clear(p Place) {
	last := len(p) - 1
	e.follow(p[:last]).Clear(p[last].field)
}

func (e *Editor) follow(p Place) protoreflect.Message {
	m := e.msg
	for _, s := range p {
		switch {
		case s.inner != nil:
			e.open(m.Interface(), s.inner)
			m = s.inner.ProtoReflect()
		case s.field.IsMap():
			m = m.Get(s.field).Map().Get(s.key).Message()
		case s.field.IsList():
			m = m.Get(s.field).List().Get(s.index).Message()
		default:
			m = m.Get(s.field).Message()
		}
	}
	return m
}

// open notes an Any with edited content, the outer before the inner.
func (e *Editor) open(m, inner proto.Message) {
	for _, o := range e.anys {
		if o.inner == inner {
			return
		}
	}
	if packed, ok := m.(*anypb.Any); ok {
		e.anys = append(e.anys, opened{packed, inner})
	}
}

// Done writes the edited content of each Any back to it.
func (e *Editor) Done() error {
	for _, o := range slices.Backward(e.anys) {
		if err := o.packed.MarshalFrom(o.inner); err != nil {
			return err
		}
	}
	return nil
}
