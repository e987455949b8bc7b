package codec_test

import (
	"errors"
	"strings"
	"testing"

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
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// bareFailure is a failure that no failure converter has seen.
func bareFailure(t *testing.T) *failurepb.Failure {
	return &failurepb.Failure{
		Message: "CANARY message", StackTrace: "CANARY trace",
		FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "Type", Details: payloads(payload(t, "CANARY details"))}},
		Cause:       &failurepb.Failure{Message: "CANARY cause"},
	}
}

// wantBareFailure checks that f is sealed and opens as bareFailure.
func wantBareFailure(t *testing.T, c *codec.Codec, f *failurepb.Failure) {
	t.Helper()
	if strings.Contains(f.String(), "CANARY") {
		t.Fatalf("sent %s", f)
	}
	err := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)).FailureToError(f)
	var application *temporal.ApplicationError
	var details string
	if !errors.As(err, &application) || application.Message() != "CANARY message" || application.Details(&details) != nil || details != "CANARY details" || !strings.Contains(err.Error(), "CANARY cause") {
		t.Errorf("it opens as %v with details %q", err, details)
	}
}

func TestBareFailuresAreSealed(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	send := func(c *codec.Codec, f *failurepb.Failure) (*failurepb.Failure, error) {
		req := &workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: f}
		before := proto.CloneOf(req)
		out, err := codec.Outgoing(t.Context(), c, "n", "RespondActivityTaskFailed", req)
		if !proto.Equal(before, req) {
			t.Error("the request was mutated")
		}
		if err != nil {
			return nil, err
		}
		return out.(*workflowservice.RespondActivityTaskFailedRequest).GetFailure(), nil
	}
	sent, err := send(c, bareFailure(t))
	if err != nil {
		t.Fatal(err)
	}
	wantBareFailure(t, c, sent)
	if again, err := send(c, sent); err != nil || !proto.Equal(again, sent) {
		t.Errorf("a sealed failure is sent as %v, %v", again, err)
	}

	spoiled := proto.CloneOf(sent) // the opened text beside the sealed one
	spoiled.Message, spoiled.StackTrace = "CANARY message", "CANARY trace"
	if again, err := send(c, spoiled); err != nil || !proto.Equal(again, sent) {
		t.Errorf("an opened failure is sent as %v, %v", again, err)
	}

	down := newCodecOn(t, onePolicy, backend)
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	if _, err := send(down, bareFailure(t)); serviceerror.ToStatus(err).Code() != codes.FailedPrecondition || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("details that cannot be sealed: %v", err)
	}
	withheld, err := send(down, &failurepb.Failure{Message: "CANARY", StackTrace: "CANARY"})
	if err != nil || strings.Contains(withheld.String(), "CANARY") || !strings.Contains(withheld.GetMessage(), "denied") {
		t.Errorf("a text that cannot be sealed: %v, %v", withheld, err)
	}
	wraps := backend.Fake("a").Counts().Wraps
	if again, err := send(down, withheld); err != nil || !proto.Equal(again, withheld) || backend.Fake("a").Counts().Wraps != wraps {
		t.Errorf("a text that was withheld is sent as %v, %v", again, err)
	}
}

// The SDK passes the failure of a foreign Nexus service on unchanged, in JSON to servers that
// do not accept failures.
func TestNexusFailuresAreSealed(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	send := func(c *codec.Codec, f *nexuspb.Failure) (*nexuspb.Failure, error) {
		out, err := codec.Outgoing(t.Context(), c, "n", "RespondNexusTaskFailed", &workflowservice.RespondNexusTaskFailedRequest{
			Namespace: "n", Error: &nexuspb.HandlerError{Failure: f}, //nolint:staticcheck // deprecated, and in use
		})
		if err != nil {
			return nil, err
		}
		return out.(*workflowservice.RespondNexusTaskFailedRequest).GetError().GetFailure(), nil //nolint:staticcheck // as above
	}
	packed := func(f *failurepb.Failure) *nexuspb.Failure {
		message := f.GetMessage()
		f.Message = ""
		b, err := protojson.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return &nexuspb.Failure{Message: message, Metadata: map[string]string{"type": "temporal.api.failure.v1.Failure"}, Details: b}
	}
	sent, err := send(c, &nexuspb.Failure{Cause: packed(bareFailure(t))})
	if err != nil {
		t.Fatal(err)
	}
	inner := new(failurepb.Failure)
	if err := protojson.Unmarshal(sent.GetCause().GetDetails(), inner); err != nil || strings.Contains(sent.String(), "CANARY") {
		t.Fatalf("sent %s, %v", sent, err)
	}
	inner.Message = sent.GetCause().GetMessage()
	wantBareFailure(t, c, inner)
	if again, err := send(c, sent); err != nil || !proto.Equal(again, sent) {
		t.Errorf("a sealed failure is sent as %v, %v", again, err)
	}

	both := packed(bareFailure(t))
	both.Details = []byte(`{"message":"CANARY"}`)
	labelled := packed(bareFailure(t))
	labelled.Metadata["note"] = "CANARY"
	for name, f := range map[string]*nexuspb.Failure{
		"only text": {Message: "CANARY"}, "only a stack trace": {StackTrace: "CANARY"}, "of no type": {Details: []byte(`"CANARY"`)}, "metadata": {Metadata: map[string]string{"note": "CANARY"}},
		"no JSON": {Metadata: map[string]string{"type": "temporal.api.failure.v1.Failure"}, Details: []byte("CANARY")}, "two messages": both, "more metadata": labelled,
	} {
		if _, err := send(c, f); serviceerror.ToStatus(err).Code() != codes.InvalidArgument || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", name, err)
		}
	}

	backend.Fake("a").Always(kmstest.Fail(kms.Throttled))
	down := newCodecOn(t, onePolicy, backend)
	if _, err := send(down, packed(bareFailure(t))); serviceerror.ToStatus(err).Code() != codes.Unavailable || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("while the KMS is down: %v", err)
	}
}

// A schedule from before the plugin is sent back as the server sent it.
func TestWhatAScheduleCarriesOverIsSealed(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	plain := payload(t, "CANARY")
	req := &workflowservice.UpdateScheduleRequest{Namespace: "n", Schedule: &schedulepb.Schedule{Action: &schedulepb.ScheduleAction{Action: &schedulepb.ScheduleAction_StartWorkflow{
		StartWorkflow: &workflowpb.NewWorkflowExecutionInfo{Input: payloads(plain), Memo: &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": plain}}},
	}}}}
	out, err := codec.Outgoing(t.Context(), c, "n", "UpdateSchedule", req)
	if err != nil {
		t.Fatal(err)
	}
	start := out.(*workflowservice.UpdateScheduleRequest).GetSchedule().GetAction().GetStartWorkflow()
	for _, d := range c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{start.GetInput().GetPayloads()[0], start.GetMemo().GetFields()["m"]}) {
		if d.Err != nil || !d.Sealed || !proto.Equal(d.Payload, plain) {
			t.Errorf("%+v", d)
		}
	}
	create := &workflowservice.CreateScheduleRequest{Namespace: "n", Schedule: req.GetSchedule()}
	if _, err := codec.Outgoing(t.Context(), c, "n", "CreateSchedule", create); serviceerror.ToStatus(err).Code() != codes.InvalidArgument {
		t.Errorf("a new schedule in plaintext: %v", err)
	}
}
