package hostile

import (
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// filler fills every place of a response with the content of an honest server.
type filler struct {
	l     *lane
	scene int
	sc    converter.SerializationContext
	// alternative says which field of a oneof is set. A list holds one element for each
	// alternative of a oneof.
	alternative int
}

// fill returns m with all its places filled.
func (f filler) fill(m proto.Message) proto.Message {
	f.message(m.ProtoReflect(), nil)
	return m
}

func (f filler) message(m protoreflect.Message, above []protoreflect.MessageDescriptor) {
	d := m.Descriptor()
	if slices.Contains(above, d) {
		return
	}
	above = append(slices.Clone(above), d)
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		if valueOf(field).Message() == nil || !holds(field, above) || field.ContainingOneof() != nil && !field.HasOptionalKeyword() {
			continue
		}
		f.field(m, field, above)
	}
	for i := range d.Oneofs().Len() {
		o := d.Oneofs().Get(i)
		set := m.WhichOneof(o)
		switch all := alternatives(o, above); {
		case o.IsSynthetic():
		case set != nil && slices.Contains(all, set):
			f.field(m, set, above)
		case set == nil && len(all) > 0:
			f.field(m, all[f.alternative%len(all)], above)
		}
	}
}

// alternatives returns the fields of a oneof that hold payloads.
func alternatives(o protoreflect.OneofDescriptor, above []protoreflect.MessageDescriptor) (out []protoreflect.FieldDescriptor) {
	for i := range o.Fields().Len() {
		if field := o.Fields().Get(i); field.Message() != nil && holds(field, above) {
			out = append(out, field)
		}
	}
	return out
}

// holds reports whether a field can hold payloads, at any depth.
func holds(field protoreflect.FieldDescriptor, above []protoreflect.MessageDescriptor) bool {
	d := valueOf(field).Message()
	switch {
	case d == nil, d.FullName() == "google.protobuf.Any":
		return false
	case kinds[d.FullName()] != "":
		return true
	case slices.Contains(above, d):
		return false
	}
	above = append(slices.Clone(above), d)
	for i := range d.Fields().Len() {
		if holds(d.Fields().Get(i), above) {
			return true
		}
	}
	return false
}

func (f filler) field(m protoreflect.Message, field protoreflect.FieldDescriptor, above []protoreflect.MessageDescriptor) {
	counts := kinds[valueOf(field).Message().FullName()] != ""
	switch {
	case counts && m.Has(field): // it came from an honest program
	case field.IsMap():
		key := protoreflect.ValueOfString("key").MapKey()
		if field.MapKey().Kind() != protoreflect.StringKind {
			key = protoreflect.ValueOfInt64(1).MapKey()
		}
		v := m.Mutable(field).Map().NewValue()
		f.value(v.Message(), above)
		m.Mutable(field).Map().Set(key, v)
	case field.IsList():
		list := m.Mutable(field).List()
		if list.Len() == 0 {
			for i := range f.variety(field.Message(), above) {
				f := f
				f.alternative = i
				f.value(list.AppendMutable().Message(), above)
			}
			return
		}
		for i := range list.Len() {
			f.value(list.Get(i).Message(), above)
		}
	default:
		f.value(m.Mutable(field).Message(), above)
	}
}

// variety returns how many elements of a type are needed for all alternatives of its oneofs.
func (f filler) variety(d protoreflect.MessageDescriptor, above []protoreflect.MessageDescriptor) int {
	most := 1
	for i := range d.Oneofs().Len() {
		most = max(most, len(alternatives(d.Oneofs().Get(i), append(slices.Clone(above), d))))
	}
	return most
}

// unbound marks a value that was sealed without a known workflow, and so without the claim that
// bind compares.
const unbound = "unbound-"

// value fills a message in a field.
func (f filler) value(m protoreflect.Message, above []protoreflect.MessageDescriptor) {
	named := func(what string) string {
		if _, known := f.sc.(converter.WorkflowSerializationContext); !known {
			return unbound + what
		}
		return what
	}
	c := func(what string) string { return f.l.canary(f.scene, named(what)) }
	var with proto.Message
	switch kinds[m.Descriptor().FullName()] {
	case kindPayload:
		with = f.l.sealOne(f.sc, c("payload"))
	case kindPayloads:
		with = f.l.seal(f.sc, c("payloads"), c("payloads-2"))
	case kindFailure:
		with = (&recorder{l: f.l, scene: f.scene}).applicationFailure(f.sc, named("failure"))
	case kindHeader:
		with = f.l.header(f.scene, "header")
	case kindMemo:
		with = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"memo": f.l.sealOne(f.sc, c("memo"))}}
	case kindAttributes:
		public, err := converter.GetDefaultDataConverter().ToPayload("public")
		if err != nil {
			panic(err) // a string converts
		}
		public.Metadata["type"] = []byte("Keyword")
		with = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{attributeName: public}}
	default:
		f.message(m, above)
		return
	}
	proto.Merge(m.Interface(), with)
}
