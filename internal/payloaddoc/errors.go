package payloaddoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/waxseal/waxseal/internal/payloadjson"
)

// Error is a refused document. Its text holds nothing of the document.
type Error struct {
	// Detail says what is wrong.
	Detail string
	// Advice says what to do, in one sentence.
	Advice string
	// Line and Column are the place, both from 1; the column counts characters.
	Line, Column int
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("payloaddoc: read payloads: %s (line %d, column %d)", e.Detail, e.Line, e.Column)
}

// Hint says what to do next.
func (e *Error) Hint() string { return e.Advice }

const adviceShape = `give a payload, {"payloads":[…]}, or a history as "temporal workflow show -o json" writes it`

// ErrNoPayloads refuses a document of Kind Other without a payload.
var ErrNoPayloads error = noPayloads{}

type noPayloads struct{}

// Error implements error.
func (noPayloads) Error() string { return "there are no payloads in this JSON" }

// Hint says what to do next.
func (noPayloads) Hint() string { return adviceShape }

// fail is an error at a byte of text.
func fail(text []byte, at int, detail, advice string) *Error {
	at = min(max(at, 0), len(text))
	line := bytes.LastIndexByte(text[:at], '\n') + 1
	return &Error{
		Detail: detail, Advice: advice,
		Line:   1 + bytes.Count(text[:at], []byte{'\n'}),
		Column: 1 + utf8.RuneCount(text[line:at]),
	}
}

// checkJSON refuses what is not one JSON document.
func checkJSON(text []byte) error {
	if len(text) > MaxSize {
		return fail(text, 0, fmt.Sprintf("the document is larger than %d MiB", MaxSize>>20), "take fewer payloads at a time")
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return fail(text, 0, "the document is empty", "look at the command that should have written it")
	}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff", "\xef\xbb\xbf"} {
		if bytes.HasPrefix(text, []byte(mark)) {
			return fail(text, 0, "the document begins with a byte order mark", "save it as UTF-8 without one; PowerShell's > writes UTF-16")
		}
	}
	if json.Valid(text) {
		return nil
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(text, new(json.RawMessage)); !errors.As(err, &syntax) {
		return fail(text, 0, "the document is not valid JSON", adviceShape)
	}
	if syntax.Error() == "unexpected end of JSON input" {
		return fail(text, len(text), "the document ends too early", "fetch it again: it was cut short")
	}
	// The offset is that of the byte after the wrong one.
	return fail(text, int(syntax.Offset)-1, "the document is not valid JSON", adviceShape)
}

// advices says what to do about each reason of payloadjson.
var advices = map[payloadjson.Reason]string{
	payloadjson.InvalidText:     "write it in UTF-8",
	payloadjson.WrongType:       "payloads is a list, metadata an object, data and metadata values are base64 strings",
	payloadjson.UnknownField:    "a payload has metadata, data and externalPayloads",
	payloadjson.DuplicateField:  "give each field once",
	payloadjson.Base64:          "encode bytes in standard or URL-safe base64, without line breaks",
	payloadjson.NullElement:     "leave it out, or write {} for an empty payload",
	payloadjson.TooManyPayloads: "take fewer payloads at a time",
	payloadjson.TooManyEntries:  "take payloads with less metadata",
}

// payloadError places an error of payloadjson in text.
func payloadError(text []byte, err error, shift int) *Error {
	var e *payloadjson.Error
	if !errors.As(err, &e) {
		return fail(text, shift, "the document cannot be read", adviceShape)
	}
	advice, ok := advices[e.Reason]
	if !ok {
		advice = adviceShape
	}
	return fail(text, e.Offset+shift, "the document "+e.Reason.String(), advice)
}
