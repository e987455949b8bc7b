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
	"google.golang.org/protobuf/reflect/protoreflect"
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

// everything returns a message with a payload in each kind of place.
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

// A place that a walk found leads to the same message in a clone, through a map, a list, a
// failure and an Any.
func TestPlacesAreEditedInAClone(t *testing.T) {
	msg := everything(t)
	before := proto.Clone(msg)
	var places []Place
	if err := Walk(msg, Visitor{Payload: func(at *At, _ *commonpb.Payload) error {
		places = append(places, at.Place())
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	clone := proto.Clone(msg)
	edit := Edit(clone)
	for _, place := range places {
		p, _ := edit.At(place).(*commonpb.Payload)
		p.Data = []byte(strings.ToUpper(string(p.GetData())))
	}
	if err := edit.Done(); err != nil {
		t.Fatal(err)
	}
	found := 0
	if err := Each(clone, func(_ proto.Message, p *commonpb.Payload) error {
		found++
		if s := string(p.GetData()); s != strings.ToUpper(s) {
			t.Errorf("%q is not edited", s)
		}
		return nil
	}); err != nil || found != len(places) {
		t.Fatalf("%d of %d payloads, %v", found, len(places), err)
	}
	if !proto.Equal(msg, before) {
		t.Error("the message that was walked changed")
	}
}

// An Any in an Any is written back from the inside out.
func TestPlacesInAnAnyInAnAny(t *testing.T) {
	msg := &protocolpb.Message{Body: packed(t, &protocolpb.Message{Body: packed(t, &updatepb.Input{Args: payloads("a", "b")})})}
	edit := Edit(msg)
	if err := Walk(msg, Visitor{Payload: func(at *At, p *commonpb.Payload) error {
		if string(p.GetData()) == "b" {
			edit.At(at.Place()).(*commonpb.Payload).Data = []byte("edited") //nolint:forcetypeassert // it is one
		}
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	if err := edit.Done(); err != nil {
		t.Fatal(err)
	}
	var got []string
	_ = Each(msg, func(_ proto.Message, p *commonpb.Payload) error { got = append(got, string(p.GetData())); return nil })
	if !slices.Equal(got, []string{"a", "edited"}) {
		t.Errorf("got %q", got)
	}
}

func TestClear(t *testing.T) {
	msg := &historypb.History{Events: []*historypb.HistoryEvent{{}, {Attributes: &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{
		ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{Failure: &failurepb.Failure{Message: "m"}},
	}}}}
	edit := Edit(msg)
	if err := Walk(msg, Visitor{Message: func(at *At, _ proto.Message) error { edit.Clear(at.Place()); return nil }}); err != nil {
		t.Fatal(err)
	}
	if msg.GetEvents()[1].GetActivityTaskFailedEventAttributes().GetFailure() != nil {
		t.Error("it is not cleared")
	}
}

// A visitor knows its position.
func TestWhereAWalkStands(t *testing.T) {
	msg := everything(t)
	var events, inFailure, links []string
	err := Walk(msg, Visitor{
		Payload: func(at *At, p *commonpb.Payload) error {
			data := string(p.GetData())
			if at.Event() != nil {
				events = append(events, data)
			}
			if at.Failure() != nil {
				inFailure = append(inFailure, data)
			}
			if want := protoreflect.Name("history"); (at.Event() != nil) != (at.Field() == want) {
				t.Errorf("%q stands in %s", data, at.Field())
			}
			return nil
		},
		Message: func(at *At, m proto.Message) error {
			if f, ok := m.(*failurepb.Failure); ok {
				links = append(links, string(f.GetEncodedAttributes().GetData()))
				if string(at.Failure().GetEncodedAttributes().GetData()) != "in a failure" {
					t.Error("the outermost link is another one")
				}
			}
			return nil
		},
	})
	slices.Sort(inFailure)
	if err != nil || len(events) != 4 || !slices.Equal(inFailure, []string{"in a cause", "in a failure"}) || !slices.Equal(links, []string{"in a failure", "in a cause"}) {
		t.Errorf("in events: %q, in failures: %q, links: %q, %v", events, inFailure, links, err)
	}
}

// The messages that have other content to check than payloads.
func TestMessages(t *testing.T) {
	for name, msg := range map[string]proto.Message{
		"search attributes":   &workflowservice.StartWorkflowExecutionRequest{SearchAttributes: new(commonpb.SearchAttributes)},
		"a failure of Nexus":  &workflowservice.RespondNexusTaskFailedRequest{Error: &nexuspb.HandlerError{Failure: &nexuspb.Failure{Message: "m"}}}, //nolint:staticcheck // deprecated, and in use
		"a failure":           &workflowservice.RespondActivityTaskFailedRequest{Failure: new(failurepb.Failure)},
		"a failure by itself": new(failurepb.Failure),
	} {
		found := 0
		if err := Walk(msg, Visitor{Message: func(*At, proto.Message) error { found++; return nil }}); err != nil || found != 1 {
			t.Errorf("%s: %d, %v", name, found, err)
		}
	}
}

// A walk of an Any has no field to name.
func TestFieldInAnAny(t *testing.T) {
	found := 0
	if err := Walk(packed(t, payloads("a")), Visitor{Payload: func(at *At, _ *commonpb.Payload) error {
		found++
		if at.Field() != "" {
			t.Errorf("field %s", at.Field())
		}
		return nil
	}}); err != nil || found != 1 {
		t.Errorf("%d payloads, %v", found, err)
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
	calls := 0
	if err := Walk(unknown, Visitor{Opaque: func(*At) error { calls++; return nil }}); err != nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	// A dynamic message has the name of a payload, but not its Go type.
	dynamic := dynamicpb.NewMessage((&commonpb.Payloads{}).ProtoReflect().Descriptor())
	list := dynamic.Mutable(dynamic.Descriptor().Fields().ByName("payloads")).List()
	list.Append(list.NewElement())
	if err := Each(dynamic, none); !errors.Is(err, ErrOpaque) {
		t.Errorf("a dynamic payload: %v", err)
	}
}
