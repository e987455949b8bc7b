package codec_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec"
)

func nexusMark() *nexuspb.PropagatedSerializationContext {
	return &nexuspb.PropagatedSerializationContext{Endpoint: "MARK", Service: "s", Operation: "o"}
}

// marked returns a workflow task with a mark in each kind of place, and the same task without
// marks.
func marked(t *testing.T) (with, without *workflowservice.PollWorkflowTaskQueueResponse) {
	t.Helper()
	task := func(mark *nexuspb.PropagatedSerializationContext) *workflowservice.PollWorkflowTaskQueueResponse {
		update, err := anypb.New(&updatepb.Request{Input: &updatepb.Input{Name: "u"}, PropagatedNexusSerializationContext: mark})
		if err != nil {
			t.Fatal(err)
		}
		return &workflowservice.PollWorkflowTaskQueueResponse{
			Messages: []*protocolpb.Message{{Id: "m", Body: update}, {Id: "unknown", Body: &anypb.Any{TypeUrl: "type.googleapis.com/not.known", Value: []byte{1}}}},
			History: &historypb.History{Events: []*historypb.HistoryEvent{
				{EventId: 1, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
					WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{Identity: "i", PropagatedNexusSerializationContext: mark},
				}},
				{EventId: 2, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes{
					WorkflowExecutionUpdateAcceptedEventAttributes: &historypb.WorkflowExecutionUpdateAcceptedEventAttributes{AcceptedRequest: &updatepb.Request{PropagatedNexusSerializationContext: mark}},
				}},
			}},
		}
	}
	return task(nexusMark()), task(nil)
}

// If the server could mark what a Nexus handler started, it would choose the rule that seals.
func TestNexusContextsAreDropped(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	withTask, withoutTask := marked(t)
	for name, tc := range map[string]struct{ with, without proto.Message }{
		"workflow task":      {withTask, withoutTask},
		"activity task":      {&workflowservice.PollActivityTaskQueueResponse{ActivityId: "a", PropagatedNexusSerializationContext: nexusMark()}, &workflowservice.PollActivityTaskQueueResponse{ActivityId: "a"}},
		"history":            {&workflowservice.GetWorkflowExecutionHistoryResponse{History: withTask.GetHistory(), PropagatedNexusSerializationContext: nexusMark()}, &workflowservice.GetWorkflowExecutionHistoryResponse{History: withoutTask.GetHistory()}},
		"without any":        {&workflowservice.PollActivityTaskQueueResponse{ActivityId: "a"}, &workflowservice.PollActivityTaskQueueResponse{ActivityId: "a"}},
		"with no such field": {&workflowservice.GetSystemInfoResponse{ServerVersion: "1"}, &workflowservice.GetSystemInfoResponse{ServerVersion: "1"}},
	} {
		got := proto.Clone(tc.with)
		err := codec.NewGuard(c, "n").Unary(t.Context(), "/s/Method", &workflowservice.GetSystemInfoRequest{}, got, func(context.Context, string, any, any) error { return nil })
		if err != nil || !proto.Equal(got, tc.without) || strings.Contains(prototext.Format(got), "MARK") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// With the mark, bind would compare nothing.
func TestAMarkedResultIsCompared(t *testing.T) {
	c, _ := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], bind: [workflowId]}]}`)
	r := startRecorder(t)
	cl := dial(t, c, r, nil)
	r.nexus = nexusMark()
	result := func(workflow string) *commonpb.Payloads {
		sealed, err := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, "headers", nil), converter.WorkflowSerializationContext{Namespace: "headers", WorkflowID: workflow}).ToPayloads("x")
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	for workflow, moved := range map[string]bool{"w": false, "other": true} {
		r.history = &historypb.History{Events: []*historypb.HistoryEvent{{EventId: 1, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
			WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: result(workflow)},
		}}}}
		var got string
		err := cl.GetWorkflow(t.Context(), "w", "run").Get(t.Context(), &got)
		if _, bound := errors.AsType[*codec.BindError](err); bound != moved || !moved && got != "x" {
			t.Errorf("sealed for %s: %q, %v", workflow, got, err)
		}
	}
}
