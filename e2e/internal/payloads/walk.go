package payloads

import (
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	payloadName  = protoreflect.FullName("temporal.api.common.v1.Payload")
	payloadsName = protoreflect.FullName("temporal.api.common.v1.Payloads")
	anyName      = protoreflect.FullName("google.protobuf.Any")
)

// Found is a payload and where it was.
type Found struct {
	// Field is the field that holds it, as "temporal.api.common.v1.Memo.fields".
	// A list of payloads counts as one value of the field that holds the list.
	Field string
	// Path leads there from the message that was walked.
	Path string
	// Payload is the message's own, not a copy.
	Payload *commonpb.Payload
}

// Walk returns every payload in m. It fails on an Any of a type that is not
// linked in: what cannot be looked into must not count as clean.
func Walk(m proto.Message) ([]Found, error) {
	w := walker{}
	err := w.message(m.ProtoReflect(), "", string(m.ProtoReflect().Descriptor().Name()))
	return w.found, err
}

type walker struct{ found []Found }

func (w *walker) message(m protoreflect.Message, field, path string) error {
	switch m.Descriptor().FullName() {
	case payloadName:
		p, ok := m.Interface().(*commonpb.Payload)
		if !ok { // a dynamic message
			p = new(commonpb.Payload)
			proto.Merge(p, m.Interface())
		}
		w.found = append(w.found, Found{Field: field, Path: path, Payload: p})
		return nil
	case anyName:
		return w.any(m, path)
	}
	within := func(fd protoreflect.FieldDescriptor) string {
		if m.Descriptor().FullName() == payloadsName && field != "" {
			return field
		}
		return string(fd.FullName())
	}
	var failed error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		failed = w.field(fd, v, within(fd), path+"."+string(fd.Name()))
		return failed == nil
	})
	return failed
}

func (w *walker) field(fd protoreflect.FieldDescriptor, v protoreflect.Value, field, path string) error {
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() == nil {
			return nil
		}
		var failed error
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			failed = w.message(v.Message(), field, path+"["+k.String()+"]")
			return failed == nil
		})
		return failed
	case fd.Message() == nil:
		return nil
	case fd.IsList():
		for i := range v.List().Len() {
			if err := w.message(v.List().Get(i).Message(), field, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	default:
		return w.message(v.Message(), field, path)
	}
}

func (w *walker) any(m protoreflect.Message, path string) error {
	a := new(anypb.Any)
	proto.Merge(a, m.Interface())
	if a.GetTypeUrl() == "" && len(a.GetValue()) == 0 {
		return nil
	}
	inner, err := a.UnmarshalNew()
	if err != nil {
		return fmt.Errorf("payloads: look into %s at %s: %w", a.GetTypeUrl(), path, err)
	}
	return w.message(inner.ProtoReflect(), "", path+"("+string(inner.ProtoReflect().Descriptor().Name())+")")
}

// Fields returns every field that can hold a payload in a message that the
// methods of the services take or return, by the names that Walk gives them.
// Types that travel inside an Any are given as further roots.
func Fields(services []protoreflect.ServiceDescriptor, roots ...protoreflect.MessageDescriptor) map[string]bool {
	f := fields{fields: make(map[string]bool), seen: make(map[protoreflect.FullName]bool)}
	for _, s := range services {
		for i := range s.Methods().Len() {
			f.message(s.Methods().Get(i).Input())
			f.message(s.Methods().Get(i).Output())
		}
	}
	for _, r := range roots {
		f.message(r)
	}
	return f.fields
}

type fields struct {
	fields map[string]bool
	seen   map[protoreflect.FullName]bool
}

func (f *fields) message(m protoreflect.MessageDescriptor) {
	if f.seen[m.FullName()] {
		return
	}
	f.seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		fd := m.Fields().Get(i)
		value := fd
		if fd.IsMap() {
			value = fd.MapValue()
		}
		switch md := value.Message(); {
		case md == nil:
		case md.FullName() == payloadName || md.FullName() == payloadsName:
			f.fields[string(fd.FullName())] = true
		default:
			f.message(md)
		}
	}
}

// Message returns a new message of a linked-in type.
func Message(name protoreflect.FullName) (proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, fmt.Errorf("payloads: find message %s: %w", name, err)
	}
	return t.New().Interface(), nil
}
