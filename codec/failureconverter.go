package codec

import (
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/kms"
)

// maxStackTrace is how many bytes of a stack trace are kept, beginning and end.
// The server cuts a failure of more than 4 KiB and then drops its encoded
// attributes, message and all; trimmed to this, a sealed failure stays below.
const maxStackTrace = 1536

// NewFailureConverter returns a failure converter that seals the message and
// the stack trace of every error, and its details, with dc, which must be a
// converter of this package. Stack traces are trimmed in the middle to 1,536
// bytes so that a sealed failure survives the server's limit of 4 KiB for the
// last failure of a pending activity.
//
// If sealing fails, the failure is sent with a fixed message instead of its own,
// which tells the kms.Class of the error that sealing met: type, retryability and
// cause chain stay, nothing else that is readable leaves.
func NewFailureConverter(dc converter.DataConverter) converter.FailureConverter {
	return &failureConverter{dc: dc, inner: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})}
}

type failureConverter struct {
	dc    converter.DataConverter
	inner converter.FailureConverter
}

var _ converter.FailureConverterWithSerializationContext = (*failureConverter)(nil)

// encodedMessage is what the SDK leaves in place of a message that it encoded.
const encodedMessage = "Encoded failure"

// unsealable stands in for a message that could not be sealed because of err. It
// is plaintext, so of err it tells the class alone: without that, someone whose
// token expired would see failed workflows and nothing that says why.
func unsealable(err error) string {
	return "waxseal: the failure's message could not be sealed (" + kms.ClassOf(err).String() +
		") and was withheld; waxseal encode, with this worker's policy file and credentials, tells why"
}

// ErrorToFailure implements converter.FailureConverter.
func (f *failureConverter) ErrorToFailure(err error) *failurepb.Failure {
	failure := f.inner.ErrorToFailure(err)
	if failure == nil {
		return nil
	}
	// An error that came from the server holds its failure, which is shared.
	failure = proto.CloneOf(failure)
	for link := failure; link != nil; link = link.GetCause() {
		f.seal(link)
	}
	return failure
}

// seal replaces message and stack trace by their sealed form, once.
func (f *failureConverter) seal(link *failurepb.Failure) {
	if link.GetEncodedAttributes() != nil {
		// The SDK's own conversion writes the opened message beside the sealed one.
		link.Message, link.StackTrace = encodedMessage, ""
		return
	}
	link.StackTrace = trimStackTrace(link.GetStackTrace())
	if err := converter.EncodeCommonFailureAttributes(f.dc, link); err != nil {
		link.Message, link.StackTrace, link.EncodedAttributes = unsealable(err), "", (*commonpb.Payload)(nil)
	}
}

func trimStackTrace(s string) string {
	if len(s) <= maxStackTrace {
		return s
	}
	const cut = "\n[…]\n"
	half := (maxStackTrace - len(cut)) / 2
	return strings.ToValidUTF8(s[:half]+cut+s[len(s)-half:], "")
}

// FailureToError implements converter.FailureConverter. The SDK's own
// conversion opens messages in place and keeps the failure with the error, to
// send it again: it gets a copy, so that a failure converted twice is not kept
// with its message in plaintext.
func (f *failureConverter) FailureToError(failure *failurepb.Failure) error {
	if failure == nil {
		return nil
	}
	return f.inner.FailureToError(proto.CloneOf(failure))
}

// WithSerializationContext implements converter.FailureConverterWithSerializationContext.
func (f *failureConverter) WithSerializationContext(sc converter.SerializationContext) converter.FailureConverter {
	return NewFailureConverter(converter.WithDataConverterSerializationContext(f.dc, sc))
}
