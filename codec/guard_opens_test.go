package codec_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	_ "go.temporal.io/api/operatorservice/v1" // its requests are walked
	protocolpb "go.temporal.io/api/protocol/v1"
	"go.temporal.io/api/proxy"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestSealedHeadersAreOpened(t *testing.T) {
	c, backend := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, nil)
	sealedHeader := encode(t, c, "headers", payload(t, "header"))[0]
	sealedInput := encode(t, c, "headers", payload(t, "input"))[0]
	r.history = historyWith(map[string]*commonpb.Payload{"sealed": sealedHeader, "plain": payload(t, "plain")}, sealedInput)
	get := func(cl client.Client) (*historypb.WorkflowExecutionStartedEventAttributes, error) {
		res, err := cl.WorkflowService().GetWorkflowExecutionHistory(t.Context(), &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: "headers"})
		if err != nil {
			return nil, err
		}
		return res.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes(), nil
	}
	got, err := get(cl)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range got.GetHeader().GetFields() {
		if string(p.GetData()) != `"`+strings.ReplaceAll(name, "sealed", "header")+`"` {
			t.Errorf("header %s: %v", name, p)
		}
	}
	if !codec.ClaimsSealed(got.GetInput().GetPayloads()[0]) {
		t.Error("the guard opened payloads that the data converter opens")
	}
	for class, passes := range map[kms.Class]bool{kms.Unavailable: true, kms.Throttled: true, kms.Denied: false, kms.Disabled: false, kms.NotFound: false} {
		t.Run(class.String(), func(t *testing.T) {
			cold := dial(t, newCodecOn(t, headersPolicy, backend), r, nil)
			backend.Fake("a").Always(kmstest.Fail(class))
			defer backend.Fake("a").Heal()
			got, err := get(cold)
			if passes != (err != nil && strings.Contains(err.Error(), "open header")) {
				t.Fatalf("error %v", err)
			}
			if !passes && (!codec.ClaimsSealed(got.GetHeader().GetFields()["sealed"]) || string(got.GetHeader().GetFields()["plain"].GetData()) != `"plain"`) {
				t.Errorf("headers %v", got.GetHeader())
			}
		})
	}
}

func TestHeadersAreOpenedTogether(t *testing.T) {
	c, backend := newCodec(t, headersPolicy)
	header := make(map[string]*commonpb.Payload)
	for i, p := range encode(t, c, "headers", payload(t, 0), payload(t, 1), payload(t, 2), payload(t, 3)) {
		header[strconv.Itoa(i)] = p
	}
	r := startRecorder(t)
	r.history = historyWith(header, header["0"])
	cold := dial(t, newCodecOn(t, headersPolicy, backend), r, nil)
	before := backend.Fake("a").Counts().Unwraps
	res, err := cold.WorkflowService().GetWorkflowExecutionHistory(t.Context(), &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: "headers"})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range res.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetHeader().GetFields() {
		if string(p.GetData()) != name {
			t.Errorf("header %s: %v", name, p)
		}
	}
	if n := backend.Fake("a").Counts().Unwraps - before; n != 1 {
		t.Errorf("%d unwrap calls", n)
	}
}

func historyWith(header map[string]*commonpb.Payload, input *commonpb.Payload) *historypb.History {
	return &historypb.History{Events: []*historypb.HistoryEvent{{
		EventId: 1,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			Header: &commonpb.Header{Fields: header}, Input: &commonpb.Payloads{Payloads: []*commonpb.Payload{input}},
		}},
	}}}
}

func TestPluginRefusesAFailureConverter(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	_, err := client.NewLazyClient(client.Options{Plugins: []client.Plugin{codec.NewPlugin(c)}, FailureConverter: temporal.GetDefaultFailureConverter()})
	if !errors.Is(err, codec.ErrFailureConverterSet) {
		t.Errorf("got %v", err)
	}
}

func TestClientFromExisting(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r := startRecorder(t)
	guarded := dial(t, c, r, nil)
	bare := dial(t, c, r, func(o *client.Options) { o.Plugins = nil })
	opts := client.Options{Namespace: "second", Plugins: []client.Plugin{codec.NewPlugin(c)}}
	if _, err := client.NewClientFromExistingWithContext(t.Context(), bare, opts); !errors.Is(err, codec.ErrUnguarded) {
		t.Errorf("from a client without a guard: %v", err)
	}
	second, err := client.NewClientFromExistingWithContext(t.Context(), guarded, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := start(second, nil, "CANARY"); err != nil {
		t.Fatal(err)
	}
	p := take[*workflowservice.StartWorkflowExecutionRequest](r)[0].GetInput().GetPayloads()[0]
	if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "second"}, []*commonpb.Payload{p})[0]; d.Err != nil || d.Namespace != "second" {
		t.Errorf("%+v", d)
	}
}

// A program that may start a workflow chooses its payloads: none may prevent a worker from
// reading the responses that contain them.
func TestHostilePayloadInAnAnswer(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, nil)
	hostile := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain"), proxy.SystemPayloadMetadataKey: []byte("true"), "messageType": []byte("CANARY")}}
	r.history = historyWith(map[string]*commonpb.Payload{"plain": hostile, "sealed": encode(t, c, "headers", payload(t, "x"))[0]}, hostile)
	res, err := cl.WorkflowService().GetWorkflowExecutionHistory(t.Context(), &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: "headers"})
	if err != nil {
		t.Fatal(err)
	}
	started := res.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	if fields := started.GetHeader().GetFields(); !proto.Equal(fields["plain"], hostile) || string(fields["sealed"].GetData()) != `"x"` {
		t.Errorf("headers %v", fields)
	}
}

func TestHeadersInAnAnyAreOpened(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r := startRecorder(t)
	cl := dial(t, c, r, nil)
	body, err := anypb.New(&updatepb.Request{Input: &updatepb.Input{Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": encode(t, c, "headers", payload(t, "x"))[0]}}}})
	if err != nil {
		t.Fatal(err)
	}
	r.task = &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte("token"), Messages: []*protocolpb.Message{{Body: body}, {Body: &anypb.Any{TypeUrl: "type.googleapis.com/not.Known"}}}}
	task, err := cl.WorkflowService().PollWorkflowTaskQueue(t.Context(), &workflowservice.PollWorkflowTaskQueueRequest{Namespace: "headers"})
	if err != nil {
		t.Fatal(err)
	}
	var update updatepb.Request
	if err := task.GetMessages()[0].GetBody().UnmarshalTo(&update); err != nil {
		t.Fatal(err)
	}
	if got := update.GetInput().GetHeader().GetFields()["h"]; string(got.GetData()) != `"x"` {
		t.Errorf("header %v", got)
	}
}
