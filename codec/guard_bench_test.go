package codec_test

import (
	"context"
	"fmt"
	"testing"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
)

// sharedHeadersPolicy is sharedPolicy for a namespace with headers to seal.
const sharedHeadersPolicy = `
keys: {a: {uri: "fake://a"}}
seal: [{match: {namespace: "*"}, keys: [a], sealHeaders: true, dataKey: {maxPayloads: 100000}}]
`

// BenchmarkGuard measures what the guard adds to a call: a request that passes it, and its
// response. Nothing is sent.
func BenchmarkGuard(b *testing.B) {
	c, _ := newCodec(b, sharedHeadersPolicy)
	plain := func() *commonpb.Payload {
		return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"x"`)}
	}
	one := encode(b, c, "n", plain())[0]
	input := func() *commonpb.Payloads {
		return &commonpb.Payloads{Payloads: []*commonpb.Payload{proto.CloneOf(one), proto.CloneOf(one)}}
	}
	header := func(p *commonpb.Payload) *commonpb.Header {
		return &commonpb.Header{Fields: map[string]*commonpb.Payload{"trace": p}}
	}
	start := func(p *commonpb.Payload) proto.Message {
		return &workflowservice.StartWorkflowExecutionRequest{
			Namespace: "n", WorkflowId: "w", TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}, Input: input(), Header: header(p),
		}
	}
	completed := new(workflowservice.RespondWorkflowTaskCompletedRequest)
	task := &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte("t"), History: new(historypb.History)}
	for i := range 100 {
		completed.Commands = append(completed.Commands, &commandpb.Command{Attributes: &commandpb.Command_ScheduleActivityTaskCommandAttributes{
			ScheduleActivityTaskCommandAttributes: &commandpb.ScheduleActivityTaskCommandAttributes{
				ActivityId: fmt.Sprint(i), TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}, Input: input(), Header: header(proto.CloneOf(one)),
			},
		}})
		task.History.Events = append(task.History.Events, &historypb.HistoryEvent{
			EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
			Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{
				Input: input(), Header: header(proto.CloneOf(one)),
			}},
		})
	}
	failed := &workflowservice.RespondActivityTaskFailedRequest{Failure: &failurepb.Failure{
		Message: "the account is closed", Cause: &failurepb.Failure{EncodedAttributes: proto.CloneOf(one), Message: "Encoded failure"},
	}}
	for _, tc := range []struct {
		name       string
		req, reply proto.Message
	}{
		{"Start/sealed", start(proto.CloneOf(one)), new(workflowservice.StartWorkflowExecutionResponse)},
		{"Start/header-to-seal", start(plain()), new(workflowservice.StartWorkflowExecutionResponse)},
		{"Complete/100-activities", completed, new(workflowservice.RespondWorkflowTaskCompletedResponse)},
		{"FailActivity/text-to-seal", failed, new(workflowservice.RespondActivityTaskFailedResponse)},
		{"PollTask/100-signals", &workflowservice.PollWorkflowTaskQueueRequest{}, task},
		{"ReadHistory/100-signals", &workflowservice.GetWorkflowExecutionHistoryRequest{WaitNewEvent: true}, &workflowservice.GetWorkflowExecutionHistoryResponse{History: task.GetHistory()}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			g := codec.NewGuard(c, "n")
			encoded, err := proto.Marshal(tc.reply)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				reply := tc.reply.ProtoReflect().New().Interface()
				if err := proto.Unmarshal(encoded, reply); err != nil { // as gRPC does: the guard edits it
					b.Fatal(err)
				}
				err := g.Unary(b.Context(), "/temporal.api.workflowservice.v1.WorkflowService/Method", tc.req, reply, func(context.Context, string, any, any) error { return nil })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
