package payloaddoc

import (
	"bytes"
	"encoding/json"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"
)

// Whatever is accepted stays the same when nothing is replaced, and, when
// everything is, holds the new payloads in the same places.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `[null,{"eventId":1}]`, `{"payloads":[{},{"data":"YQ"}]}`, "{\r\n \"data\": \"YQ\"\n}",
		`{"events":[{"searchAttributes":{"indexedFields":{"a":{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"YQ=="}}}}]}`,
		`{"failure":{"message":"x","cause":{"encodedAttributes":{"metadata":{"encoding":"YmluYXJ5L3dheHNlYWw="},"data":"YQ=="}}}}`,
		`{"a\"b":[1,-2.5e3,true,"\\\u0061",{"metadata":{"encoding":"YQ"}}]}`,
	} {
		f.Add([]byte(seed))
	}
	attributes := plain(`{"message":"m","stack_trace":"s"}`)
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text, encoding)
		if err != nil {
			return
		}
		with := make([]*commonpb.Payload, len(d.Found))
		if same, err := d.Replace(with); err != nil || !bytes.Equal(same, text) {
			t.Fatalf("replacing nothing gave %q, %v", same, err)
		}
		for i := range with {
			with[i] = attributes
		}
		out, err := d.Replace(with)
		if err != nil || !json.Valid(out) {
			t.Fatalf("%q became %q, %v", text, out, err)
		}
		again, err := Parse(out, encoding)
		if err != nil {
			t.Fatalf("%q became %q, which is refused: %v", text, out, err)
		}
		if len(again.Found) != len(d.Found) || again.Kind != d.Kind {
			t.Fatalf("%q became %q", text, out)
		}
		for i, found := range again.Found {
			if found.Path != d.Found[i].Path || !proto.Equal(found.Payload, attributes) {
				t.Fatalf("%q became %q: payload %d", text, out, i)
			}
		}
	})
}
