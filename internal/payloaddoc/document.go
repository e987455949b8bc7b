package payloaddoc

import (
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/internal/payloadjson"
)

// MaxSize is the largest document in bytes that Parse takes. By default a server keeps at most 50 MiB of history for a
// workflow, about 70 MiB as JSON; the rest is room for servers with other settings.
const MaxSize = 512 << 20

// Kind is the kind of a document.
type Kind uint8

const (
	// Payload is one payload: {"metadata": …, "data": …}.
	Payload Kind = iota + 1
	// Payloads is the body of a codec server's requests: {"payloads": […]}.
	Payloads
	// List is a list of payloads without a name: […].
	List
	// History is a workflow history: {"events": […]}, or a list of events.
	History
	// Other is any other JSON object or list, such as the description of a workflow.
	Other
)

// Mutable reports whether the document holds payloads that are still to be sent. To change the copy of a history, or of a
// server's answer, would not change the original.
func (k Kind) Mutable() bool { return k == Payload || k == Payloads || k == List }

// Found is one payload of a document.
type Found struct {
	// Path is where it is, such as events[4].activityTaskScheduledEventAttributes.input.payloads[0];
	// empty if it is the whole document. Names in it come from the document.
	Path string
	// Payload is the payload. It shares no memory with the document.
	Payload *commonpb.Payload
	// SearchAttribute is set for the value of a search attribute. Servers index those, so they are never sealed.
	SearchAttribute bool

	value   span
	failure *failure // if it is the encodedAttributes of a failure
}

// Document is a JSON document and the payloads in it.
type Document struct {
	Kind Kind
	// Found are its payloads, in the order of the text.
	Found []Found

	text []byte
}

// span is a part of the text: [start, end).
type span struct{ start, end int }

// limits are generous: the user chose the file, and MaxSize bounds what it can hold.
var limits = payloadjson.Limits{Payloads: 1 << 22, Entries: 1 << 12}

// Parse finds the payloads in text, which it keeps and does not change. encoding is the encoding of sealed payloads. An error
// is an *Error.
//
// A document of Kind Payload, Payloads or List must follow protobuf's JSON mapping, without unknown fields. Elsewhere, an
// object is a payload if it has only metadata, data and externalPayloads, and its metadata names an encoding. An object that
// names the encoding of sealed payloads must be a payload.
func Parse(text []byte, encoding string) (*Document, error) {
	if err := checkJSON(text); err != nil {
		return nil, err
	}
	w := &walker{text: text, sealed: []byte(encoding)}
	w.space()
	d := &Document{Kind: w.kind(), text: text}
	switch {
	case d.Kind == 0:
		return nil, fail(text, w.at, "the document is neither an object nor a list", adviceShape)
	case d.Kind.Mutable():
		d.Found = w.strict(d.Kind)
	default:
		w.value()
		d.Found = w.found
	}
	if w.err != nil {
		return nil, w.err
	}
	return d, nil
}
