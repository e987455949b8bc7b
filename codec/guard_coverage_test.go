package codec_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/waxseal/waxseal/codec"
)

// The possible reactions of a guard to plaintext in a field.
const (
	guardRefuses = "refuses"             // everywhere
	guardSeals   = "seals"               // everywhere
	guardEither  = "seals or refuses"    // depends on the request, or on the content
	staysPlain   = "lets it pass"        // codec/internal/guard/plain.go says why
	opaqueBytes  = "does not look at it" // a time zone, and bytes that only servers fill
)

// guarded lists every field in a request of the API that can hold a payload, a failure, or
// bytes in which either might hide (except tokens). A field that is missing here fails the
// test: find out what fills it, make the guard cover it, and add it.
func guarded() map[string]string {
	return map[string]string{
		"batch.v1.BatchOperationSignal.input":                                               guardRefuses,
		"batch.v1.BatchOperationTermination.details":                                        guardRefuses,
		"command.v1.CancelWorkflowExecutionCommandAttributes.details":                       guardRefuses,
		"command.v1.CompleteWorkflowExecutionCommandAttributes.result":                      guardRefuses,
		"command.v1.ContinueAsNewWorkflowExecutionCommandAttributes.failure":                guardSeals,
		"command.v1.ContinueAsNewWorkflowExecutionCommandAttributes.input":                  guardRefuses,
		"command.v1.ContinueAsNewWorkflowExecutionCommandAttributes.last_completion_result": guardRefuses,
		"command.v1.FailWorkflowExecutionCommandAttributes.failure":                         guardSeals,
		"command.v1.RecordMarkerCommandAttributes.details":                                  guardRefuses,
		"command.v1.RecordMarkerCommandAttributes.failure":                                  guardSeals,
		"command.v1.ScheduleActivityTaskCommandAttributes.input":                            guardRefuses,
		"command.v1.ScheduleNexusOperationCommandAttributes.input":                          guardRefuses,
		"command.v1.SignalExternalWorkflowExecutionCommandAttributes.input":                 guardRefuses,
		"command.v1.StartChildWorkflowExecutionCommandAttributes.input":                     guardRefuses,
		"common.v1.Callback.Internal.data":                                                  opaqueBytes,
		"common.v1.Callback.NexusHandler.source_context":                                    guardRefuses,
		"common.v1.Header.fields":                                                           guardRefuses,
		"common.v1.Memo.fields":                                                             guardEither,
		"common.v1.SearchAttributes.indexed_fields":                                         staysPlain,
		"compute.v1.ComputeProvider.details":                                                guardRefuses,
		"compute.v1.ComputeScaler.details":                                                  guardRefuses,
		"deployment.v1.UpdateDeploymentMetadata.upsert_entries":                             guardRefuses,
		"failure.v1.ApplicationFailureInfo.details":                                         guardSeals,
		"failure.v1.CanceledFailureInfo.details":                                            guardSeals,
		"failure.v1.Failure.cause":                                                          guardSeals,
		"failure.v1.Failure.encoded_attributes":                                             guardSeals,
		"failure.v1.ResetWorkflowFailureInfo.last_heartbeat_details":                        guardSeals,
		"failure.v1.TimeoutFailureInfo.last_heartbeat_details":                              guardSeals,
		"nexus.v1.EndpointSpec.description":                                                 guardRefuses,
		"nexus.v1.Failure.cause":                                                            guardRefuses,
		"nexus.v1.Failure.details":                                                          guardRefuses,
		"nexus.v1.HandlerError.failure":                                                     guardRefuses,
		"nexus.v1.StartOperationResponse.Sync.payload":                                      guardRefuses,
		"nexus.v1.StartOperationResponse.failure":                                           guardSeals,
		"nexus.v1.UnsuccessfulOperationError.failure":                                       guardRefuses,
		"protocol.v1.Message.body":                                                          guardRefuses,
		"query.v1.WorkflowQuery.query_args":                                                 guardRefuses,
		"query.v1.WorkflowQueryResult.answer":                                               guardRefuses,
		"query.v1.WorkflowQueryResult.failure":                                              guardSeals,
		"schedule.v1.ScheduleSpec.timezone_data":                                            opaqueBytes,
		"sdk.v1.EventGroupMarker.Label.label":                                               guardRefuses,
		"sdk.v1.UserMetadata.details":                                                       guardRefuses,
		"sdk.v1.UserMetadata.summary":                                                       guardRefuses,
		"update.v1.Input.args":                                                              guardRefuses,
		"workflow.v1.NewWorkflowExecutionInfo.input":                                        guardEither,
		"workflow.v1.PostResetOperation.SignalWorkflow.input":                               guardRefuses,
		"workflowservice.v1.RecordActivityTaskHeartbeatByIdRequest.details":                 guardRefuses,
		"workflowservice.v1.RecordActivityTaskHeartbeatRequest.details":                     guardRefuses,
		"workflowservice.v1.RespondActivityTaskCanceledByIdRequest.details":                 guardRefuses,
		"workflowservice.v1.RespondActivityTaskCanceledRequest.details":                     guardRefuses,
		"workflowservice.v1.RespondActivityTaskCompletedByIdRequest.result":                 guardRefuses,
		"workflowservice.v1.RespondActivityTaskCompletedRequest.result":                     guardRefuses,
		"workflowservice.v1.RespondActivityTaskFailedByIdRequest.failure":                   guardSeals,
		"workflowservice.v1.RespondActivityTaskFailedByIdRequest.last_heartbeat_details":    guardRefuses,
		"workflowservice.v1.RespondActivityTaskFailedRequest.failure":                       guardSeals,
		"workflowservice.v1.RespondActivityTaskFailedRequest.last_heartbeat_details":        guardRefuses,
		"workflowservice.v1.RespondNexusTaskFailedRequest.failure":                          guardSeals,
		"workflowservice.v1.RespondQueryTaskCompletedRequest.failure":                       guardSeals,
		"workflowservice.v1.RespondQueryTaskCompletedRequest.query_result":                  guardRefuses,
		"workflowservice.v1.RespondWorkflowTaskFailedRequest.failure":                       guardSeals,
		"workflowservice.v1.SignalWithStartWorkflowExecutionRequest.input":                  guardRefuses,
		"workflowservice.v1.SignalWithStartWorkflowExecutionRequest.signal_input":           guardRefuses,
		"workflowservice.v1.SignalWorkflowExecutionRequest.input":                           guardRefuses,
		"workflowservice.v1.StartActivityExecutionRequest.input":                            guardRefuses,
		"workflowservice.v1.StartNexusOperationExecutionRequest.input":                      guardRefuses,
		"workflowservice.v1.StartWorkflowExecutionRequest.continued_failure":                guardSeals,
		"workflowservice.v1.StartWorkflowExecutionRequest.input":                            guardRefuses,
		"workflowservice.v1.StartWorkflowExecutionRequest.last_completion_result":           guardRefuses,
		"workflowservice.v1.TerminateWorkflowExecutionRequest.details":                      guardRefuses,
		"workflowservice.v1.UpdateWorkerDeploymentVersionMetadataRequest.upsert_entries":    guardRefuses,
	}
}

// problems returns the fields of services in which the guard does not do what list says.
// newRequest makes their requests.
func problems(t *testing.T, c *codec.Codec, services []protoreflect.ServiceDescriptor, newRequest func(protoreflect.MessageDescriptor) protoreflect.Message, list map[string]string) (out []string) {
	t.Helper()
	seen := make(map[string]map[string]bool) // what the guard did, by field
	for _, s := range services {
		for i := range s.Methods().Len() {
			method := s.Methods().Get(i)
			if method.IsStreamingClient() || method.IsStreamingServer() {
				out = append(out, fmt.Sprintf("%s streams: the guard is for unary calls only", method.FullName()))
			}
			eachField(method.Input(), nil, func(path []protoreflect.FieldDescriptor) {
				name := strings.TrimPrefix(string(path[len(path)-1].FullName()), "temporal.api.")
				if name == "common.v1.Payloads.payloads" {
					name = strings.TrimPrefix(string(path[len(path)-2].FullName()), "temporal.api.")
				}
				if seen[name] == nil {
					seen[name] = make(map[string]bool)
				}
				req := newRequest(method.Input())
				fillPlain(req, path)
				seen[name][tryGuard(t, c, string(method.Name()), req.Interface())] = true
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		did := slices.Sorted(maps.Keys(seen[name]))
		want, listed := list[name]
		switch {
		case !listed:
			out = append(out, fmt.Sprintf("%s is not listed; the guard %s", name, strings.Join(did, ", ")))
		case want == guardEither && !slices.Contains(did, staysPlain):
		case want == opaqueBytes && slices.Equal(did, []string{staysPlain}):
		case len(did) != 1 || did[0] != want:
			out = append(out, fmt.Sprintf("%s: the guard %s, listed as: %s", name, strings.Join(did, ", "), want))
		}
	}
	for name := range list {
		if seen[name] == nil {
			out = append(out, name+" is listed, and no request has it")
		}
	}
	return out
}

// eachField calls f with the path to every field of a request that can hold a payload, a
// failure, or bytes, through each type once.
func eachField(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor, f func([]protoreflect.FieldDescriptor)) {
	for _, above := range path[:max(len(path)-1, 0)] {
		if valueOf(above).Message() == d {
			return
		}
	}
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		path := append(slices.Clone(path), field)
		value := valueOf(field)
		child := value.Message()
		switch {
		case value.Kind() == protoreflect.BytesKind:
			if !strings.HasSuffix(string(field.Name()), "_token") { // the server makes them
				f(path)
			}
		case child == nil:
		case child.FullName() == payloadName:
			f(path)
		case child.FullName() == "google.protobuf.Any":
			f(path)
		case child.FullName() == failureName, child.FullName() == nexusFailureName:
			f(path)
			eachField(child, path, f)
		default:
			eachField(child, path, f)
		}
	}
}

// fillPlain puts plaintext into the field that a path leads to.
func fillPlain(req protoreflect.Message, path []protoreflect.FieldDescriptor) {
	last := path[len(path)-1]
	if valueOf(last).Kind() == protoreflect.BytesKind {
		place{path: path[:len(path)-1]}.put(req, func(m protoreflect.Message) {
			if last.IsMap() {
				m.Mutable(last).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfBytes([]byte("CANARY")))
				return
			}
			m.Set(last, protoreflect.ValueOfBytes([]byte("CANARY")))
		})
		return
	}
	place{path: path}.put(req, func(m protoreflect.Message) {
		fields := m.Descriptor().Fields()
		switch m.Descriptor().FullName() {
		case payloadName:
			proto.Merge(m.Interface(), &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"CANARY"`)})
		case failureName, nexusFailureName:
			m.Set(fields.ByName("message"), protoreflect.ValueOfString("CANARY"))
		default: // an Any
			m.Set(fields.ByName("type_url"), protoreflect.ValueOfString("type.googleapis.com/not.Known"))
			m.Set(fields.ByName("value"), protoreflect.ValueOfBytes([]byte("CANARY")))
		}
	})
}

// tryGuard returns what a guard does with a request that holds plaintext.
func tryGuard(t *testing.T, c *codec.Codec, method string, req proto.Message) string {
	t.Helper()
	out, err := codec.Outgoing(t.Context(), c, "n", method, req)
	if err != nil {
		if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: the error holds plaintext: %v", method, err)
		}
		return guardRefuses
	}
	b, err := proto.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "CANARY") {
		return staysPlain
	}
	return guardSeals
}

func generated(t *testing.T) func(protoreflect.MessageDescriptor) protoreflect.Message {
	return func(d protoreflect.MessageDescriptor) protoreflect.Message {
		mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			t.Fatal(err)
		}
		return mt.New()
	}
}

// Every field of every request that may hold a payload is listed, and the guard does with
// plaintext there what the list says.
func TestEveryFieldOfTheAPIIsCovered(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	for _, p := range problems(t, c, services(), generated(t), guarded()) {
		t.Error(p)
	}
}

// The test notices a field that a new version of the API adds.
func TestANewFieldIsNoticed(t *testing.T) {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("new.proto"), Package: new("temporal.api.new.v1"), Syntax: new("proto3"),
		Dependency: []string{"temporal/api/common/v1/message.proto", "temporal/api/failure/v1/message.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Request"), Field: []*descriptorpb.FieldDescriptorProto{
			{Name: new("namespace"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()},
			{Name: new("new_payload"), Number: new(int32(2)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".temporal.api.common.v1.Payload")},
			{Name: new("new_payloads"), Number: new(int32(3)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".temporal.api.common.v1.Payloads")},
			{Name: new("new_memo"), Number: new(int32(4)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".temporal.api.common.v1.Memo")},
			{Name: new("new_failure"), Number: new(int32(5)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".temporal.api.failure.v1.Failure")},
			{Name: new("new_bytes"), Number: new(int32(6)), Type: descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()},
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("NewService"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("New"), InputType: new(".temporal.api.new.v1.Request"), OutputType: new(".temporal.api.new.v1.Request")},
			{Name: new("Stream"), InputType: new(".temporal.api.new.v1.Request"), OutputType: new(".temporal.api.new.v1.Request"), ServerStreaming: new(true)},
		}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newCodec(t, headersPolicy)
	dynamic := func(d protoreflect.MessageDescriptor) protoreflect.Message { return dynamicpb.NewMessage(d) }
	list := maps.Clone(guarded())
	found := problems(t, c, []protoreflect.ServiceDescriptor{file.Services().Get(0)}, dynamic, list)
	for _, want := range []string{"new.v1.Request.new_payload", "new.v1.Request.new_payloads", "new.v1.Request.new_failure"} {
		// It is not listed, but still refused, in a message without a Go type.
		if !slices.Contains(found, want+" is not listed; the guard "+guardRefuses) {
			t.Errorf("%s went unnoticed: %q", want, found)
		}
	}
	for _, want := range []string{"new.v1.Request.new_bytes is not listed; the guard " + staysPlain, "temporal.api.new.v1.NewService.Stream streams: the guard is for unary calls only"} {
		if !slices.Contains(found, want) {
			t.Errorf("not noticed: %s", want)
		}
	}
	// The test also notices a field that the guard lets through although the list says that it
	// must not.
	list["new.v1.Request.new_bytes"] = guardRefuses
	found = problems(t, c, []protoreflect.ServiceDescriptor{file.Services().Get(0)}, dynamic, list)
	if want := "new.v1.Request.new_bytes: the guard " + staysPlain + ", listed as: " + guardRefuses; !slices.Contains(found, want) {
		t.Errorf("not noticed: %s", want)
	}
}
