package codec

import (
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/kms"
)

// NewFailureConverter returns a failure converter that seals the message and
// the stack trace of every error, and its details, with dc, which must be a
// converter of this package.
//
// The server keeps a failure of an activity that is to be tried again only up to
// 4 KiB; of a larger one it drops what is sealed. So what an activity fails with
// is cut to that, unless it is not retryable: stack traces first, from the
// innermost outwards, then messages in the middle; and a link whose message the one
// around it repeats, as with fmt.Errorf, says nothing where each byte of its
// envelope counts. Details are never cut; where they, or links that all say something
// else, leave no room, nothing is cut, and a pending activity then shows nothing of
// it. Elsewhere messages are
// whole, and stack traces have at most 1,536 bytes.
//
// If sealing fails, the failure is sent with a fixed message in place of its own,
// and without details; the message tells the kms.Class of the error that sealing
// met. Type, retryability and cause chain stay, nothing else that is readable leaves.
//
// A failure that does not open becomes an error whose message says why. Where the
// namespace of dc requires payloads to be sealed, messages, stack traces and details that
// are not are withheld, the texts excepted that a server has for timeouts and limits. If an
// activity that may be tried any number of times fails because a KMS is
// unavailable or throttles, and not with a delay of its own, it is to be tried
// again after 4 s, whatever its retry policy says by then.
func NewFailureConverter(dc converter.DataConverter) converter.FailureConverter {
	return &failureConverter{dc: dc, inner: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})}
}

type failureConverter struct {
	dc    converter.DataConverter
	inner converter.FailureConverter // opens
	// activity says that what it converts is what an activity failed with, which
	// the server may keep until the activity is tried again.
	activity bool
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
	details := &detailsConverter{DataConverter: f.dc}
	failure := temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: details}).ErrorToFailure(err)
	if failure == nil {
		return nil
	}
	// An error that came from the server holds its failure, which is shared.
	failure = proto.CloneOf(failure)
	limit := 0
	if f.activity {
		retrySoon(failure, err)
		limit = limitOf(failure)
	}
	chain := chainOf(failure)
	if details.withheld != nil {
		chain.withhold(details.withheld)
	} else {
		chain.sealOrWithhold(f.dc, limit)
	}
	return failure
}

// detailsConverter seals the details of errors. The SDK panics where that fails,
// with the error: in whoever completes an activity, or in a worker that then says
// nothing of a failure. So it returns none in place of those that cannot be sealed.
// A value that cannot be converted is a mistake of the program and still panics.
type detailsConverter struct {
	converter.DataConverter
	withheld error // why details could not be sealed
}

// ToPayloads implements converter.DataConverter.
func (d *detailsConverter) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	if d.withheld != nil {
		return nil, nil // the rest would wait for the same KMS, to no end
	}
	out, err := d.DataConverter.ToPayloads(values...)
	_, call := errors.AsType[*callError](err)
	_, class := errors.AsType[*kms.Error](err)
	if call || class {
		d.withheld = err
		return nil, nil
	}
	return out, err
}

// FailureToError implements converter.FailureConverter. The SDK's own
// conversion opens messages in place and keeps the failure with the error, to
// send it again: it gets a copy, so that a failure converted twice is not kept
// with its message in plaintext.
func (f *failureConverter) FailureToError(failure *failurepb.Failure) error {
	if failure == nil {
		return nil
	}
	failure = proto.CloneOf(failure)
	if requiresSealed(f.dc) {
		if err := withholdPlaintext(failure, sealed.WellFormed); err != nil {
			return err // of a failure that no SDK makes
		}
	}
	f.explain(failure)
	return f.inner.FailureToError(failure)
}

// explain says in place of the messages that do not open why they do not. Sealed
// ones stay with the failure, which is what is sent again.
func (f *failureConverter) explain(failure *failurepb.Failure) {
	var sealed []*failurepb.Failure
	var all commonpb.Payloads
	var values []any
	for link := failure; link != nil; link = link.GetCause() {
		if link.GetEncodedAttributes() != nil {
			sealed, all.Payloads, values = append(sealed, link), append(all.Payloads, link.GetEncodedAttributes()), append(values, new(said))
		}
	}
	if len(sealed) == 0 || f.dc.FromPayloads(&all, values...) == nil { // in one go, as a rule
		return
	}
	for _, link := range sealed {
		if err := f.dc.FromPayload(link.GetEncodedAttributes(), new(said)); err != nil {
			link.Message = encodedMessage + " (" + err.Error() + ")"
		}
	}
}

// WithSerializationContext implements converter.FailureConverterWithSerializationContext.
func (f *failureConverter) WithSerializationContext(sc converter.SerializationContext) converter.FailureConverter {
	dc := converter.WithDataConverterSerializationContext(f.dc, inFailure{sc})
	in, ok := sc.(converter.ActivitySerializationContext)
	return &failureConverter{
		dc: dc, inner: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc}),
		activity: ok && !in.IsLocal,
	}
}
