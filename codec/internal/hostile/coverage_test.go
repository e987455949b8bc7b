package hostile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/waxseal/waxseal/codec/internal/temporaltest"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// uncovered returns the places of the API without a scene or a reason, and the reasons without
// a place.
func uncovered(api map[string]kind, met map[string]bool, reasons []unread) (out []string) {
	used := make([]bool, len(reasons))
	for _, p := range sortedKeys(api) {
		if met[p] {
			continue
		}
		i := slices.IndexFunc(reasons, func(u unread) bool { return u.excuses(p) })
		if i < 0 {
			out = append(out, fmt.Sprintf("no scene has %s (%s), and unread_test.go has no reason why", p, api[p]))
			continue
		}
		used[i] = true
	}
	for i, u := range reasons {
		if !used[i] {
			out = append(out, fmt.Sprintf("unread_test.go excuses nothing with %s: %s", u.method, u.path))
		}
	}
	return out
}

// Every place of a response that can hold a payload is in a scene in which a program reads it
// through the SDK, or has a documented reason why it is never read.
func TestEveryPlaceIsCovered(t *testing.T) {
	a := newAdversary(1)
	fake := kmstest.NewFake("hostile0")
	a.open = opener(t, []*kmstest.Fake{fake})
	a.addr = temporaltest.Listen(t, a)
	defer a.stop()
	l := a.openLane(t, 0, variants[0], kmstest.NewBackend(fake))
	met := make(map[string]bool)
	for _, s := range l.scenes {
		if isRaw(s) {
			continue
		}
		for _, p := range placesIn(s.response) {
			met[s.method+": "+p.path] = true
		}
	}
	all := apiPlaces(services())
	maps.Copy(all, errorPlaces())
	for _, problem := range uncovered(all, met, unreads) {
		t.Error(problem)
	}
}

// The test notices a place that a new version of the API adds.
func TestANewPlaceIsNoticed(t *testing.T) {
	field := func(name string, number int32, of string) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: &of}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("new.proto"), Package: new("temporal.api.new.v1"), Syntax: new("proto3"),
		Dependency: []string{"temporal/api/common/v1/message.proto", "temporal/api/failure/v1/message.proto"},
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: new("Request")},
			{Name: new("Inner"), Field: []*descriptorpb.FieldDescriptorProto{field("memo", 1, ".temporal.api.common.v1.Memo"), field("again", 2, ".temporal.api.new.v1.Inner")}},
			{Name: new("Response"), Field: []*descriptorpb.FieldDescriptorProto{
				field("payload", 1, ".temporal.api.common.v1.Payload"), field("header", 2, ".temporal.api.common.v1.Header"), field("inner", 3, ".temporal.api.new.v1.Inner"),
				field("failure", 4, ".temporal.api.failure.v1.Failure"),
			}},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("NewService"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("New"), InputType: new(".temporal.api.new.v1.Request"), OutputType: new(".temporal.api.new.v1.Response")},
		}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Join(uncovered(apiPlaces([]protoreflect.ServiceDescriptor{file.Services().Get(0)}), map[string]bool{"New: header": true}, nil), "\n")
	for _, want := range []string{"New: payload (payload)", "New: inner.memo (memo)", "New: failure (failure)", "New: failure.cause (failure)", "New: failure.encoded_attributes (payload)"} {
		if !strings.Contains(found, want) {
			t.Errorf("%s went unnoticed:\n%s", want, found)
		}
	}
	if strings.Contains(found, "New: header") {
		t.Errorf("a place of a scene is reported as uncovered:\n%s", found)
	}
}
