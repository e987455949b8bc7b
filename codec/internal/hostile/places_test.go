package hostile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/errordetails/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// kind is what a place in a response can hold.
type kind string

const (
	kindPayload    kind = "payload"
	kindPayloads   kind = "payloads"
	kindFailure    kind = "failure"
	kindHeader     kind = "header"
	kindMemo       kind = "memo"
	kindAttributes kind = "search attributes"
	kindAny        kind = "any"
	kindNamespace  kind = "namespace" // a string: no payload, but it decides how payloads are read
	kindHistory    kind = "history"   // in which events can be forged
)

// kinds are the kinds that the coverage test counts, by the type of the field.
var kinds = map[protoreflect.FullName]kind{
	"temporal.api.common.v1.Payload":          kindPayload,
	"temporal.api.common.v1.Payloads":         kindPayloads,
	"temporal.api.failure.v1.Failure":         kindFailure,
	"temporal.api.common.v1.Header":           kindHeader,
	"temporal.api.common.v1.Memo":             kindMemo,
	"temporal.api.common.v1.SearchAttributes": kindAttributes,
	"google.protobuf.Any":                     kindAny,
}

// services are the services with responses that carry payloads.
func services() []protoreflect.ServiceDescriptor {
	return []protoreflect.ServiceDescriptor{
		workflowservice.File_temporal_api_workflowservice_v1_service_proto.Services().Get(0),
		operatorservice.File_temporal_api_operatorservice_v1_service_proto.Services().Get(0),
	}
}

// apiPlaces returns every path, "Method: field.field", at which a response of the API can hold
// one of kinds. It visits each message type once on a path; the cause of a failure stands for
// all its causes.
func apiPlaces(services []protoreflect.ServiceDescriptor) map[string]kind {
	out := make(map[string]kind)
	for _, s := range services {
		for i := range s.Methods().Len() {
			method := s.Methods().Get(i)
			messagePlaces(out, string(method.Name())+": ", method.Output(), nil, "")
		}
	}
	return out
}

// errorPlaces returns the places in the details of the API's errors, as "Message: field.field".
func errorPlaces() map[string]kind {
	out := make(map[string]kind)
	all := errordetails.File_temporal_api_errordetails_v1_message_proto.Messages()
	for i := range all.Len() {
		messagePlaces(out, string(all.Get(i).Name())+": ", all.Get(i), nil, "")
	}
	return out
}

func messagePlaces(out map[string]kind, of string, d protoreflect.MessageDescriptor, above []protoreflect.MessageDescriptor, path string) {
	if slices.Contains(above, d) {
		return
	}
	above = append(slices.Clone(above), d)
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		child := valueOf(field).Message()
		if child == nil {
			continue
		}
		path := join(path, field)
		k, counts := kinds[child.FullName()]
		if counts {
			out[of+path] = k
		}
		if !counts || k == kindFailure {
			messagePlaces(out, of, child, above, path)
		}
	}
}

func join(path string, field protoreflect.FieldDescriptor) string {
	if path == "" {
		return string(field.Name())
	}
	return path + "." + string(field.Name())
}

// valueOf returns the field that has the type of the values in a field.
func valueOf(f protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	if f.IsMap() {
		return f.MapValue()
	}
	return f
}

// place is a part of a response that holds one of kinds.
type place struct {
	path   string // as in apiPlaces, without the method
	detail string // the key in a map
	kind   kind
	holder protoreflect.Message
	field  protoreflect.FieldDescriptor
	key    protoreflect.MapKey // of a map
	value  proto.Message       // nil for a namespace
	// commit writes the change back, if value is not part of the response.
	commit func() error
}

// name is the path with the key of a map.
func (p place) name() string {
	if p.detail == "" {
		return p.path
	}
	return p.path + "[" + p.detail + "]"
}

// payloads returns the payloads directly in a place.
func (p place) payloads() []*commonpb.Payload {
	switch v := p.value.(type) {
	case *commonpb.Payload:
		return []*commonpb.Payload{v}
	case *commonpb.Payloads:
		return v.GetPayloads()
	case *commonpb.Header:
		return sortedPayloads(v.GetFields())
	case *commonpb.Memo:
		return sortedPayloads(v.GetFields())
	case *commonpb.SearchAttributes:
		return sortedPayloads(v.GetIndexedFields())
	}
	return nil
}

func protoName(s string) protoreflect.Name { return protoreflect.Name(s) }

func stringValue(s string) protoreflect.Value { return protoreflect.ValueOfString(s) }

func sortedPayloads(m map[string]*commonpb.Payload) (out []*commonpb.Payload) {
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}

// placesIn returns the places of a response in an order that depends only on its content.
func placesIn(m proto.Message) (out []place) {
	walk(m.ProtoReflect(), "", func() error { return nil }, func(p place) { out = append(out, p) })
	return out
}

func walk(m protoreflect.Message, path string, commit func() error, visit func(place)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		p := place{path: normal(join(path, field)), holder: m, field: field, commit: commit}
		switch {
		case field.Kind() == protoreflect.StringKind && !field.IsList() && !field.IsMap() && strings.HasSuffix(string(field.Name()), "namespace"):
			p.kind = kindNamespace
			visit(p)
		case valueOf(field).Message() == nil:
		case field.IsMap():
			entries := m.Get(field).Map()
			var keys []protoreflect.MapKey
			entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
				keys = append(keys, k)
				return true
			})
			slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
			for _, k := range keys {
				p := p
				p.key, p.detail = k, k.String()
				p.meet(entries.Get(k).Message(), visit)
			}
		case field.IsList():
			for i := range m.Get(field).List().Len() {
				p.meet(m.Get(field).List().Get(i).Message(), visit)
			}
		default:
			p.meet(m.Get(field).Message(), visit)
		}
	}
}

// meet visits a place that holds v, and the places in v.
func (p place) meet(v protoreflect.Message, visit func(place)) {
	p.value = v.Interface()
	p.kind = kinds[v.Descriptor().FullName()]
	switch p.kind {
	case kindAny:
		inner, err := p.value.(*anypb.Any).UnmarshalNew()
		if err != nil {
			return
		}
		visit(p)
		outer, above := p.value.(*anypb.Any), p.commit
		walk(inner.ProtoReflect(), p.path, func() error {
			if err := outer.MarshalFrom(inner); err != nil {
				return fmt.Errorf("write %s back: %w", p.path, err)
			}
			return above()
		}, visit)
	case kindFailure:
		visit(p)
		walk(v, p.path, p.commit, visit)
	case kindPayload, kindPayloads, kindHeader, kindMemo, kindAttributes:
		visit(p)
	default:
		if v.Descriptor().FullName() == "temporal.api.history.v1.History" {
			p.kind = kindHistory
			visit(p)
		}
		walk(v, p.path, p.commit, visit)
	}
}

// normal returns a path without the causes of a failure.
func normal(path string) string {
	const cause = ".cause"
	end := strings.HasSuffix(path, cause)
	path = strings.ReplaceAll(path+".", cause+".", ".")
	path = strings.TrimSuffix(path, ".")
	if end {
		path += cause
	}
	return path
}
