package payloaddoc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/internal/payloadjson"
)

// failure holds the places of a failure's parts. Its encodedAttributes is a payload; a missing part has an empty span.
type failure struct {
	message, stackTrace span
	name, value         span // of encodedAttributes
}

// edit puts text in the place of a span.
type edit struct {
	span
	text []byte
}

// Replace returns the document with payloads in place of those found, one for each; nil leaves one as it is. It writes a new
// payload like the old one, on one line or indented. It copies message and stack trace from a failure's encodedAttributes
// into the failure, as SDKs do.
//
// It fails if a payload cannot be written as JSON; the error holds nothing of it.
func (d *Document) Replace(payloads []*commonpb.Payload) ([]byte, error) {
	if len(payloads) != len(d.Found) {
		return nil, fmt.Errorf("payloaddoc: replace payloads: %d given for %d found", len(payloads), len(d.Found))
	}
	var edits []edit
	size := len(d.text)
	for i, p := range payloads {
		if p == nil {
			continue
		}
		old := d.Found[i]
		text, err := d.write(old.value, p)
		if err != nil {
			return nil, fmt.Errorf("payloaddoc: replace payload %d: %w", i, err)
		}
		edits = append(edits, edit{old.value, text})
		if old.failure != nil {
			edits = append(edits, d.failureEdits(old.failure, p)...)
		}
		size += len(text)
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	out := make([]byte, 0, size)
	at := 0
	for _, e := range edits {
		out = append(append(out, d.text[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, d.text[at:]...), nil
}

// write returns p as JSON in the style of the object at s.
func (d *Document) write(s span, p *commonpb.Payload) ([]byte, error) {
	text, err := payloadjson.Append(nil, []*commonpb.Payload{p})
	if err != nil {
		return nil, err
	}
	text = text[len(`{"payloads":[`) : len(text)-len(`]}`)]
	old := d.text[s.start:s.end]
	inner := old[1 : 1+len(old[1:])-len(bytes.TrimLeft(old[1:], " \t\n\r"))]
	newline := bytes.LastIndexByte(inner, '\n')
	if newline < 0 || len(text) == len(`{}`) {
		return text, nil
	}
	// The text before a closing brace alone on its line is the indentation of the object.
	base := ""
	outer := old[len(bytes.TrimRight(old[:len(old)-1], " \t\n\r")) : len(old)-1]
	if i := bytes.LastIndexByte(outer, '\n'); i >= 0 {
		base = string(outer[i+1:])
	}
	unit, ok := strings.CutPrefix(string(inner[newline+1:]), base)
	if !ok {
		unit = "  "
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, base, unit); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimLeft(inner, " \t"), []byte("\r\n")) {
		return bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n")), nil
	}
	return b.Bytes(), nil
}

// failureEdits copies the opened attributes into the failure. Attributes of another shape than the SDKs' change nothing.
func (d *Document) failureEdits(f *failure, p *commonpb.Payload) []edit {
	var attributes struct {
		Message    *string `json:"message"`
		StackTrace string  `json:"stack_trace"`
	}
	if string(p.GetMetadata()["encoding"]) != "json/plain" || json.Unmarshal(p.GetData(), &attributes) != nil || attributes.Message == nil {
		return nil
	}
	stackTrace := "stackTrace"
	if bytes.ContainsRune(d.text[f.name.start:f.name.end], '_') {
		stackTrace = "stack_trace"
	}
	return slices.Concat(
		d.set(f, f.message, "message", *attributes.Message),
		d.set(f, f.stackTrace, stackTrace, attributes.StackTrace),
	)
}

// set writes a string member of a failure: in its place, or before the encoded attributes if it is new and not empty.
func (d *Document) set(f *failure, place span, name, text string) []edit {
	quoted := quote(text)
	switch {
	case place.end > 0:
		return []edit{{place, quoted}}
	case text == "":
		return nil
	}
	before := d.text[:f.name.start]
	space := before[len(bytes.TrimRight(before, " \t\n\r")):]
	colon := d.text[f.name.end:f.value.start]
	member := slices.Concat([]byte(`"`+name+`"`), colon, quoted, []byte(","), space)
	return []edit{{span{f.name.start, f.name.start}, member}}
}

// quote returns s as a JSON string with only the escapes that JSON requires.
func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always has a JSON form
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
