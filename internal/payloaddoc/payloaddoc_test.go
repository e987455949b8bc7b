package payloaddoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"google.golang.org/protobuf/testing/protocmp"
)

const (
	encoding  = "binary/waxseal"
	sealedB64 = "YmluYXJ5L3dheHNlYWw=" // binary/waxseal
	plainB64  = "anNvbi9wbGFpbg=="     // json/plain
)

func sealed(data string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(encoding), "encryption-key-id": []byte("k")}, Data: []byte(data)}
}

func plain(data string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(data)}
}

// found is what a test says about a Found.
type found struct {
	Path    string
	Data    string
	Indexed bool
}

func summary(d *Document) []found {
	var out []found
	for _, f := range d.Found {
		out = append(out, found{f.Path, string(f.Payload.GetData()), f.SearchAttribute})
	}
	return out
}

func TestParse(t *testing.T) {
	one := `{"metadata":{"encoding":"` + plainB64 + `"},"data":"YQ=="}`
	for _, tc := range []struct {
		name, text string
		kind       Kind
		want       []found
	}{
		{"payload", one, Payload, []found{{"", "a", false}}},
		{"payload in space", " \r\n\t" + one + "\n", Payload, []found{{"", "a", false}}},
		{"payload without metadata", `{"data":"YQ"}`, Payload, []found{{"", "a", false}}},
		{"payloads", `{"payloads":[` + one + `,{"data":"Yg"}]}`, Payloads, []found{{"payloads[0]", "a", false}, {"payloads[1]", "b", false}}},
		{"payloads, escaped name", `{"p\u0061yloads":[` + one + `]}`, Payloads, []found{{"payloads[0]", "a", false}}},
		{"payloads, none", `{"payloads":[]}`, Payloads, nil},
		{"payloads, null", `{"payloads":null}`, Payloads, nil},
		{"payloads, left out", `{}`, Payloads, nil},
		{"list", "[ " + one + " , {} ]", List, []found{{"[0]", "a", false}, {"[1]", "", false}}},
		{"list, none", `[]`, List, nil},
		{"history", `{"events":[{"eventId":"1","a":{"input":{"payloads":[` + one + `,1,"x",null,true]}}}]}`, History, []found{{"events[0].a.input.payloads[0]", "a", false}}},
		{"history of another tool", `[{"eventId":"1","a":{"input":` + one + `}}]`, History, []found{{"[0].a.input", "a", false}}},
		{"description", `{"workflowExecutionInfo":{"memo":{"fields":{"k":` + one + `}}}}`, Other, []found{{"workflowExecutionInfo.memo.fields.k", "a", false}}},
		{"search attribute", `{"events":[{"searchAttributes":{"indexedFields":{"k":` + one + `}}}]}`, History, []found{{"events[0].searchAttributes.indexedFields.k", "a", true}}},
		{"search attribute in the other spelling", `{"events":[{"search_attributes":{"indexed_fields":{"k":` + one + `}}}]}`, History, []found{{"events[0].search_attributes.indexed_fields.k", "a", true}}},
		{"list of anything", `[1,{"x":` + one + `}]`, Other, []found{{"[1].x", "a", false}}},
		{"list of objects", `[{"x":` + one + `}]`, Other, []found{{"[0].x", "a", false}}},
		{"no payload: more members", `{"x":{"metadata":{"encoding":"` + plainB64 + `"},"data":"YQ==","more":1}}`, Other, nil},
		{"no payload: no base64", `{"x":{"metadata":{"encoding":"json/plain!"},"data":"YQ=="}}`, Other, nil},
		{"no payload: encoding is no string", `{"x":{"metadata":{"encoding":1},"data":"YQ=="}}`, Other, nil},
		{"no payload: data is no string", `{"x":{"metadata":{"encoding":"` + plainB64 + `"},"data":{"a":1}}}`, Other, nil},
		{"no payload: metadata is a list", `{"x":{"metadata":["encoding"],"data":"YQ=="}}`, Other, nil},
		{"shorthand is left alone", `{"events":[{"a":{"input":["hello",{"metadata":"x"},{"a":[{}]}]}}]}`, History, nil},
		{"payload in shorthand", `{"events":[{"a":{"input":[` + one + `]}}]}`, History, []found{{"events[0].a.input[0]", "a", false}}},
		{"url-safe base64", `{"x":{"metadata":{"encoding":"_-8","n":"_-8="},"data":"YQ"}}`, Other, []found{{"x", "a", false}}},
		{"escapes everywhere", `{"x\"]":{"m\u0065tadata":{"\u0065ncoding":"` + strings.Replace(plainB64, "a", `\u0061`, 1) + `"},"data":"YQ=="}, "y":"}]\\"}`, Other, []found{{`x"]`, "a", false}}},
		{"external payloads", `{"x":{"metadata":{"encoding":"` + plainB64 + `"},"externalPayloads":[{"sizeBytes":"3"}]}}`, Other, []found{{"x", "", false}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := Parse([]byte(tc.text), encoding)
			if err != nil {
				t.Fatal(err)
			}
			if d.Kind != tc.kind {
				t.Errorf("kind %d, want %d", d.Kind, tc.kind)
			}
			if diff := cmp.Diff(tc.want, summary(d)); diff != "" {
				t.Error(diff)
			}
			same, err := d.Replace(make([]*commonpb.Payload, len(d.Found)))
			if err != nil || string(same) != tc.text {
				t.Errorf("replacing nothing gave %q, %v", same, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const secret = "c2VjcmV0"
	for _, tc := range []struct {
		name, text   string
		detail       string
		line, column int
	}{
		{"empty", "", "the document is empty", 1, 1},
		{"blank", " \n\t", "the document is empty", 1, 1},
		{"UTF-16", "\xff\xfe{\x00", "the document begins with a byte order mark", 1, 1},
		{"UTF-8 with a mark", "\xef\xbb\xbf{}", "the document begins with a byte order mark", 1, 1},
		{"not JSON", "{\n  é secret}", "the document is not valid JSON", 2, 3},
		{"cut short", `{"payloads":[{"data":"` + secret, "the document ends too early", 1, 31},
		{"two documents", "{}\n{}", "the document is not valid JSON", 2, 1},
		{"a number", "7", "the document is neither an object nor a list", 1, 1},
		{"a string", ` "secret"`, "the document is neither an object nor a list", 1, 2},
		{"unknown field beside payloads", `{"payloads":[],"secret":1}`, "the document has an unknown field", 1, 16},
		{"unknown field in a payload", "{\n\"data\":\"" + secret + "\",\n\"secret\":1}", "the document has an unknown field", 3, 1},
		{"unknown field in a list", `[{"data":"YQ==","secret":1}]`, "the document has an unknown field", 1, 17},
		{"wrong base64", `{"payloads":[{"data":"` + secret + `!"}]}`, "the document has invalid base64", 1, 22},
		{"null payload", `{"payloads":[null]}`, "the document has null in place of a payload or of a metadata value", 1, 14},
		{"null payload in a list", `[null]`, "the document has null in place of a payload or of a metadata value", 1, 2},
		{"null payload behind another", `[{},null]`, "the document has null in place of a payload or of a metadata value", 1, 5},
		{"payloads is no list", `{"payloads":{}}`, "the document has a value of the wrong type", 1, 13},
		{"field twice", `{"payloads":[],"payloads":[]}`, "the document has the same field twice", 1, 16},
		{"sealed payload with wrong base64 in a history", "{\"events\":[\n {\"metadata\":{\"encoding\":\"" + sealedB64 + "\"},\"data\":\"" + secret + "!\"}]}", "the document has invalid base64", 2, 57},
		{"sealed payload with an unknown field in a history", `{"events":[{"metadata":{"encoding":"` + sealedB64 + `"},"secret":1}]}`, "the document has an unknown field", 1, 60},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := Parse([]byte(tc.text), encoding)
			var e *Error
			if !errors.As(err, &e) || d != nil {
				t.Fatalf("got %v, %v", d, err)
			}
			if e.Detail != tc.detail || e.Line != tc.line || e.Column != tc.column {
				t.Errorf("got %q at %d:%d, want %q at %d:%d", e.Detail, e.Line, e.Column, tc.detail, tc.line, tc.column)
			}
			if e.Hint() == "" {
				t.Error("no hint")
			}
			if strings.Contains(err.Error()+e.Hint(), "secret") || strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes the document: %v", err)
			}
			if want := fmt.Sprintf("payloaddoc: read payloads: %s (line %d, column %d)", tc.detail, tc.line, tc.column); err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
		})
	}
	t.Run("too large", func(t *testing.T) {
		_, err := Parse(make([]byte, MaxSize+1), encoding)
		if err == nil || !strings.Contains(err.Error(), "the document is larger than 512 MiB") {
			t.Errorf("got %v", err)
		}
	})
}

func TestReplaceKeepsTheStyle(t *testing.T) {
	p := func(data string) string { return `{"metadata":{"encoding":"` + plainB64 + `"},"data":"` + data + `"}` }
	for _, tc := range []struct{ name, in, want string }{
		{"one line", `{"payloads":[{},` + p("YQ==") + `]}`, `{"payloads":[` + p("bmV3") + `,` + p("bmV3") + `]}`},
		{"whole document", p("YQ=="), p("bmV3")},
		{
			"indented by two",
			"{\n  \"payloads\": [\n    {\n      \"data\": \"YQ==\"\n    }\n  ]\n}\n",
			"{\n  \"payloads\": [\n    {\n      \"metadata\": {\n        \"encoding\": \"" + plainB64 + "\"\n      },\n      \"data\": \"bmV3\"\n    }\n  ]\n}\n",
		},
		{
			"indented by tabs",
			"[\n\t{\n\t\t\"data\":\"YQ\"\n\t}\n]",
			"[\n\t{\n\t\t\"metadata\": {\n\t\t\t\"encoding\": \"" + plainB64 + "\"\n\t\t},\n\t\t\"data\": \"bmV3\"\n\t}\n]",
		},
		{
			"lines of Windows",
			"{\r\n \"data\":\"YQ\"\r\n}\r\n",
			"{\r\n \"metadata\": {\r\n  \"encoding\": \"" + plainB64 + "\"\r\n },\r\n \"data\": \"bmV3\"\r\n}\r\n",
		},
		{
			"closing brace elsewhere",
			"{\n \"data\":\"YQ\"   }",
			"{\n \"metadata\": {\n  \"encoding\": \"" + plainB64 + "\"\n },\n \"data\": \"bmV3\"\n}",
		},
		{
			"indented less than the brace",
			"{\n\"data\":\"YQ\"\n    }",
			"{\n      \"metadata\": {\n        \"encoding\": \"" + plainB64 + "\"\n      },\n      \"data\": \"bmV3\"\n    }",
		},
		{"in a history", `{"events":[{"x":1, "i":` + p("YQ==") + `, "future": {"a" : [ ]}}]}`, `{"events":[{"x":1, "i":` + p("bmV3") + `, "future": {"a" : [ ]}}]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := Parse([]byte(tc.in), encoding)
			if err != nil {
				t.Fatal(err)
			}
			with := make([]*commonpb.Payload, len(d.Found))
			for i := range with {
				with[i] = plain("new")
			}
			got, err := d.Replace(with)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReplaceFailures(t *testing.T) {
	const old = `{"metadata":{"encoding":"` + sealedB64 + `"},"data":"YQ=="}`
	attributes := func(s string) (p *commonpb.Payload, text string) {
		p = plain(s)
		b, err := json.Marshal(map[string]any{"metadata": map[string]any{"encoding": []byte("json/plain")}, "data": []byte(s)})
		if err != nil {
			t.Fatal(err)
		}
		var in struct {
			Metadata, Data json.RawMessage
		}
		if err := json.Unmarshal(b, &in); err != nil {
			t.Fatal(err)
		}
		return p, `{"metadata":` + string(in.Metadata) + `,"data":` + string(in.Data) + `}`
	}
	p, text := attributes(`{"message":"a <b> \"c\"","stack_trace":"at\nx"}`)
	none, noneText := attributes(`{"message":"m","stack_trace":""}`)
	odd, oddText := attributes(`{"stack_trace":"x"}`)
	list, listText := attributes(`["m"]`)
	for _, tc := range []struct {
		name, in string
		with     *commonpb.Payload
		want     string
	}{
		{
			"both there", `{"message":"Encoded failure","stackTrace":"","encodedAttributes":` + old + `}`, p,
			`{"message":"a <b> \"c\"","stackTrace":"at\nx","encodedAttributes":` + text + `}`,
		},
		{
			"behind", `{"encodedAttributes":` + old + `,"stackTrace":"","message":"Encoded failure"}`, p,
			`{"encodedAttributes":` + text + `,"stackTrace":"at\nx","message":"a <b> \"c\""}`,
		},
		{
			"no stack trace there", "{\n  \"message\": \"Encoded failure\",\n  \"encodedAttributes\": " + old + "\n}", p,
			"{\n  \"message\": \"a <b> \\\"c\\\"\",\n  \"stackTrace\": \"at\\nx\",\n  \"encodedAttributes\": " + text + "\n}",
		},
		{"neither there", `{"encodedAttributes":` + old + `}`, p, `{"message":"a <b> \"c\"","stackTrace":"at\nx","encodedAttributes":` + text + `}`},
		{"the other spelling", `{"encoded_attributes":` + old + `}`, p, `{"message":"a <b> \"c\"","stack_trace":"at\nx","encoded_attributes":` + text + `}`},
		{"no stack trace at all", `{"message":"Encoded failure","encodedAttributes":` + old + `}`, none, `{"message":"m","encodedAttributes":` + noneText + `}`},
		{"no message in it", `{"message":"Encoded failure","encodedAttributes":` + old + `}`, odd, `{"message":"Encoded failure","encodedAttributes":` + oddText + `}`},
		{"not an object", `{"message":"Encoded failure","encodedAttributes":` + old + `}`, list, `{"message":"Encoded failure","encodedAttributes":` + listText + `}`},
		{"stays sealed", `{"message":"Encoded failure","encodedAttributes":` + old + `}`, nil, `{"message":"Encoded failure","encodedAttributes":` + old + `}`},
		{
			"with a cause", `{"message":"E","cause":{"message":"F","encodedAttributes":null},"encodedAttributes":` + old + `}`, none,
			`{"message":"m","cause":{"message":"F","encodedAttributes":null},"encodedAttributes":` + noneText + `}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := Parse([]byte(`{"failure":`+tc.in+`}`), encoding)
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.Replace([]*commonpb.Payload{tc.with})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(`{"failure":`+tc.want+`}`, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReplaceRefuses(t *testing.T) {
	d, err := Parse([]byte(`{"payloads":[{}]}`), encoding)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Replace(nil); err == nil || err.Error() != "payloaddoc: replace payloads: 0 given for 1 found" {
		t.Errorf("got %v", err)
	}
	bad := &commonpb.Payload{Metadata: map[string][]byte{"secret\xff": nil}}
	if _, err := d.Replace([]*commonpb.Payload{bad}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// A history that Temporal's own marshaller wrote says the same after its
// payloads were replaced as the history with those payloads does.
func TestReplaceInHistory(t *testing.T) {
	history := func(input, message *commonpb.Payload, f *failurepb.Failure) *historypb.History {
		f.EncodedAttributes = message
		return &historypb.History{Events: []*historypb.HistoryEvent{
			{EventId: 1, Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
				WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
					Input: &commonpb.Payloads{Payloads: []*commonpb.Payload{input, input}},
					Memo:  &commonpb.Memo{Fields: map[string]*commonpb.Payload{"events[0].x": input}},
				},
			}},
			{EventId: 2, Attributes: &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{
				WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{
					Failure: &failurepb.Failure{Message: "outer", Cause: f},
				},
			}},
		}}
	}
	opened := plain(`{"message":"boom","stack_trace":"here"}`)
	want := history(plain(`"hi"`), opened, &failurepb.Failure{Message: "boom", StackTrace: "here", Source: "GoSDK"})
	for _, indent := range []string{"", "  ", "\t"} {
		text, err := temporalproto.CustomJSONMarshalOptions{Indent: indent}.Marshal(history(sealed("s"), sealed("f"), &failurepb.Failure{Message: "Encoded failure", Source: "GoSDK"}))
		if err != nil {
			t.Fatal(err)
		}
		d, err := Parse(text, encoding)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Found) != 4 || d.Kind != History {
			t.Fatalf("found %v", summary(d))
		}
		with := make([]*commonpb.Payload, len(d.Found))
		for i, f := range d.Found {
			with[i] = plain(`"hi"`)
			if string(f.Payload.GetData()) == "f" {
				with[i] = opened
			}
		}
		out, err := d.Replace(with)
		if err != nil {
			t.Fatal(err)
		}
		got := new(historypb.History)
		if err := (temporalproto.CustomJSONUnmarshalOptions{}).Unmarshal(out, got); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		if indent == "" {
			continue
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, out, "", indent); err != nil {
			t.Fatal(err)
		}
		// protojson writes one or two spaces after a colon, at random.
		if diff := cmp.Diff(indented.String(), strings.ReplaceAll(string(out), ":  ", ": ")); diff != "" {
			t.Errorf("lost its indentation:\n%s", diff)
		}
	}
}

// What looks like payloads in one another is not copied again for each level.
func TestNestedLookalikes(t *testing.T) {
	const depth, size = 2000, 1 << 20
	for name, open := range map[string]string{
		"in data":              `{"metadata":{"encoding":"eA=="},"data":`,
		"in metadata":          `{"metadata":{"encoding":"eA==","x":`,
		"in external payloads": `{"metadata":{"encoding":"eA=="},"externalPayloads":[{"x":`,
		"sealed":               `{"metadata":{"encoding":"` + sealedB64 + `"},"data":`,
	} {
		t.Run(name, func(t *testing.T) {
			end := strings.Repeat("}", strings.Count(open, "{")) // of one level
			switch name {
			case "in data", "sealed":
				end = "}"
			case "in external payloads":
				end = "}]}"
			}
			text := `{"events":[` + strings.Repeat(open, depth) + `"` + strings.Repeat("x", size) + `"` + strings.Repeat(end, depth) + `]}`
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = Parse([]byte(text), encoding) // an error for what claims to be sealed
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 64*size {
				t.Errorf("took %d MiB for %d", took>>20, len(text)>>20)
			}
		})
	}
}
