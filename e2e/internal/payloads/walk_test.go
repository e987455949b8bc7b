package payloads

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

func payload(s string) *commonpb.Payload { return &commonpb.Payload{Data: []byte(s)} }

func TestWalk(t *testing.T) {
	body, err := anypb.New(&updatepb.Request{Input: &updatepb.Input{
		Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": payload("header")}},
		Args:   &commonpb.Payloads{Payloads: []*commonpb.Payload{payload("arg 0"), payload("arg 1")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	failure := &failurepb.Failure{
		EncodedAttributes: payload("attributes"),
		Cause: &failurepb.Failure{FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{
			Details: &commonpb.Payloads{Payloads: []*commonpb.Payload{payload("detail")}},
		}}},
	}
	for _, tc := range []struct {
		name string
		in   proto.Message
		want []string
	}{
		{"nothing", &workflowservice.StartWorkflowExecutionRequest{Namespace: "n"}, nil},
		{"map, list and search attributes", &workflowservice.StartWorkflowExecutionRequest{
			Input:            &commonpb.Payloads{Payloads: []*commonpb.Payload{payload("input")}},
			Memo:             &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": payload("memo")}},
			SearchAttributes: &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"s": payload("attribute")}},
		}, []string{
			"common.v1.Memo.fields StartWorkflowExecutionRequest.memo.fields[m] memo",
			"common.v1.SearchAttributes.indexed_fields StartWorkflowExecutionRequest.search_attributes.indexed_fields[s] attribute",
			"workflowservice.v1.StartWorkflowExecutionRequest.input StartWorkflowExecutionRequest.input.payloads[0] input",
		}},
		{"Any", &workflowservice.RespondWorkflowTaskCompletedRequest{Messages: []*protocolpb.Message{{Body: body}, {}, {Body: new(anypb.Any)}}}, []string{
			"common.v1.Header.fields RespondWorkflowTaskCompletedRequest.messages[0].body(Request).input.header.fields[h] header",
			"update.v1.Input.args RespondWorkflowTaskCompletedRequest.messages[0].body(Request).input.args.payloads[0] arg 0",
			"update.v1.Input.args RespondWorkflowTaskCompletedRequest.messages[0].body(Request).input.args.payloads[1] arg 1",
		}},
		{"causes", failure, []string{
			"failure.v1.ApplicationFailureInfo.details Failure.cause.application_failure_info.details.payloads[0] detail",
			"failure.v1.Failure.encoded_attributes Failure.encoded_attributes attributes",
		}},
		{"payloads alone", &commonpb.Payloads{Payloads: []*commonpb.Payload{payload("x")}}, []string{"common.v1.Payloads.payloads Payloads.payloads[0] x"}},
		{"a dynamic message", dynamic(t, failure), []string{
			"failure.v1.ApplicationFailureInfo.details Failure.cause.application_failure_info.details.payloads[0] detail",
			"failure.v1.Failure.encoded_attributes Failure.encoded_attributes attributes",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := Walk(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				got = append(got, strings.TrimPrefix(f.Field, "temporal.api.")+" "+f.Path+" "+string(f.Payload.GetData()))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func dynamic(t *testing.T, m proto.Message) proto.Message {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := dynamicpb.NewMessage(m.ProtoReflect().Descriptor())
	if err := proto.Unmarshal(b, d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWalkCannotLookInside(t *testing.T) {
	_, err := Walk(&protocolpb.Message{Body: &anypb.Any{TypeUrl: "type.googleapis.com/no.such.Type"}})
	if err == nil || !strings.Contains(err.Error(), "no.such.Type") {
		t.Errorf("got %v", err)
	}
}

func TestFields(t *testing.T) {
	service := workflowservice.File_temporal_api_workflowservice_v1_service_proto.Services().Get(0)
	got := Fields([]protoreflect.ServiceDescriptor{service}, (&updatepb.Request{}).ProtoReflect().Descriptor())
	for _, want := range []string{
		"temporal.api.workflowservice.v1.StartWorkflowExecutionRequest.input", "temporal.api.common.v1.Header.fields",
		"temporal.api.failure.v1.Failure.encoded_attributes", "temporal.api.update.v1.Input.args",
		"temporal.api.common.v1.SearchAttributes.indexed_fields",
	} {
		if !got[want] {
			t.Errorf("%s is missing among %d", want, len(got))
		}
	}
	for name := range maps.Keys(got) {
		if strings.HasPrefix(name, "temporal.api.common.v1.Payloads.") {
			t.Errorf("%s is not what holds it", name)
		}
	}
}

func TestMessage(t *testing.T) {
	if m, err := Message("temporal.api.common.v1.Memo"); err != nil || m.ProtoReflect().Descriptor().Name() != "Memo" {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := Message("no.such.Message"); err == nil {
		t.Error("found what is not there")
	}
}
