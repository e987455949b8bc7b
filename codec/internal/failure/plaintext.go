package failure

import (
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms"
)

// Under requireSealed a failure holds no plaintext, neither on the way in nor on the way out.
// On the way in, the server could speak to workflow code as if it were an activity. On the way
// out, workflow code may return a failure that it received, and sealing its plaintext would
// make an envelope with content that the server chose.
//
// A failure is not refused, since it reports trouble. Its texts and payloads are withheld. The
// server's texts for timeouts and limits stay: they are fixed, so the server chooses among them
// and writes none.

// WithheldPlaintext replaces a text of a failure that is not sealed.
const WithheldPlaintext = "waxseal: this text was not sealed (denied) and is withheld, because the namespace requires it to be (requireSealed)"

// serverTexts are the messages of failures that a Temporal server makes itself (server 1.32:
// common/util.go, components/nexusoperations), and those that the SDK gives to failures that
// wrap another one (error.go).
var serverTexts = []string{
	"Complete result exceeds size limit.",
	"Failure exceeds size limit.",
	"Cancel details exceed size limit.",
	"Heartbeat details exceed size limit.",
	"Workflow history size exceeds limit.",
	"Workflow history count exceeds limit.",
	"Workflow mutable state size exceeds limit.",
	"Transaction size exceeds limit.",
	"Workflow Update failed because the Workflow completed before the Update completed.",
	"nexus operation completed unsuccessfully",
	"operation timed out",
	"operation canceled",
	"endpoint not registered",
	"activity error",
	"child workflow execution error",
	"canceled",
	"terminated",
}

// isFixedText reports whether a message is one of those that may stand in plaintext.
func isFixedText(message string) bool {
	if message == "" || message == Encoded || message == WithheldPlaintext || isUnsealable(message) {
		return true
	}
	if kind, ok := strings.CutPrefix(message, "activity "); ok {
		if kind, ok = strings.CutSuffix(kind, " timeout"); ok {
			_, known := enumspb.TimeoutType_shorthandValue[kind]
			return known
		}
	}
	return slices.Contains(serverTexts, message)
}

// WithholdPlaintext replaces the plaintext texts and payloads of a failure, and of its causes,
// by fixed ones.
func WithholdPlaintext(f *failurepb.Failure, isSealed func(*commonpb.Payload) bool) error {
	for link := f; link != nil; link = link.GetCause() {
		link.StackTrace = ""
		switch text := link.GetEncodedAttributes(); {
		case text == nil && isFixedText(link.GetMessage()):
		case text != nil && isSealed(text):
			link.Message = Encoded
		default:
			link.EncodedAttributes, link.Message = nil, WithheldPlaintext
		}
	}
	return payloadwalk.Each(f, func(_ proto.Message, p *commonpb.Payload) error {
		if p != nil && !isSealed(p) {
			proto.Reset(p)
			proto.Merge(p, WithheldPayload())
		}
		return nil
	})
}

// WithheldPayload replaces a payload that is not sealed. It is plaintext itself: on the way in,
// opening it is refused; on the way out, it is sealed.
func WithheldPayload() *commonpb.Payload {
	return &commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)},
		Data:     []byte(`"` + WithheldPlaintext + `"`),
	}
}

// Encoded is the message that the SDK leaves in place of one that it encoded.
const Encoded = "Encoded failure"

// Unsealable returns the message that replaces one that could not be sealed because of err. It
// is plaintext, so it states only the class of err. Without that, an operator with an expired
// token would see failed workflows and no reason.
func Unsealable(err error) string {
	return "waxseal: the failure's message could not be sealed (" + kms.ClassOf(err).String() +
		") and was withheld; waxseal encode, with this worker's policy file and credentials, tells why"
}

// HasPlaintext reports whether a link of a failure holds text in plaintext.
func HasPlaintext(f *failurepb.Failure) bool {
	switch {
	case f.GetStackTrace() != "":
		return true
	case f.GetEncodedAttributes() != nil:
		return f.GetMessage() != Encoded && f.GetMessage() != ""
	default:
		return f.GetMessage() != "" && f.GetMessage() != WithheldPlaintext && !isUnsealable(f.GetMessage())
	}
}

// isUnsealable reports whether Unsealable made a message.
func isUnsealable(message string) bool {
	_, ok := unsealableClass(message)
	return ok
}

// unsealableClass returns the class in a message that Unsealable made; false if it did not make
// it.
func unsealableClass(message string) (kms.Class, bool) {
	if !strings.HasPrefix(message, "waxseal: ") {
		return 0, false
	}
	for _, class := range kms.Classes() {
		if message == Unsealable(&kms.Error{Class: class}) {
			return class, true
		}
	}
	return 0, false
}

// Withheld returns why the message of a link of a failure was withheld, or nil.
func Withheld(f *failurepb.Failure) error {
	class, ok := unsealableClass(f.GetMessage())
	if !ok || f.GetEncodedAttributes() != nil {
		return nil
	}
	return &kms.Error{Class: class, Op: "seal failure", Advice: "waxseal doctor, with this worker's policy file and credentials, tells why"}
}
