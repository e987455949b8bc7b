package codec_test

import (
	"slices"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const (
	payloadName      = protoreflect.FullName("temporal.api.common.v1.Payload")
	failureName      = protoreflect.FullName("temporal.api.failure.v1.Failure")
	nexusFailureName = protoreflect.FullName("temporal.api.nexus.v1.Failure")
	attributesName   = protoreflect.FullName("temporal.api.common.v1.SearchAttributes")
)

// services are the services with requests that a guard sees.
func services() []protoreflect.ServiceDescriptor {
	return []protoreflect.ServiceDescriptor{
		workflowservice.File_temporal_api_workflowservice_v1_service_proto.Services().Get(0),
		operatorservice.File_temporal_api_operatorservice_v1_service_proto.Services().Get(0),
	}
}

// place is where a message can stand in a request.
type place struct {
	method  string
	request protoreflect.MessageType
	path    []protoreflect.FieldDescriptor
}

// placesOf returns all places for messages of one type in the requests of the API, through each
// type once, except in search attributes.
func placesOf(of protoreflect.FullName) (out []place) {
	for _, s := range services() {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			request, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
			if err != nil {
				panic(err) // the services are linked in, and so are their requests
			}
			var visit func(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor)
			visit = func(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor) {
				if d.FullName() == of && len(path) > 0 {
					out = append(out, place{string(m.Name()), request, path})
				}
				if d.FullName() == payloadName || d.FullName() == attributesName {
					return
				}
				for _, above := range path[:max(len(path)-1, 0)] {
					if valueOf(above).Message() == d {
						return
					}
				}
				for i := range d.Fields().Len() {
					if child := valueOf(d.Fields().Get(i)).Message(); child != nil {
						visit(child, append(slices.Clone(path), d.Fields().Get(i)))
					}
				}
			}
			visit(request.Descriptor(), nil)
		}
	}
	return out
}

// valueOf returns the field that has the type of the values in a field.
func valueOf(f protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	if f.IsMap() {
		return f.MapValue()
	}
	return f
}

// put creates all messages on the way, and calls fill with the last.
func (p place) put(m protoreflect.Message, fill func(protoreflect.Message)) {
	if len(p.path) == 0 {
		fill(m)
		return
	}
	field, rest := p.path[0], place{p.method, p.request, p.path[1:]}
	switch {
	case field.IsMap():
		v := m.Mutable(field).Map().NewValue()
		rest.put(v.Message(), fill)
		key := protoreflect.ValueOfString("k")
		if field.MapKey().Kind() != protoreflect.StringKind {
			key = protoreflect.ValueOfInt64(1)
		}
		m.Mutable(field).Map().Set(key.MapKey(), v)
	case field.IsList():
		rest.put(m.Mutable(field).List().AppendMutable().Message(), fill)
	default:
		rest.put(m.Mutable(field).Message(), fill)
	}
}
