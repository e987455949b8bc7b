package guard

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

func changesNamed(t *testing.T, retired ...string) *Changes {
	t.Helper()
	c, err := NewChanges(retired)
	if err != nil {
		t.Fatal(err)
	}
	c.Name("new-fees", -1, 2)
	c.Name("new-fees", 0, 3)
	c.Name("a-1", 1, 1)
	return c
}

// plainCodec is a Codec of a policy that demands nothing, and seals nothing.
type plainCodec struct{ Codec }

func (plainCodec) Policy() *policy.Policy { return policy.Default("fake://a") }

func guardNaming(t *testing.T) *Guard {
	t.Helper()
	return &Guard{Codec: plainCodec{}, Namespace: "n", Changes: changesNamed(t)}
}

func TestOnlyNamedChangesAreKnown(t *testing.T) {
	c := changesNamed(t, "old-7", "gone--1")
	for entry, want := range map[string]bool{
		"new-fees--1": true, "new-fees-0": true, "new-fees-3": true, "a-1-1": true, "old-7": true, "gone--1": true,
		"new-fees-4": false, "new-fees--2": false, "new-fees-+1": false, "new-fees-01": false, "new-fees--0": false, "new-fees-1 ": false,
		"new-fees-": false, "new-fees": false, "new-fees---1": false, "NEW-FEES-1": false, "a-1": false, "old-8": false, "gone-1": false,
		"DE02 1203 0000 0000 2020 51-1": false, "-1": false, "--1": false, "": false, "new-fees-99999999999999999999": false,
	} {
		if got := c.knows(entry); got != want {
			t.Errorf("%q: known %v, want %v", entry, got, want)
		}
	}
}

func TestRetiredChangesHaveTheFormOfTheAttribute(t *testing.T) {
	for _, entry := range []string{"", "new-fees", "-1", "new-fees-", "new-fees-one"} {
		_, err := NewChanges([]string{"ok-1", entry})
		if kms.ClassOf(err) != kms.Internal || hold.HintOf(err) == "" || !strings.Contains(fmt.Sprint(err), "RetiredChanges") {
			t.Errorf("%q: %v, hint %q", entry, err, hold.HintOf(err))
		}
	}
}

// Changes remembers the latest maxChanges IDs, while several workers name them at once.
func TestChangesAreBounded(t *testing.T) {
	c := changesNamed(t)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := n; i < maxChanges; i += 4 {
				c.Name(fmt.Sprint("step-", i), 1, 1)
				c.knows("step-0-1")
			}
		})
	}
	wg.Wait()
	if c.named.Len() != maxChanges || c.knows("new-fees-1") {
		t.Errorf("%d are remembered", c.named.Len())
	}
}

// attributesOf returns search attributes with changes as the SDK writes them.
func attributesOf(data string, more ...string) *commonpb.SearchAttributes {
	p := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(data)}
	for i := 0; i+1 < len(more); i += 2 {
		p.Metadata[more[i]] = []byte(more[i+1])
	}
	return &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{changeAttribute: p, "Other": {Data: []byte("1")}}}
}

func upsertOf(a *commonpb.SearchAttributes) *commandpb.Command {
	return &commandpb.Command{Attributes: &commandpb.Command_UpsertWorkflowSearchAttributesCommandAttributes{
		UpsertWorkflowSearchAttributesCommandAttributes: &commandpb.UpsertWorkflowSearchAttributesCommandAttributes{SearchAttributes: a},
	}}
}

func TestTheAttributeIsReadStrictly(t *testing.T) {
	g := guardNaming(t)
	with := func(change func(*commonpb.Payload)) *commonpb.SearchAttributes {
		a := attributesOf(`["new-fees-1"]`)
		change(a.GetIndexedFields()[changeAttribute])
		return a
	}
	for name, tc := range map[string]struct {
		attributes *commonpb.SearchAttributes
		leaves     bool
	}{
		"as the SDK writes it":      {attributesOf(`["new-fees-1","a-1-1"]`), true},
		"with a type":               {attributesOf(`["new-fees-1"]`, "type", "KeywordList"), true},
		"with a type of the server": {attributesOf(`["new-fees-1"]`, "type", "INDEXED_VALUE_TYPE_KEYWORD_LIST"), true},
		"an ID that is not named":   {attributesOf(`["new-fees-1","CANARY-1"]`), false},
		"a version that is not":     {attributesOf(`["new-fees-4711"]`), false},
		"another type":              {attributesOf(`["new-fees-1"]`, "type", "CANARY"), false},
		"another encoding":          {attributesOf(`["new-fees-1"]`, "encoding", "json/CANARY"), false},
		"more metadata":             {attributesOf(`["new-fees-1"]`, "note", "CANARY"), false},
		"space":                     {attributesOf(`["new-fees-1" ]`), false},
		"escapes":                   {attributesOf(`["new\u002dfees-1"]`), false},
		"a string":                  {attributesOf(`"new-fees-1"`), false},
		"an object":                 {attributesOf(`{"CANARY":1}`), false},
		"more after it":             {attributesOf(`["new-fees-1"]"CANARY"`), false},
		"nothing":                   {attributesOf(``), false},
		"no encoding":               {with(func(p *commonpb.Payload) { p.Metadata = nil }), false},
		"an external payload": {with(func(p *commonpb.Payload) {
			p.ExternalPayloads = []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 4711}}
		}), false},
		"fields that are not known":  {with(func(p *commonpb.Payload) { p.ProtoReflect().SetUnknown([]byte("\xfa\x3e\x06CANARY")) }), false},
		"attributes without changes": {&commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"Other": {Data: []byte("1")}}}, true},
	} {
		_, _, err := g.outgoing(t.Context(), "Method", "n", &workflowservice.RespondWorkflowTaskCompletedRequest{Commands: []*commandpb.Command{{}, upsertOf(tc.attributes)}})
		if (err == nil) != tc.leaves {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			continue
		}
		if kms.ClassOf(err) != kms.Denied || hold.HintOf(err) == "" || strings.Contains(err.Error()+hold.HintOf(err), "CANARY") || strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The guard removes changes that a child or the next run would inherit, and leaves the caller's
// request unchanged.
func TestForeignChangesAreNotInherited(t *testing.T) {
	g := guardNaming(t)
	commands := func(data string) []*commandpb.Command {
		return []*commandpb.Command{
			{Attributes: &commandpb.Command_StartChildWorkflowExecutionCommandAttributes{StartChildWorkflowExecutionCommandAttributes: &commandpb.StartChildWorkflowExecutionCommandAttributes{SearchAttributes: attributesOf(data)}}},
			{Attributes: &commandpb.Command_ContinueAsNewWorkflowExecutionCommandAttributes{ContinueAsNewWorkflowExecutionCommandAttributes: &commandpb.ContinueAsNewWorkflowExecutionCommandAttributes{SearchAttributes: attributesOf(data)}}},
		}
	}
	sent := func(req proto.Message) proto.Message {
		out, _, err := g.outgoing(t.Context(), "Method", "n", req)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	named := &workflowservice.RespondWorkflowTaskCompletedRequest{Commands: commands(`["new-fees-1"]`)}
	if sent(named) != proto.Message(named) {
		t.Error("a request was changed that names no foreign change")
	}
	foreign := &workflowservice.RespondWorkflowTaskCompletedRequest{Commands: commands(`["CANARY-1"]`)}
	before := proto.CloneOf(foreign)
	got, _ := sent(foreign).(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if !proto.Equal(foreign, before) {
		t.Error("the caller's request was changed")
	}
	for _, command := range got.GetCommands() {
		left := command.GetContinueAsNewWorkflowExecutionCommandAttributes().GetSearchAttributes()
		if child := command.GetStartChildWorkflowExecutionCommandAttributes(); child != nil {
			left = child.GetSearchAttributes()
		}
		if text, _ := json.Marshal(left.GetIndexedFields()); strings.Contains(string(text), changeAttribute) || len(left.GetIndexedFields()) != 1 {
			t.Errorf("left: %s", text)
		}
	}
	other := &workflowservice.StartWorkflowExecutionRequest{SearchAttributes: attributesOf(`["CANARY-1"]`)}
	if sent(other) != proto.Message(other) {
		t.Error("a client's own search attributes are its own")
	}
}
