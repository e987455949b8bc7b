package codec_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
)

// strictPolicy refuses plaintext in namespace n, and seals headers.
const strictPolicy = `
keys: {a: {uri: "fake://a"}}
seal:
  - {match: {namespace: "n", workflowType: "Lax"}, keys: [a]}
  - {match: {namespace: "n"}, keys: [a], requireSealed: true, sealHeaders: true}
  - {match: {namespace: "*"}, keys: [a], sealHeaders: true}
`

// wantNothingOf checks that a message contains no text of the server, which always contains
// CANARY, in plaintext or sealed.
func wantNothingOf(t *testing.T, c *codec.Codec, msg proto.Message) {
	t.Helper()
	if strings.Contains(fmt.Sprint(msg), "CANARY") {
		t.Errorf("in plaintext: %s", msg)
	}
	if err := findPayloads(msg.ProtoReflect(), "", func(field string, p *commonpb.Payload) error {
		if d := c.Decode(t.Context(), codec.DecodeOptions{}, []*commonpb.Payload{p})[0]; d.Err != nil || !d.Sealed || strings.Contains(d.Payload.String(), "CANARY") {
			t.Errorf("%s opens as %v, %v", field, d.Payload, d.Err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestTheServersPlaintextIsNotSealed: a text that the server made up must not become an
// envelope, which it could hand out as an input.
func TestTheServersPlaintextIsNotSealed(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	plain := payload(t, "CANARY")
	memo := &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": plain}}
	schedule := func(start *workflowpb.NewWorkflowExecutionInfo) proto.Message {
		return &workflowservice.UpdateScheduleRequest{Namespace: "n", Schedule: &schedulepb.Schedule{Action: &schedulepb.ScheduleAction{
			Action: &schedulepb.ScheduleAction_StartWorkflow{StartWorkflow: start},
		}}}
	}
	for name, req := range map[string]proto.Message{
		"memo of a workflow that continues as new": &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", Commands: []*commandpb.Command{
			{Attributes: &commandpb.Command_ContinueAsNewWorkflowExecutionCommandAttributes{ContinueAsNewWorkflowExecutionCommandAttributes: &commandpb.ContinueAsNewWorkflowExecutionCommandAttributes{Memo: memo}}},
		}},
		"input of a schedule": schedule(&workflowpb.NewWorkflowExecutionInfo{Input: payloads(plain)}),
		"memo of a schedule":  schedule(&workflowpb.NewWorkflowExecutionInfo{Memo: memo}),
	} {
		out, err := codec.Outgoing(t.Context(), c, "n", "Method", req)
		if serviceerror.ToStatus(err).Code() != codes.InvalidArgument || !strings.Contains(err.Error(), "requireSealed") || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: sent %v, %v", name, out, err)
		}
	}

	sealed := encode(t, c, "n", payload(t, map[string]string{"message": "own"}))[0]
	failure := &failurepb.Failure{
		EncodedAttributes: sealed, Message: "CANARY", StackTrace: "CANARY",
		FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Details: payloads(plain, storageReference(`{"driverName":"CANARY"}`))}},
		Cause: &failurepb.Failure{
			EncodedAttributes: plain,
			Cause:             &failurepb.Failure{Message: "CANARY", Cause: &failurepb.Failure{Message: "activity StartToClose timeout", StackTrace: "CANARY"}},
		},
	}
	details, err := protojson.Marshal(failure)
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]proto.Message{
		"failure of a workflow": &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", Commands: []*commandpb.Command{
			{Attributes: &commandpb.Command_FailWorkflowExecutionCommandAttributes{FailWorkflowExecutionCommandAttributes: &commandpb.FailWorkflowExecutionCommandAttributes{Failure: failure}}},
		}},
		"failure of an activity": &workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: failure},
		"failure of a Nexus operation": &workflowservice.RespondNexusTaskFailedRequest{Namespace: "n", Error: &nexuspb.HandlerError{ //nolint:staticcheck // deprecated, and in use
			Failure: &nexuspb.Failure{Metadata: map[string]string{"type": "temporal.api.failure.v1.Failure"}, Details: details},
		}},
	} {
		out, err := codec.Outgoing(t.Context(), c, "n", "Method", req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantNothingOf(t, c, out)
		if again, err := codec.Outgoing(t.Context(), c, "n", "Method", out); err != nil || !proto.Equal(again, out) {
			t.Errorf("%s: the failure is sent again as %v, %v", name, again, err)
		}
	}
}

// TestTheServersFailuresSayNothing: a failure with plaintext reaches the program with fixed
// texts. What the program returns of it contains none of the server's.
func TestTheServersFailuresSayNothing(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	converter := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil))
	plain := payload(t, "CANARY")
	application := func(details ...*commonpb.Payload) *failurepb.Failure_ApplicationFailureInfo {
		return &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "T", Details: payloads(details...)}}
	}
	ours := converter.ErrorToFailure(temporal.NewApplicationError("own message", "T", "own details"))
	foreign := proto.CloneOf(ours)
	foreign.EncodedAttributes.Data = []byte("spoiled")
	for name, tc := range map[string]struct {
		failure *failurepb.Failure
		says    string
	}{
		"a message":              {&failurepb.Failure{Message: "CANARY", StackTrace: "CANARY", FailureInfo: application()}, "withheld"},
		"plaintext attributes":   {&failurepb.Failure{Message: "CANARY", EncodedAttributes: payload(t, map[string]string{"message": "CANARY"}), FailureInfo: application()}, "withheld"},
		"attributes do not open": {&failurepb.Failure{Message: "CANARY", StackTrace: "CANARY", EncodedAttributes: foreign.GetEncodedAttributes(), FailureInfo: application()}, "withheld"},
		"another namespace's":    {&failurepb.Failure{Message: "CANARY", StackTrace: "CANARY", EncodedAttributes: encode(t, c, "other", payload(t, map[string]string{"message": "foreign"}))[0], FailureInfo: application()}, "not for"},
		"details":                {&failurepb.Failure{Message: "activity error", FailureInfo: application(plain)}, "activity error"},
		"a cause":                {&failurepb.Failure{EncodedAttributes: ours.GetEncodedAttributes(), FailureInfo: application(), Cause: &failurepb.Failure{Message: "CANARY"}}, "own message"},
		"a timeout":              {&failurepb.Failure{Message: "activity Heartbeat timeout", FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{LastHeartbeatDetails: payloads(plain)}}}, "activity Heartbeat timeout"},
		"a cancellation":         {&failurepb.Failure{Message: "CANARY", FailureInfo: &failurepb.Failure_CanceledFailureInfo{CanceledFailureInfo: &failurepb.CanceledFailureInfo{Details: payloads(plain)}}}, "withheld"},
		"a Nexus handler's":      {&failurepb.Failure{Message: "CANARY", FailureInfo: &failurepb.Failure_NexusHandlerFailureInfo{NexusHandlerFailureInfo: &failurepb.NexusHandlerFailureInfo{Type: "INTERNAL"}}}, "withheld"},
		"a server's limit":       {&failurepb.Failure{Message: "Complete result exceeds size limit.", FailureInfo: &failurepb.Failure_ServerFailureInfo{ServerFailureInfo: &failurepb.ServerFailureInfo{}}}, "size limit"},
		"what was cut off":       {&failurepb.Failure{Message: "Encoded failure", FailureInfo: application()}, "Encoded failure"},
	} {
		t.Run(name, func(t *testing.T) {
			before := proto.CloneOf(tc.failure)
			got := converter.FailureToError(tc.failure)
			if strings.Contains(got.Error(), "CANARY") || !strings.Contains(got.Error(), tc.says) {
				t.Errorf("the message is %q, want %q", got, tc.says)
			}
			var details string
			var timeout *temporal.TimeoutError
			var app *temporal.ApplicationError
			switch {
			case errors.As(got, &timeout):
				_ = timeout.LastHeartbeatDetails(&details)
			case errors.As(got, &app):
				_ = app.Details(&details)
			}
			if strings.Contains(details, "CANARY") {
				t.Errorf("details %q", details)
			}
			if !proto.Equal(before, tc.failure) {
				t.Error("the failure was mutated")
			}
			out, err := codec.Outgoing(t.Context(), c, "n", "Method", &workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: converter.ErrorToFailure(got)})
			if err != nil {
				t.Fatal(err)
			}
			wantNothingOf(t, c, out)
		})
	}
	var app *temporal.ApplicationError
	var details string
	if err := converter.FailureToError(ours); !errors.As(err, &app) || app.Message() != "own message" || app.Details(&details) != nil || details != "own details" {
		t.Errorf("the sealed failure is %v with details %q", err, details)
	}
	// Other namespaces are unchanged.
	if err := codec.NewFailureConverter(codec.NewDataConverter(c, "other", nil)).FailureToError(&failurepb.Failure{Message: "plain"}); err.Error() != "plain" {
		t.Errorf("elsewhere: %v", err)
	}
}
