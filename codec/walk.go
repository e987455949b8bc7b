package codec

import (
	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// eachPayload calls f for every payload in msg and the message it stands in,
// except search attributes, and stops at the first error. It only reads: the
// visitor of go.temporal.io/api/proxy writes back what it visits, which races
// with a caller that sends one header in two requests, and it looks inside a
// payload that is marked as the SDK's own instead of showing it.
func eachPayload(msg proto.Message, f func(parent proto.Message, p *commonpb.Payload) error) error {
	return walk(msg, false, f)
}

// editPayloads is eachPayload for an f that changes payloads in place, in a
// message that is nobody else's.
func editPayloads(msg proto.Message, f func(parent proto.Message, p *commonpb.Payload) error) error {
	return walk(msg, true, f)
}

func walk(msg proto.Message, edit bool, f func(parent proto.Message, p *commonpb.Payload) error) error {
	var failed error
	var visit func(protoreflect.Message) bool
	visit = func(child protoreflect.Message) bool {
		switch m := child.Interface().(type) {
		case *commonpb.Payload:
			failed = f(msg, m)
		case *commonpb.Payloads: // only a list: what it is in says more
			for i := 0; i < len(m.GetPayloads()) && failed == nil; i++ {
				failed = f(msg, m.GetPayloads()[i])
			}
		case *commonpb.SearchAttributes:
		case *anypb.Any:
			inner, err := m.UnmarshalNew()
			switch {
			case err != nil && edit: // of a type that we do not know: there is nothing to edit
			case err != nil:
				failed = err
			case visit(inner.ProtoReflect()) && edit:
				failed = m.MarshalFrom(inner)
			}
		default:
			failed = walk(m, edit, f)
		}
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
