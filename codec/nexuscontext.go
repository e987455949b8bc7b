package codec

import (
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Since the Go SDK 1.51, the server may mark workflows, updates and activities as started by
// a Nexus handler. The SDK then converts their results with the context of that operation,
// which names neither workflow nor activity: the server would choose the rule that seals
// them, and have `bind` compare nothing. So the guard drops the mark. Results are sealed by
// what produced them, and the caller of the operation opens them as any other result.

// nexusContexts drops the marks. The zero value is ready. It is safe for concurrent use.
type nexusContexts struct {
	known sync.Map // of protoreflect.FullName to bool: whether a message of this type may hold a mark
}

const nexusContext protoreflect.FullName = "temporal.api.nexus.v1.PropagatedSerializationContext"

// drop clears, in place, each field of msg that holds such a mark.
func (n *nexusContexts) drop(msg proto.Message) error {
	m := msg.ProtoReflect()
	if !n.mayHold(m.Descriptor()) {
		return nil
	}
	var failed error
	each := func(v protoreflect.Value) bool {
		failed = n.drop(v.Message().Interface())
		return failed == nil
	}
	if packed, ok := msg.(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil || !n.mayHold(inner.ProtoReflect().Descriptor()) {
			return nil //nolint:nilerr // the SDK does not read a type that is not known here either
		}
		if err := n.drop(inner); err != nil {
			return err
		}
		return packed.MarshalFrom(inner)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { return each(v) })
			}
		case f.Message() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && failed == nil; i++ {
				each(v.List().Get(i))
			}
		case f.Message().FullName() == nexusContext:
			m.Clear(f)
		default:
			each(v)
		}
		return failed == nil
	})
	return failed
}

// mayHold reports whether a message of a type may hold a mark, at any depth.
func (n *nexusContexts) mayHold(d protoreflect.MessageDescriptor) bool {
	if known, ok := n.known.Load(d.FullName()); ok {
		return known.(bool)
	}
	may := reachesNexusContext(d, make(map[protoreflect.FullName]bool))
	n.known.Store(d.FullName(), may)
	return may
}

func reachesNexusContext(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	switch d.FullName() {
	case nexusContext, "google.protobuf.Any":
		return true
	}
	if seen[d.FullName()] {
		return false
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if f.IsMap() {
			f = f.MapValue()
		}
		if f.Message() != nil && reachesNexusContext(f.Message(), seen) {
			return true
		}
	}
	return false
}
