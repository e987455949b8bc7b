package payloadjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
)

var wide = Limits{Payloads: 1 << 20, Entries: 1 << 20}

// hi is the payload of the documentation's examples.
var hi = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"hi"`)}

const hiJSON = `{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhpIg=="}`

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []*commonpb.Payload
	}{
		{"nothing", `{}`, nil},
		{"an empty list", `{"payloads":[]}`, nil},
		{"null for the list", `{"payloads":null}`, nil},
		{"one payload", `{"payloads":[` + hiJSON + `]}`, []*commonpb.Payload{hi}},
		{"white space everywhere", " {\n\t\"payloads\" : [ " + strings.NewReplacer(":", " : ", ",", "\r\n,").Replace(hiJSON) + " ] } \n", []*commonpb.Payload{hi}},
		{"order is kept", `{"payloads":[{"data":"YQ=="},{"data":"Yg=="},{},{"data":"Yw=="}]}`, []*commonpb.Payload{{Data: []byte("a")}, {Data: []byte("b")}, {}, {Data: []byte("c")}}},
		{"unpadded base64", `{"payloads":[{"data":"YQ"}]}`, []*commonpb.Payload{{Data: []byte("a")}}},
		{"URL-safe base64", `{"payloads":[{"data":"-_-_"}]}`, []*commonpb.Payload{{Data: []byte{0xfb, 0xff, 0xbf}}}},
		{"URL-safe and unpadded", `{"payloads":[{"data":"-_8"}]}`, []*commonpb.Payload{{Data: []byte{0xfb, 0xff}}}},
		{"escapes in base64", `{"payloads":[{"data":"\u0059\/8="}]}`, []*commonpb.Payload{{Data: []byte{0x63, 0xff}}}},
		{"escapes in names", `{"\u0070ayloads":[{"metadata":{"\ud83d\ude00\b\f\n\r\t\"\\\/":""}}]}`, []*commonpb.Payload{{Metadata: map[string][]byte{"😀\b\f\n\r\t\"\\/": {}}}}},
		{"text beyond ASCII", `{"payloads":[{"metadata":{"schlüssel":"YQ=="}}]}`, []*commonpb.Payload{{Metadata: map[string][]byte{"schlüssel": []byte("a")}}}},
		{"null fields", `{"payloads":[{"metadata":null,"data":null,"externalPayloads":null}]}`, []*commonpb.Payload{{}}},
		{"empty fields", `{"payloads":[{"metadata":{},"data":"","externalPayloads":[]}]}`, []*commonpb.Payload{{}}},
		{"external payloads in camel case", `{"payloads":[{"externalPayloads":[{"sizeBytes":"5"},{}]}]}`, []*commonpb.Payload{{ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 5}, {}}}}},
		{"external payloads in snake case", `{"payloads":[{"external_payloads":[{"size_bytes":5},{"size_bytes":null}]}]}`, []*commonpb.Payload{{ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 5}, {}}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse([]byte(tc.in), wide)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseIntegers(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "-0": 0, "7": 7, "-7": -7, "1.0": 1, "15e1": 150, "1.5e1": 15, "1.50E+1": 15, "100e-2": 1,
		"9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63, "0e999999999999": 0, "0.0": 0,
	} {
		for _, written := range []string{in, `"` + in + `"`} {
			t.Run(written, func(t *testing.T) {
				got, err := Parse([]byte(`{"payloads":[{"externalPayloads":[{"sizeBytes":`+written+`}]}]}`), wide)
				if err != nil {
					t.Fatal(err)
				}
				if n := got[0].ExternalPayloads[0].SizeBytes; n != want {
					t.Errorf("got %d, want %d", n, want)
				}
			})
		}
	}
}

func TestParseRefuses(t *testing.T) {
	size := func(n string) string { return `{"payloads":[{"externalPayloads":[{"sizeBytes":` + n + `}]}]}` }
	metadata := func(s string) string { return `{"payloads":[{"metadata":` + s + `}]}` }
	data := func(s string) string { return `{"payloads":[{"data":` + s + `}]}` }
	for _, tc := range []struct {
		name, in string
		want     Reason
	}{
		{"no document", ``, Truncated},
		{"only white space", " \n", Truncated},
		{"a word", `hello`, Syntax},
		{"a byte order mark", "\ufeff{}", Syntax},
		{"a list", `[]`, WrongType},
		{"a string", `"payloads"`, WrongType},
		{"a number", `1`, WrongType},
		{"null", `null`, NullElement},
		{"two documents", `{}{}`, Trailing},
		{"a brace too many", `{"payloads":[]}}`, Trailing},
		{"a NUL at the end", "{}\x00", Trailing},
		{"a trailing comma in a list", `{"payloads":[{},]}`, Syntax},
		{"a trailing comma in an object", `{"payloads":[],}`, Syntax},
		{"a leading comma", `{"payloads":[,{}]}`, Syntax},
		{"no comma", `{"payloads":[{}{}]}`, Syntax},
		{"no colon", `{"payloads"[]}`, Syntax},
		{"a name without quotes", `{payloads:[]}`, Syntax},
		{"a name in single quotes", `{'payloads':[]}`, Syntax},
		{"a comment", `{/**/}`, Syntax},
		{"almost null", `{"payloads":nul}`, WrongType},
		{"more than null", `{"payloads":nullx}`, Syntax},
		{"unknown field of Payloads", `{"payload":[]}`, UnknownField},
		{"unknown field of Payload", `{"payloads":[{"secret":1}]}`, UnknownField},
		{"unknown field of ExternalPayloadDetails", `{"payloads":[{"externalPayloads":[{"bytes":1}]}]}`, UnknownField},
		{"an extension name", `{"[payloads]":[]}`, UnknownField},
		{"another case", `{"Payloads":[]}`, UnknownField},
		{"an empty name", `{"":[]}`, UnknownField},
		{"payloads twice", `{"payloads":[],"payloads":[]}`, DuplicateField},
		{"data twice", `{"payloads":[{"data":"","data":""}]}`, DuplicateField},
		{"data twice, null first", `{"payloads":[{"data":null,"data":"YQ=="}]}`, DuplicateField},
		{"two spellings of one field", `{"payloads":[{"externalPayloads":[],"external_payloads":[]}]}`, DuplicateField},
		{"a metadata name twice", metadata(`{"a":"","b":"","a":""}`), DuplicateField},
		{"a metadata name twice, escaped", metadata(`{"a":"","\u0061":""}`), DuplicateField},
		{"a null payload", `{"payloads":[null]}`, NullElement},
		{"a null payload among others", `{"payloads":[{},null]}`, NullElement},
		{"a null metadata value", metadata(`{"a":null}`), NullElement},
		{"a null external payload", `{"payloads":[{"externalPayloads":[null]}]}`, NullElement},
		{"an object for the list", `{"payloads":{}}`, WrongType},
		{"a string for a payload", `{"payloads":["x"]}`, WrongType},
		{"a list for a payload", `{"payloads":[[]]}`, WrongType},
		{"a list for metadata", metadata(`[]`), WrongType},
		{"a number for data", data(`1`), WrongType},
		{"a boolean for data", data(`true`), WrongType},
		{"an object for data", data(`{}`), WrongType},
		{"a number for a metadata value", metadata(`{"a":1}`), WrongType},
		{"nested as deep as it gets", `{"payloads":` + strings.Repeat("[", 100_000), WrongType},
		{"base64 of no length", data(`"A"`), Base64},
		{"base64 with a foreign character", data(`"AA!A"`), Base64},
		{"base64 in both alphabets", data(`"+-+-"`), Base64},
		{"base64 padded in the middle", data(`"YQ==YQ=="`), Base64},
		{"base64 padded too much", data(`"YQ==="`), Base64},
		{"base64 with a space", data(`"YQ= ="`), Base64},
		{"base64 beyond ASCII", data(`"YQé="`), Base64},
		{"base64 in a metadata value", metadata(`{"a":"?"}`), Base64},
		{"bad UTF-8 in a value", data("\"\xff\""), InvalidText},
		{"bad UTF-8 in a name", "{\"\xc3\x28\":[]}", InvalidText},
		{"overlong UTF-8", metadata("{\"\xc0\xaf\":\"\"}"), InvalidText},
		{"a surrogate in UTF-8", metadata("{\"\xed\xa0\x80\":\"\"}"), InvalidText},
		{"a control character", data("\"Y\nQ==\""), InvalidText},
		{"an unknown escape", data(`"\x41"`), InvalidText},
		{"a short escape", data(`"\u41"`), InvalidText},
		{"half a surrogate pair", metadata(`{"\ud83dxxxxxx":""}`), InvalidText},
		{"two high surrogates", metadata(`{"\ud83d\ud83d":""}`), InvalidText},
		{"a low surrogate alone", metadata(`{"\ude00":""}      `), InvalidText},
		{"half a pair, then a short escape", metadata(`{"\ud83d\ude0":""}`), InvalidText},
		{"a number too large", size(`9223372036854775808`), WrongType},
		{"a number too small", size(`-9223372036854775809`), WrongType},
		{"a huge exponent", size(`1e999999999`), WrongType},
		{"the largest exponent of 32 bits", size(`1e2147483647`), WrongType}, // GOARCH=386: a sum with it wraps around
		{"a huge exponent that no integer holds", size(`1e99999999999999999999`), WrongType},
		{"a huge negative exponent", size(`1e-999999999`), WrongType},
		{"a million digits", size(strings.Repeat("9", 1_000_000)), WrongType},
		{"a fraction", size(`1.5`), WrongType},
		{"a fraction by exponent", size(`15e-1`), WrongType},
		{"a fraction that an exponent does not remove", size(`1.55e1`), WrongType},
		{"a leading zero", size(`01`), WrongType},
		{"a plus", size(`+1`), Syntax},
		{"a bare minus", size(`-`), WrongType},
		{"a bare point", size(`1.`), WrongType},
		{"a bare exponent", size(`1e`), WrongType},
		{"hexadecimal", size(`0x10`), Syntax},
		{"not a number", size(`NaN`), Syntax},
		{"a string that is no number", size(`"five"`), WrongType},
		{"a string with a space", size(`" 5"`), WrongType},
		{"a string of nothing", size(`""`), WrongType},
		{"a string of a string", size(`"\"5\""`), WrongType},
		{"a string of a broken string", size(`"5`), Truncated},
		{"an object for a number", size(`{}`), WrongType},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse([]byte(tc.in), wide)
			if got != nil {
				t.Errorf("got %d payloads beside the error", len(got))
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got error %v, want an *Error", err)
			}
			if e.Reason != tc.want {
				t.Errorf("the document %s at byte %d, want: %s", e.Reason, e.Offset, tc.want)
			}
			if e.Offset < 0 || e.Offset > len(tc.in) {
				t.Errorf("offset %d in %d bytes", e.Offset, len(tc.in))
			}
		})
	}
}

func TestParseRefusesEveryTruncation(t *testing.T) {
	whole := []byte(`{"payloads":[{"metadata":{"k\u00e9\n":"anNvbi9wbGFpbg=="},"data":"ImhpIg==","externalPayloads":[{"sizeBytes":"12"},{"size_bytes":-1.0e1}]}]}`)
	if _, err := Parse(whole, wide); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, err := Parse(whole[:n], wide); err == nil {
			t.Errorf("the first %d bytes were accepted: %s", n, whole[:n])
		}
	}
}

func TestParseLimits(t *testing.T) {
	limits := Limits{Payloads: 3, Entries: 2}
	list := func(n int, item string) string { return strings.Join(slices.Repeat([]string{item}, n), ",") }
	for _, tc := range []struct {
		name, in string
		want     Reason
		ok       bool
	}{
		{"payloads at the limit", `{"payloads":[` + list(3, `{}`) + `]}`, 0, true},
		{"one payload more", `{"payloads":[` + list(4, `{}`) + `]}`, TooManyPayloads, false},
		{"metadata at the limit", `{"payloads":[{"metadata":{"a":"","b":""}}]}`, 0, true},
		{"one metadata entry more", `{"payloads":[{"metadata":{"a":"","b":"","c":""}}]}`, TooManyEntries, false},
		{"external payloads at the limit", `{"payloads":[{"externalPayloads":[` + list(2, `{}`) + `]}]}`, 0, true},
		{"one external payload more", `{"payloads":[{"externalPayloads":[` + list(3, `{}`) + `]}]}`, TooManyEntries, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in), limits)
			var e *Error
			if tc.ok && err != nil || !tc.ok && (!errors.As(err, &e) || e.Reason != tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestParseSharesNoMemory(t *testing.T) {
	in := []byte(`{"payloads":[` + hiJSON + `]}`)
	got, err := Parse(in, wide)
	if err != nil {
		t.Fatal(err)
	}
	clear(in)
	if diff := cmp.Diff([]*commonpb.Payload{hi}, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The document may be plaintext, so an error may quote none of it.
func TestErrorQuotesNothing(t *testing.T) {
	const canary = "CANARY"
	for _, in := range []string{canary, `{"` + canary + `":1}`, `{"payloads":[{"data":"` + canary + `!"}]}`, `{"payloads":[{"metadata":{"` + canary + `":1}}]}`, `{}` + canary} {
		_, err := Parse([]byte(in), wide)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v", in, err)
		}
	}
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if seen[r.String()] || r.String() == "" {
			t.Errorf("reason %d has the text %q of another", r, r)
		}
		seen[r.String()] = true
	}
	if got := Reason(255).String(); got != "cannot be read" {
		t.Errorf("an unknown reason reads %q", got)
	}
}

func TestAppend(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []*commonpb.Payload
		want string
	}{
		{"none", nil, `{"payloads":[]}`},
		{"an empty list", []*commonpb.Payload{}, `{"payloads":[]}`},
		{"the documentation's example", []*commonpb.Payload{hi}, `{"payloads":[` + hiJSON + `]}`},
		{"an empty payload", []*commonpb.Payload{{}, {Data: []byte{}, Metadata: map[string][]byte{}}}, `{"payloads":[{},{}]}`},
		{"metadata in order", []*commonpb.Payload{{Metadata: map[string][]byte{"b": []byte("b"), "": nil, "a": []byte("a")}}}, `{"payloads":[{"metadata":{"":"","a":"YQ==","b":"Yg=="}}]}`},
		{"only data", []*commonpb.Payload{{Data: []byte{0xfb, 0xff}}}, `{"payloads":[{"data":"+/8="}]}`},
		{"external payloads", []*commonpb.Payload{{Data: []byte("a"), ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 5}, {}, {SizeBytes: -1 << 63}}}}, `{"payloads":[{"data":"YQ==","externalPayloads":[{"sizeBytes":"5"},{},{"sizeBytes":"-9223372036854775808"}]}]}`},
		{"names that need escapes", []*commonpb.Payload{{Metadata: map[string][]byte{"\"\\\b\f\n\r\t\x01\x1f/<é\u2028": nil}}}, "{\"payloads\":[{\"metadata\":{\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/<é\u2028\":\"\"}}]}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Append([]byte("x"), tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("x"+tc.want, string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(tc.in) > 0 {
				if diff := cmp.Diff(compactProtojson(t, tc.in), tc.want); diff != "" {
					t.Errorf("not what protojson writes (-protojson +want)\n%s", diff)
				}
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   *commonpb.Payload
		want error
	}{
		{"a nil payload", nil, ErrNil},
		{"a name that is not UTF-8", &commonpb.Payload{Metadata: map[string][]byte{"\xff": nil}}, ErrText},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Append(nil, []*commonpb.Payload{hi, tc.in}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestSizeIsEnough(t *testing.T) {
	for _, payloads := range [][]*commonpb.Payload{nil, {hi}, {{}, hi}, {{Data: make([]byte, 1000), ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: -1 << 63}}}}} {
		out, err := Append(nil, payloads)
		if err != nil {
			t.Fatal(err)
		}
		if Size(payloads) < len(out) {
			t.Errorf("Size says %d for %d bytes", Size(payloads), len(out))
		}
	}
}

// A field that a newer API adds would be refused on the way in and dropped on
// the way out: this test is where one finds out.
func TestMessagesHaveNoOtherFields(t *testing.T) {
	for want, m := range map[string]proto.Message{
		"[payloads]":                        &commonpb.Payloads{},
		"[metadata data external_payloads]": &commonpb.Payload{},
		"[size_bytes]":                      &commonpb.Payload_ExternalPayloadDetails{},
	} {
		var names []protoreflect.Name
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			names = append(names, fields.Get(i).Name())
		}
		if got := fmt.Sprint(names); got != want {
			t.Errorf("%T has the fields %s, want %s", m, got, want)
		}
	}
}

// compactProtojson is what protojson writes, without the spaces that it adds at random.
func compactProtojson(t testing.TB, payloads []*commonpb.Payload) string {
	t.Helper()
	spaced, err := protojson.Marshal(&commonpb.Payloads{Payloads: payloads})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, spaced); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// laxNumber reports whether a document is refused here only because protojson
// also takes an exponent without digits, "1e", which RFC 8259 does not.
func laxNumber(document []byte) bool {
	for i, c := range document {
		if c == 'e' || c == 'E' {
			rest := bytes.TrimLeft(document[i+1:], "+-")
			if len(rest) == 0 || rest[0] < '0' || rest[0] > '9' {
				return i > 0 && '0' <= document[i-1] && document[i-1] <= '9'
			}
		}
	}
	return false
}

// FuzzParse holds Parse against protojson: the same documents, the same
// messages, and Append's answer reads back as what was read.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"payloads":[]}`, `{"payloads":null}`, `{"payloads":[` + hiJSON + `,{}]}`, `{"payloads":[null]}`,
		`{"payloads":[{"data":"-_8"},{"data":"\u0059\/8="}]}`, `{"payloads":[{"metadata":{"\ud83d\ude00":""}}]}`,
		`{"payloads":[{"external_payloads":[{"size_bytes":"12"},{"sizeBytes":-1.5e1}]}]}`, `{"payloads":[{"metadata":{"a":"","a":""}}]}`,
		`{"payloads":[{"externalPayloads":[{"sizeBytes":0.00001e5},{"sizeBytes":"100e-2"}]}]}`, `{"payloads":[{"data":"YQ\n=="}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		got, err := Parse(document, wide)
		want := &commonpb.Payloads{}
		if wantErr := protojson.Unmarshal(document, want); (err == nil) != (wantErr == nil) {
			if err != nil && laxNumber(document) {
				return
			}
			t.Fatalf("got error %v, protojson's is %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if !proto.Equal(want, &commonpb.Payloads{Payloads: got}) {
			t.Fatalf("got %v, protojson read %v", got, want)
		}
		out, err := Append(nil, got)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 && compactProtojson(t, got) != string(out) {
			t.Errorf("protojson writes %s, Append %s", compactProtojson(t, got), out)
		}
		again, err := Parse(out, wide)
		if err != nil {
			t.Fatalf("Append's answer does not read back: %v", err)
		}
		if !proto.Equal(want, &commonpb.Payloads{Payloads: again}) {
			t.Errorf("read back %v, want %v", again, want)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 1 << 20} {
		document, err := Append(nil, []*commonpb.Payload{{Metadata: hi.Metadata, Data: make([]byte, size)}})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("here/%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(document, wide); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("protojson/%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			for b.Loop() {
				if err := protojson.Unmarshal(document, &commonpb.Payloads{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 1 << 20} {
		payloads := []*commonpb.Payload{{Metadata: hi.Metadata, Data: make([]byte, size)}}
		b.Run(fmt.Sprintf("here/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Append(make([]byte, 0, Size(payloads)), payloads); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("protojson/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := protojson.Marshal(&commonpb.Payloads{Payloads: payloads}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
