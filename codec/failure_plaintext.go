package codec

import (
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// Under requireSealed a failure says nothing in plaintext, neither on the way in nor on
// the way out. On the way in, the server could speak to workflow code as if it were an
// activity. On the way out, workflow code may return a failure that it was handed, and
// sealing its plaintext would make an envelope whose content the server chose.
//
// A failure is not refused, since it reports trouble; its texts and payloads are
// withheld. The texts with which a server reports timeouts and limits stay: they are
// fixed, so that the server chooses among them and writes none.

// withheldPlaintext stands in for a text of a failure that is not sealed.
const withheldPlaintext = "waxseal: this text was not sealed (denied) and is withheld, because the namespace requires it to be (requireSealed)"

// serverTexts are the messages of failures that a Temporal server makes itself (server
// 1.32: common/util.go, components/nexusoperations), and those that the SDK gives to
// failures that wrap another one (error.go).
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
	if message == "" || message == encodedMessage || message == withheldPlaintext || isUnsealable(message) {
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

// withholdPlaintext puts fixed ones in place of the texts and payloads of a failure, and
// of its causes, that are not sealed.
func withholdPlaintext(f *failurepb.Failure, isSealed func(*commonpb.Payload) bool) error {
	for link := f; link != nil; link = link.GetCause() {
		link.StackTrace = ""
		switch text := link.GetEncodedAttributes(); {
		case text == nil && isFixedText(link.GetMessage()):
		case text != nil && isSealed(text):
			link.Message = encodedMessage
		default:
			link.EncodedAttributes, link.Message = nil, withheldPlaintext
		}
	}
	return payloadwalk.Each(f, func(_ proto.Message, p *commonpb.Payload) error {
		if p != nil && !isSealed(p) {
			proto.Reset(p)
			proto.Merge(p, withheldPayload())
		}
		return nil
	})
}

// withheldPayload stands in for a payload of a failure that is not sealed. It is
// plaintext itself: on the way in it is refused when it is opened, on the way out it is
// sealed.
func withheldPayload() *commonpb.Payload {
	return &commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)},
		Data:     []byte(`"` + withheldPlaintext + `"`),
	}
}

// requirement asks a data converter of this package, which the SDK may have wrapped,
// whether its namespace refuses plaintext.
type requirement struct{ sealed bool }

// requiresSealed reports whether a data converter refuses plaintext.
func requiresSealed(dc converter.DataConverter) bool {
	var r requirement
	return dc.FromPayloads(&commonpb.Payloads{}, &r) == nil && r.sealed
}

// answerRequirement fills in a requirement.
func (d *dataConverter) answerRequirement(valuePtrs []any) bool {
	if len(valuePtrs) != 1 {
		return false
	}
	r, ok := valuePtrs[0].(*requirement)
	if ok {
		r.sealed = d.requiresSealed()
	}
	return ok
}

// requiresSealed reports whether the converter's namespace refuses plaintext. A replayer has
// a made-up namespace, and the program's own history.
func (d *dataConverter) requiresSealed() bool {
	s := d.codec.site
	return !s.replay && d.codec.codec.policy.RequiresSealed(s.namespace)
}
