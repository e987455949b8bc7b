package codec_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

// containerVectors returns the format's vectors of the metadata beside an envelope, as payloads
// by name, and which of them are valid.
func containerVectors(t *testing.T) (payloads map[string]*commonpb.Payload, right map[string]bool) {
	t.Helper()
	files, err := filepath.Glob("../envelope/format/testdata/vectors/container-*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	payloads, right = map[string]*commonpb.Payload{}, map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, body, _ := strings.Cut(string(text), "\n\n")
		_, list, _ := strings.Cut(head, "container-key-ids:")
		list, _, _ = strings.Cut(list, "\n")
		ids, err := hex.DecodeString(strings.TrimSpace(list))
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(strings.ReplaceAll(body, "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		payloads[name] = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(codec.Encoding), codec.MetadataKeyIDs: ids}, Data: data}
		right[name] = strings.Contains(head, "\nexpect: success\n")
	}
	return payloads, right
}

// TestKeyIDsAreHeldToTheFormat: metadata that is not a valid list of key IDs is Corrupt, calls
// no KMS, and is quoted nowhere.
func TestKeyIDsAreHeldToTheFormat(t *testing.T) {
	payloads, right := containerVectors(t)
	c, backend := newCodec(t, onePolicy)
	for name, p := range payloads {
		t.Run(name, func(t *testing.T) {
			list := string(p.GetMetadata()[codec.MetadataKeyIDs])
			d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "default"}, []*commonpb.Payload{p})[0]
			if right[name] {
				wantClass(t, d.Err, kms.Denied) // the vectors' key is not configured here
				if diff := cmp.Diff(strings.Split(list, " "), codec.KeyIDs(p)); diff != "" {
					t.Errorf("key IDs (-metadata +given): %s", diff)
				}
				return
			}
			wantClass(t, d.Err, kms.Corrupt)
			text := d.Err.Error() + hintFrom(t, d.Err)
			if strings.Contains(text, "canary") || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("error %q", text)
			}
			for _, id := range append(d.KeyIDs, codec.KeyIDs(p)...) {
				if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
					t.Errorf("key ID %q", id)
				}
			}
		})
	}
	if n := backend.Fake("a").Counts().Unwraps; n != 0 {
		t.Errorf("%d unwraps", n)
	}
}

func hintFrom(t *testing.T, err error) string {
	t.Helper()
	var h interface{ Hint() string }
	if !errors.As(err, &h) || h.Hint() == "" {
		t.Fatalf("no hint for %v", err)
	}
	return h.Hint()
}

// TestClaimsThatAClaimCannotHold: a workflow ID of any bytes that Temporal accepts is recorded,
// and the envelope opens.
func TestClaimsThatAClaimCannotHold(t *testing.T) {
	c, _ := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], claims: [workflowId]}]}`)
	of := func(workflow string) converter.DataConverter {
		return converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, "n", nil), converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: workflow})
	}
	for id, want := range map[string]string{"order\n\x1b[1m": "order%0A%1B[1m", "order\xff": "order%FF", "100%": "100%25", "a\u202eb": "a%E2%80%AEb"} {
		p, err := of(id).ToPayload("x")
		if err != nil {
			t.Errorf("workflow ID %q: %v", id, err)
			continue
		}
		env, err := format.Parse(p.GetData())
		if err != nil || envelope.ClaimsOf(env.Header).Others["workflowId"] != want {
			t.Errorf("workflow ID %q: claims %v, %v", id, env.Header.Claims, err)
		}
		var got string
		if err := of(id).FromPayload(p, &got); err != nil || got != "x" {
			t.Errorf("workflow ID %q: %q, %v", id, got, err)
		}
	}
	_, err := of(strings.Repeat("\x00", 342)).ToPayload("x")
	wantClass(t, err, kms.Denied)
	hintFrom(t, err)
}
