package temporaltest

import (
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// EachPayload calls f for each payload of a message. It is a second walk, independent of the
// guard's, so that tests do not check the guard by itself. It also looks into the failures that
// Nexus carries as JSON.
func EachPayload(m protoreflect.Message, in string, f func(field string, p *commonpb.Payload) error) error {
	switch v := m.Interface().(type) {
	case *commonpb.Payload:
		return f(in, v)
	case *anypb.Any:
		inner, err := v.UnmarshalNew()
		if err != nil {
			return err
		}
		return EachPayload(inner.ProtoReflect(), in, f)
	case *nexuspb.Failure:
		if len(v.GetDetails()) > 0 {
			var failure failurepb.Failure
			if err := protojson.Unmarshal(v.GetDetails(), &failure); err != nil {
				return err
			}
			if err := EachPayload(failure.ProtoReflect(), in, f); err != nil {
				return err
			}
		}
	}
	var errs []error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(fd.FullName())
		if name == "temporal.api.common.v1.Payloads.payloads" {
			name = in
		}
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				errs = append(errs, EachPayload(v.Message(), name, f))
				return true
			})
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				errs = append(errs, EachPayload(v.List().Get(i).Message(), name, f))
			}
		default:
			errs = append(errs, EachPayload(v.Message(), name, f))
		}
		return true
	})
	return errors.Join(errs...)
}
