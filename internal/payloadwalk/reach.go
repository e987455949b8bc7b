package payloadwalk

import (
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// A history is mostly times, IDs and settings. So a walk enters only fields with a type that
// can hold what it looks for, at any depth.

// known maps each type to the fields that a walk enters. It has as many entries as the program
// has descriptors.
var known sync.Map // of protoreflect.MessageDescriptor to []protoreflect.FieldDescriptor

// reaching returns the fields of a type that a walk enters.
func reaching(d protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	if fields, ok := known.Load(d); ok {
		return fields.([]protoreflect.FieldDescriptor) //nolint:forcetypeassert // what reaching stores
	}
	var fields []protoreflect.FieldDescriptor
	for i := range d.Fields().Len() {
		if f := d.Fields().Get(i); reaches(messageOf(f), make(map[protoreflect.FullName]bool)) {
			fields = append(fields, f)
		}
	}
	known.Store(d, fields)
	return fields
}

// reaches reports whether a message of a type, nil for a scalar, can hold what a walk looks
// for.
func reaches(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if d == nil || seen[d.FullName()] {
		return false
	}
	if interesting(d.FullName()) {
		return true
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		if reaches(messageOf(d.Fields().Get(i)), seen) {
			return true
		}
	}
	return false
}

// messageOf returns the type of a field, or of the values of a map; nil for a scalar.
func messageOf(f protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if f.IsMap() {
		f = f.MapValue()
	}
	return f.Message()
}

// interesting reports whether a walk looks for messages of a type. A message with such a name
// but another Go type is opaque: otherwise it would count as a message without payloads.
func interesting(name protoreflect.FullName) bool {
	switch name {
	case "temporal.api.common.v1.Payload", "temporal.api.common.v1.Payloads", "temporal.api.common.v1.SearchAttributes",
		"temporal.api.failure.v1.Failure", "temporal.api.nexus.v1.Failure", "temporal.api.nexus.v1.PropagatedSerializationContext",
		"google.protobuf.Any":
		return true
	}
	return false
}
