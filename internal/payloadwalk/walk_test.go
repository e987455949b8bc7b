package payloadwalk

import (
	"errors"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

func payload(s string) *commonpb.Payload { return &commonpb.Payload{Data: []byte(s)} }

func payloads(s ...string) *commonpb.Payloads {
	out := new(commonpb.Payloads)
	for _, one := range s {
		out.Payloads = append(out.Payloads, payload(one))
	}
	return out
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// everything is a message with a payload in each kind of place.
func everything(t *testing.T) *workflowservice.PollWorkflowTaskQueueResponse {
	t.Helper()
	return &workflowservice.PollWorkflowTaskQueueResponse{
		Messages: []*protocolpb.Message{{Body: packed(t, &updatepb.Request{Input: &updatepb.Input{
			Args: payloads("in an any"), Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"k": payload("in a map")}},
		}})}},
		History: &historypb.History{Events: []*historypb.HistoryEvent{
			{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
				Input:            payloads("in a list", "in a list, second"),
				SearchAttributes: &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"k": payload("search attribute")}},
			}}},
			{Attributes: &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{
				Failure: &failurepb.Failure{EncodedAttributes: payload("in a failure"), Cause: &failurepb.Failure{EncodedAttributes: payload("in a cause")}},
			}}},
		}},
	}
}

func TestEachFindsAll(t *testing.T) {
	var got []string
	if err := Each(everything(t), func(_ proto.Message, p *commonpb.Payload) error {
		got = append(got, string(p.GetData()))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{"in a cause", "in a failure", "in a list", "in a list, second", "in a map", "in an any"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestEachDoesNotChange(t *testing.T) {
	msg := everything(t)
	before := proto.Clone(msg)
	if err := Each(msg, func(proto.Message, *commonpb.Payload) error { return nil }); err != nil || !proto.Equal(msg, before) {
		t.Errorf("the message changed: %v", err)
	}
}

func TestEditEach(t *testing.T) {
	msg := everything(t)
	if err := EditEach(msg, func(_ proto.Message, p *commonpb.Payload) error {
		p.Data = []byte(strings.ToUpper(string(p.GetData())))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := Each(msg, func(_ proto.Message, p *commonpb.Payload) error {
		if s := string(p.GetData()); s != strings.ToUpper(s) {
			t.Errorf("%q is not edited", s)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestFailuresAndEventsInsteadOfTheirPayloads(t *testing.T) {
	var failures, events int
	plain := func(_ proto.Message, p *commonpb.Payload) error {
		if strings.Contains(string(p.GetData()), "failure") || strings.Contains(string(p.GetData()), "cause") {
			t.Errorf("called for %q", p.GetData())
		}
		return nil
	}
	err := Walker{Payload: plain, Failure: func(proto.Message, *failurepb.Failure) error { failures++; return nil }}.Walk(everything(t))
	if err != nil || failures != 1 {
		t.Errorf("%d failures, %v", failures, err)
	}
	err = Walker{Payload: plain, Event: func(*historypb.HistoryEvent) error { events++; return nil }}.Walk(everything(t))
	if err != nil || events != 2 {
		t.Errorf("%d events, %v", events, err)
	}
	nexus := 0
	req := &workflowservice.RespondNexusTaskFailedRequest{Error: &nexuspb.HandlerError{Failure: &nexuspb.Failure{Message: "m"}}} //nolint:staticcheck // deprecated, and in use
	if err := (Walker{Payload: plain, NexusFailure: func(proto.Message, *nexuspb.Failure) error { nexus++; return nil }}).Walk(req); err != nil || nexus != 1 {
		t.Errorf("%d failures of Nexus, %v", nexus, err)
	}
}

func TestFirstErrorEnds(t *testing.T) {
	enough, calls := errors.New("enough"), 0
	err := Each(everything(t), func(proto.Message, *commonpb.Payload) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestUnknownTypes(t *testing.T) {
	none := func(proto.Message, *commonpb.Payload) error { return nil }
	unknown := &protocolpb.Message{Body: &anypb.Any{TypeUrl: "type.googleapis.com/not.known.Here", Value: []byte{1}}}
	if err := Each(unknown, none); !errors.Is(err, ErrOpaque) {
		t.Errorf("an Any of an unknown type: %v", err)
	}
	if err := EditEach(unknown, none); err != nil {
		t.Errorf("there is nothing to edit in it: %v", err)
	}
	// A dynamic message has the name of a payload and not its Go type.
	dynamic := dynamicpb.NewMessage((&commonpb.Payloads{}).ProtoReflect().Descriptor())
	list := dynamic.Mutable(dynamic.Descriptor().Fields().ByName("payloads")).List()
	list.Append(list.NewElement())
	if err := Each(dynamic, none); !errors.Is(err, ErrOpaque) {
		t.Errorf("a dynamic payload: %v", err)
	}
}
