package payloaddoc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/internal/payloadjson"
)

// walker goes once through a text that is valid JSON, from front to back.
type walker struct {
	text   []byte
	at     int
	sealed []byte // the encoding that sealed payloads name
	path   []byte
	found  []Found
	err    *Error // the first one; what the walk finds after it does not count

	skipping int // how many calls of skip are under way
}

// value is a value that the walker has passed.
type value struct {
	span
	kind     byte // its first byte
	encoding span // of an object: the string of its member "encoding"
	payload  bool // the last one found is this value
	height   int  // how many objects and lists stand in one another here, itself included
}

// The members that make an object a payload, in both spellings that protobuf's JSON mapping accepts.
var payloadMembers = []string{"metadata", "data", "externalPayloads", "external_payloads"}

// fits reports whether a payload has such a member, no deeper than this: nested objects must not be parsed at each level.
func fits(name string, height int) bool {
	switch name {
	case "metadata":
		return height <= 1
	case "data":
		return height == 0
	default:
		return slices.Contains(payloadMembers, name) && height <= 2
	}
}

// space skips the four characters that RFC 8259 calls white space.
func (w *walker) space() {
	for w.at < len(w.text) && strings.IndexByte(" \t\n\r", w.text[w.at]) >= 0 {
		w.at++
	}
}

// value passes a value and notes the payloads in it.
func (w *walker) value() value {
	v := value{kind: w.text[w.at]}
	v.start = w.at
	switch v.kind {
	case '{':
		w.object(&v)
	case '[':
		v.height = 1
		w.array(func(i int) {
			push := len(w.path)
			w.path = append(strconv.AppendInt(append(w.path, '['), int64(i), 10), ']')
			v.height = max(v.height, 1+w.value().height)
			w.path = w.path[:push]
		})
	case '"':
		w.str()
	default:
		for w.at < len(w.text) && strings.IndexByte(",]} \t\n\r", w.text[w.at]) < 0 {
			w.at++
		}
	}
	v.end = w.at
	return v
}

// skip passes a value without looking for payloads.
func (w *walker) skip() span {
	w.skipping++
	defer func() { w.skipping-- }()
	return w.value().span
}

// str passes a string.
func (w *walker) str() {
	for w.at++; w.text[w.at] != '"'; w.at++ {
		if w.text[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
}

// array passes […]; element passes one element.
func (w *walker) array(element func(i int)) {
	w.at++
	for i := 0; ; i++ {
		w.space()
		switch w.text[w.at] {
		case ']':
			w.at++
			return
		case ',':
			w.at++
			w.space()
		}
		element(i)
	}
}

// members passes {…}; member passes one value. name is the span of the quoted name.
func (w *walker) members(member func(name string, quoted span)) {
	w.at++
	for {
		w.space()
		switch w.text[w.at] {
		case '}':
			w.at++
			return
		case ',':
			w.at++
			w.space()
		}
		quoted := span{start: w.at}
		w.str()
		quoted.end = w.at
		w.space()
		w.at++ // the colon
		w.space()
		member(w.unquote(quoted), quoted)
	}
}

// unquote returns the string that is at s.
func (w *walker) unquote(s span) string {
	inner := w.text[s.start+1 : s.end-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var out string
	_ = json.Unmarshal(w.text[s.start:s.end], &out) // the text is valid
	return out
}

// object passes an object, and notes it if it is a payload.
func (w *walker) object(v *value) {
	var encoding span // of the metadata
	others := false
	var failed failure
	attributes := -1 // the index among found of the encoded attributes
	v.height = 1
	w.members(func(name string, quoted span) {
		push := len(w.path)
		if push > 0 {
			w.path = append(w.path, '.')
		}
		w.path = append(w.path, name...)
		member := w.value()
		w.path = w.path[:push]
		v.height = max(v.height, 1+member.height)
		switch name {
		case "encoding":
			if member.kind == '"' {
				v.encoding = member.span
			}
		case "metadata":
			encoding = member.encoding
		case "message":
			failed.message = member.ofKind('"')
		case "stackTrace", "stack_trace":
			failed.stackTrace = member.ofKind('"')
		case "encodedAttributes", "encoded_attributes":
			if member.payload {
				attributes = len(w.found) - 1
				failed.name, failed.value = quoted, member.span
			}
		}
		others = others || !fits(name, member.height)
	})
	v.end = w.at
	if attributes >= 0 {
		w.found[attributes].failure = &failed
	}
	if encoding.end > 0 {
		v.payload = w.payload(v.span, encoding, others)
	}
}

// ofKind returns where v is if it is of a kind.
func (v value) ofKind(kind byte) span {
	if v.kind != kind {
		return span{}
	}
	return v.span
}

// payload notes the object at s if it is a payload. encoding is where its metadata names its encoding. others says that it
// has a member that does not fit.
func (w *walker) payload(s, encoding span, others bool) bool {
	if w.skipping > 0 {
		return false
	}
	named := DecodeBase64(w.unquote(encoding))
	mustBe := len(w.sealed) > 0 && bytes.Equal(named, w.sealed)
	if w.err != nil || !mustBe && (named == nil || others) {
		return false
	}
	payloads, err := w.parse(s, `{"payloads":[`, `]}`)
	if err != nil {
		if mustBe {
			w.err = err
		}
		return false
	}
	w.found = append(w.found, Found{Path: string(w.path), Payload: payloads[0], SearchAttribute: w.indexed(), value: s})
	return true
}

// indexed reports whether the path leads into search attributes.
func (w *walker) indexed() bool {
	return bytes.Contains(w.path, []byte(".indexedFields.")) || bytes.Contains(w.path, []byte(".indexed_fields."))
}

// parse reads the payloads at s, once before and after make a Payloads message of it.
func (w *walker) parse(s span, before, after string) ([]*commonpb.Payload, *Error) {
	wrapped := slices.Concat([]byte(before), w.text[s.start:s.end], []byte(after))
	payloads, err := payloadjson.Parse(wrapped, limits)
	if err != nil {
		return nil, payloadError(w.text, err, s.start-len(before))
	}
	return payloads, nil
}

// DecodeBase64 reads base64 as in protobuf's JSON mapping, in either alphabet, padded or not; nil if it is not base64.
func DecodeBase64(s string) []byte {
	e := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		e = base64.RawURLEncoding
	}
	out, err := e.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil
	}
	return out
}
