package codec_test

import (
	"context"
	"strings"
	"testing"
	"time"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func payloads(p ...*commonpb.Payload) *commonpb.Payloads { return &commonpb.Payloads{Payloads: p} }

func TestWhatAWorkflowCarriesOverIsSealed(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	s, cl := dialQueryServer(t, c)
	plain := payload(t, "CANARY")
	sealed := encode(t, c, "n", payload(t, "sealed"))[0]
	req := &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", Commands: []*commandpb.Command{
		{Attributes: &commandpb.Command_ContinueAsNewWorkflowExecutionCommandAttributes{ContinueAsNewWorkflowExecutionCommandAttributes: &commandpb.ContinueAsNewWorkflowExecutionCommandAttributes{
			Memo: &commonpb.Memo{Fields: map[string]*commonpb.Payload{"old": plain, "new": sealed}},
		}}},
		{Attributes: &commandpb.Command_FailWorkflowExecutionCommandAttributes{FailWorkflowExecutionCommandAttributes: &commandpb.FailWorkflowExecutionCommandAttributes{
			Failure: &failurepb.Failure{EncodedAttributes: sealed, Cause: &failurepb.Failure{
				EncodedAttributes: plain,
				FailureInfo:       &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Details: payloads(plain)}},
			}},
		}}},
	}}
	before := proto.CloneOf(req)
	if _, err := cl.WorkflowService().RespondWorkflowTaskCompleted(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, req) {
		t.Error("the request was mutated")
	}
	memo := s.piggyback.GetCommands()[0].GetContinueAsNewWorkflowExecutionCommandAttributes().GetMemo().GetFields()
	cause := s.piggyback.GetCommands()[1].GetFailWorkflowExecutionCommandAttributes().GetFailure().GetCause()
	if !proto.Equal(memo["new"], sealed) {
		t.Error("a sealed payload was changed")
	}
	for what, p := range map[string]*commonpb.Payload{
		"memo": memo["old"], "attributes": cause.GetEncodedAttributes(), "details": cause.GetApplicationFailureInfo().GetDetails().GetPayloads()[0],
	} {
		if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{p})[0]; d.Err != nil || !d.Sealed || !proto.Equal(d.Payload, plain) {
			t.Errorf("%s: %+v", what, d)
		}
	}

	t.Run("not while the KMS is down", func(t *testing.T) {
		backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
		s, cl := dialQueryServer(t, newCodecOn(t, onePolicy, backend))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := cl.WorkflowService().RespondWorkflowTaskCompleted(ctx, req)
		if serviceerror.ToStatus(err).Code() != codes.Unavailable || s.piggyback != nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("sent %v, got %v", s.piggyback, err)
		}
	})
	t.Run("results are the data converter's", func(t *testing.T) {
		_, err := codec.Outgoing(t.Context(), c, "n", "Method", &workflowservice.RespondWorkflowTaskCompletedRequest{Commands: []*commandpb.Command{
			{Attributes: &commandpb.Command_CompleteWorkflowExecutionCommandAttributes{CompleteWorkflowExecutionCommandAttributes: &commandpb.CompleteWorkflowExecutionCommandAttributes{Result: payloads(plain)}}},
		}})
		if err == nil {
			t.Error("a plaintext result passes")
		}
	})
}
