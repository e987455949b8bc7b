package codec

import (
	"errors"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waxseal/waxseal/codec/internal/failure"
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

// ErrorToFailure implements converter.FailureConverter.
func (f *failureConverter) ErrorToFailure(err error) *failurepb.Failure {
	details := &detailsConverter{DataConverter: f.dc}
	out := temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: details}).ErrorToFailure(err)
	if out == nil {
		return nil
	}
	// An error that came from the server holds its failure, which is shared.
	out = proto.CloneOf(out)
	limit := 0
	if f.activity {
		retrySoon(out, err)
		limit = failure.LimitOf(out)
	}
	chain := failure.ChainOf(out)
	if details.withheld != nil {
		chain.Withhold(details.withheld)
	} else {
		chain.SealOrWithhold(f.dc, limit)
	}
	return out
}

// detailsConverter seals the details of errors. The SDK panics where that fails,
// with the error: in the program that completes an activity, or in a worker, which then
// reports no failure. So it returns no details in place of those that cannot be sealed.
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
func (f *failureConverter) FailureToError(in *failurepb.Failure) error {
	if in == nil {
		return nil
	}
	in = proto.CloneOf(in)
	if requiresSealed(f.dc) {
		if err := failure.WithholdPlaintext(in, sealed.WellFormed); err != nil {
			return err // of a failure that no SDK makes
		}
	}
	f.explain(in)
	return f.inner.FailureToError(in)
}

// explain says in place of the messages that do not open why they do not. Sealed
// ones stay with the failure, which is what is sent again.
func (f *failureConverter) explain(in *failurepb.Failure) {
	var links []*failurepb.Failure
	var all commonpb.Payloads
	var values []any
	for link := in; link != nil; link = link.GetCause() {
		if link.GetEncodedAttributes() != nil {
			links, all.Payloads, values = append(links, link), append(all.Payloads, link.GetEncodedAttributes()), append(values, new(failure.Text))
		}
	}
	if len(links) == 0 || f.dc.FromPayloads(&all, values...) == nil { // in one go, as a rule
		return
	}
	for _, link := range links {
		if err := f.dc.FromPayload(link.GetEncodedAttributes(), new(failure.Text)); err != nil {
			link.Message = failure.Encoded + " (" + err.Error() + ")"
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

// callError is an error of a Codec's call to a KMS. Its type distinguishes it from errors of
// programs that use package kms themselves.
type callError struct {
	op  string
	err error
	// unlimited says that the activity that met it is tried as often as need be.
	unlimited bool
}

func (e *callError) Error() string { return "codec: " + e.op + ": " + e.err.Error() }

func (e *callError) Unwrap() error { return e.err }

// tell has an error of the Codec know where it was met.
func (s site) tell(err error) error {
	if e, ok := errors.AsType[*callError](err); ok && s.ctx != nil && activity.IsActivity(s.ctx) {
		policy := activity.GetInfo(s.ctx).RetryPolicy
		e.unlimited = policy == nil || policy.MaximumAttempts == 0
	}
	return err
}

// retryAfter is after how long an activity is tried again that failed because a KMS
// was out: a policy that doubles its interval with each try has long come to its
// maximum, 100 s by default, when the KMS is back. What was asked for in vain is asked
// for again after 5 s at the earliest, by cache and breaker; so an activity goes on
// 9 s after its KMS does, at the latest.
const retryAfter = 4 * time.Second

// retrySoon sets retryAfter in what an activity failed with. The server takes it in
// place of the interval of the retry policy, its maximum included. Where the policy
// bounds the attempts, its own intervals stay: at this pace they would be used up
// long before the outage is over.
func retrySoon(failure *failurepb.Failure, err error) {
	info := failure.GetApplicationFailureInfo()
	if info == nil || info.GetNonRetryable() || info.GetNextRetryDelay() != nil {
		return
	}
	if e, ok := errors.AsType[*callError](err); ok && e.unlimited && kms.ClassOf(e).Transient() {
		info.NextRetryDelay = durationpb.New(retryAfter)
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
