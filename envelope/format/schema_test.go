package format_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/waxseal/waxseal/envelope/format"
)

var (
	schemaMessage = regexp.MustCompile(`(?ms)^message (\w+) \{\n(.*?)^\}`)
	schemaField   = regexp.MustCompile(`(?m)^  (repeated )?(\w+) (\w+) = (\d+);`)
	schemaTypes   = map[string]descriptorpb.FieldDescriptorProto_Type{
		"string": descriptorpb.FieldDescriptorProto_TYPE_STRING,
		"bytes":  descriptorpb.FieldDescriptorProto_TYPE_BYTES,
		"uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	}
)

// schema reads envelope.proto, as far as it uses the language, and returns the
// messages it declares.
func schema(t *testing.T) protoreflect.MessageDescriptors {
	t.Helper()
	source, err := os.ReadFile("envelope.proto")
	if err != nil {
		t.Fatal(err)
	}
	const pkg = "waxseal.envelope.v1"
	if !bytes.Contains(source, []byte("\npackage "+pkg+";\n")) || !bytes.Contains(source, []byte("\nsyntax = \"proto3\";\n")) {
		t.Fatal("envelope.proto: another package or syntax")
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: new("envelope.proto"), Package: new(pkg), Syntax: new("proto3"),
	}
	for _, m := range schemaMessage.FindAllSubmatch(source, -1) {
		message := &descriptorpb.DescriptorProto{Name: new(string(m[1]))}
		for _, f := range schemaField.FindAllSubmatch(m[2], -1) {
			number, err := strconv.ParseInt(string(f[4]), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			field := &descriptorpb.FieldDescriptorProto{
				Name: new(string(f[3])), Number: new(int32(number)),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}
			if len(f[1]) > 0 {
				field.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			if typ, ok := schemaTypes[string(f[2])]; ok {
				field.Type = typ.Enum()
			} else {
				field.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
				field.TypeName = new("." + pkg + "." + string(f[2]))
			}
			message.Field = append(message.Field, field)
		}
		file.MessageType = append(file.MessageType, message)
	}
	descriptor, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatalf("envelope.proto: %v", err)
	}
	return descriptor.Messages()
}

// TestSchemaIsWhatTheDesignSays pins the schema file itself: names, numbers, types.
func TestSchemaIsWhatTheDesignSays(t *testing.T) {
	var got string
	messages := schema(t)
	for i := range messages.Len() {
		m := messages.Get(i)
		got += string(m.Name()) + ":"
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			got += fmt.Sprintf(" %d=%s/%s/%s", f.Number(), f.Name(), f.Kind(), f.Cardinality())
		}
		got += "\n"
	}
	const want = "Envelope: 1=recipients/message/repeated 2=protected/bytes/optional 3=ciphertext/bytes/optional\n" +
		"Recipient: 1=key_id/string/optional 2=wrapped_key/bytes/optional\n" +
		"Protected: 1=suite/uint32/optional 2=salt/bytes/optional 3=commitment/bytes/optional 4=namespace/string/optional" +
		" 5=claims/message/repeated 6=compression/uint32/optional\n" +
		"Claim: 1=name/string/optional 2=value/string/optional\n"
	if got != want {
		t.Errorf("schema:\n%swant:\n%s", got, want)
	}
}

// TestVectorsAreProtobuf reads every envelope that opens with a protobuf library
// and the schema: nothing is unknown to it, it sees what Parse sees, and what it
// writes are the same bytes.
func TestVectorsAreProtobuf(t *testing.T) {
	messages := schema(t)
	for _, v := range loadVectors(t) {
		if !v.opens() {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			envelope := readMessage(t, messages.ByName("Envelope"), v.envelope)
			recipients := get(envelope, "recipients").List()
			if recipients.Len() != len(v.recipients) {
				t.Fatalf("%d recipients, want %d", recipients.Len(), len(v.recipients))
			}
			for i, want := range v.recipients {
				r := recipients.Get(i).Message()
				if get(r, "key_id").String() != want.KeyID || !bytes.Equal(get(r, "wrapped_key").Bytes(), want.WrappedKey) {
					t.Errorf("recipient %d differs", i)
				}
			}
			if n := len(get(envelope, "ciphertext").Bytes()); n != v.plaintextSize+format.CiphertextOverhead {
				t.Errorf("ciphertext of %d bytes for %d", n, v.plaintextSize)
			}
			protected := readMessage(t, messages.ByName("Protected"), get(envelope, "protected").Bytes())
			if get(protected, "suite").Uint() != uint64(v.suite) || get(protected, "compression").Uint() != uint64(v.header.Compression) ||
				!bytes.Equal(get(protected, "salt").Bytes(), v.salt) || !bytes.Equal(get(protected, "commitment").Bytes(), v.commitment) ||
				get(protected, "namespace").String() != v.header.Namespace {
				t.Errorf("protected fields differ: %v", protected.Interface())
			}
			claims := get(protected, "claims").List()
			if claims.Len() != len(v.header.Claims) {
				t.Fatalf("%d claims, want %d", claims.Len(), len(v.header.Claims))
			}
			for i, want := range v.header.Claims {
				c := claims.Get(i).Message()
				if get(c, "name").String() != want.Name || get(c, "value").String() != want.Value {
					t.Errorf("claim %d differs", i)
				}
			}
		})
	}
}

// readMessage decodes b and checks that encoding gives b again.
func readMessage(t *testing.T, d protoreflect.MessageDescriptor, b []byte) protoreflect.Message {
	t.Helper()
	m := dynamicpb.NewMessage(d)
	if err := (proto.UnmarshalOptions{}).Unmarshal(b, m); err != nil {
		t.Fatalf("%s: %v", d.Name(), err)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("%s: written again as %x, error %v; want %x", d.Name(), again, err, b)
	}
	return m
}

func get(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}
