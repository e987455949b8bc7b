package payloadjson

import "fmt"

// Reason says what is wrong with a JSON document. Errors hold nothing else of the document: its content may be secret.
type Reason uint8

const (
	// Syntax is text that is not JSON (RFC 8259).
	Syntax Reason = iota
	// Truncated is JSON that ends too early; an empty document too.
	Truncated
	// Trailing is anything but white space after the document.
	Trailing
	// InvalidText is a string that is not UTF-8, or has an escape that is not one character.
	InvalidText
	// WrongType is a value of a type the field cannot have, such as a number for data.
	WrongType
	// UnknownField is a field that Payloads, Payload or ExternalPayloadDetails does not have.
	UnknownField
	// DuplicateField is a field or metadata name given twice, in either spelling.
	DuplicateField
	// Base64 is data or a metadata value that is not base64 (RFC 4648, either alphabet).
	Base64
	// NullElement is null in the place of a payload or of a metadata value.
	NullElement
	// TooManyPayloads is more payloads than Limits.Payloads.
	TooManyPayloads
	// TooManyEntries is more metadata or external payloads in one payload than Limits.Entries.
	TooManyEntries
)

var reasonTexts = [...]string{
	Syntax: "not valid JSON", Truncated: "ends too early", Trailing: "has something after its end",
	InvalidText: "has a string that is not valid text", WrongType: "has a value of the wrong type",
	UnknownField: "has an unknown field", DuplicateField: "has the same field twice", Base64: "has invalid base64",
	NullElement: "has null in place of a payload or of a metadata value", TooManyPayloads: "has too many payloads",
	TooManyEntries: "has too many metadata entries in one payload",
}

// Reasons returns every Reason in ascending order.
func Reasons() []Reason {
	all := make([]Reason, len(reasonTexts))
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// String returns the reason in words that follow "the document".
func (r Reason) String() string {
	if int(r) < len(reasonTexts) {
		return reasonTexts[r]
	}
	return "cannot be read"
}

// Error is why Parse refused a document. Its text holds nothing of the document.
type Error struct {
	Reason Reason
	// Offset is the byte at which the error was found, from 0.
	Offset int
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("payloadjson: parse payloads: the document %s, at byte %d", e.Reason, e.Offset)
}
