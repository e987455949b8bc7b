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

// NewFailureConverter returns a failure converter that seals the message, the stack trace and
// the details of every error with dc, which must be a converter of this package.
//
// While an activity can be retried, the server keeps at most 4 KiB of its failure. It drops the
// sealed parts of a larger one. So the converter shortens the failure of an activity, unless it
// is not retryable. First it cuts stack traces, starting with the innermost cause. Then it cuts
// the middle out of messages, the longest first. A link that repeats the message of the link
// around it, as with fmt.Errorf, may lose its text, because each envelope costs space. The
// converter never cuts details. If details, or links with different texts, leave no room, it
// cuts nothing, and the pending activity shows nothing of the failure. Elsewhere messages are
// complete, and stack traces have at most 1,536 bytes.
//
// If sealing fails, the converter sends the failure with a fixed message and without details.
// The message states the kms.Class of the sealing error. Type, retryability and cause chain
// stay; no other readable part leaves.
//
// A failure that does not open becomes an error with a message that says why. Where the
// namespace of dc requires payloads to be sealed, the converter withholds plaintext messages,
// stack traces and details, except for the server's own texts for timeouts and limits.
//
// An activity with unlimited attempts that fails because a KMS is unavailable or throttles is
// retried after 4 s, whatever its retry policy says, unless the program's error sets its own
// delay.
func NewFailureConverter(dc converter.DataConverter) converter.FailureConverter {
	return &failureConverter{dc: dc, inner: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})}
}

type failureConverter struct {
	dc    converter.DataConverter
	inner converter.FailureConverter // opens
	// activity says that it converts failures of activities, which the server may keep until
	// the activity is retried.
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

// detailsConverter seals the details of errors. If sealing fails, the SDK panics with the
// error: in the program that completes an activity, or in a worker, which then reports no
// failure. So detailsConverter returns no details instead. A value that cannot be converted is
// a mistake of the program and still panics.
type detailsConverter struct {
	converter.DataConverter
	withheld error // why details could not be sealed
}

// ToPayloads implements converter.DataConverter.
func (d *detailsConverter) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	if d.withheld != nil {
		return nil, nil // the rest would wait in vain for the same KMS
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

// FailureToError implements converter.FailureConverter. The SDK's own conversion opens messages
// in place and keeps the failure with the error, to send it again. It gets a copy, so that a
// failure that is converted twice is not kept with its message in plaintext.
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

// explain replaces the messages that do not open by the reason. The sealed ones stay with the
// failure, which is sent again.
func (f *failureConverter) explain(in *failurepb.Failure) {
	var links []*failurepb.Failure
	var all commonpb.Payloads
	var values []any
	for link := in; link != nil; link = link.GetCause() {
		if link.GetEncodedAttributes() != nil {
			links, all.Payloads, values = append(links, link), append(all.Payloads, link.GetEncodedAttributes()), append(values, new(failure.Text))
		}
	}
	if len(links) == 0 || f.dc.FromPayloads(&all, values...) == nil { // usually all in one call
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
	// unlimited says that the activity that met it has unlimited attempts.
	unlimited bool
}

func (e *callError) Error() string { return "codec: " + e.op + ": " + e.err.Error() }

func (e *callError) Unwrap() error { return e.err }

// noteAttempts notes in an error of the Codec whether the activity that met it has unlimited
// attempts.
func (s site) noteAttempts(err error) error {
	if e, ok := errors.AsType[*callError](err); ok && s.ctx != nil && activity.IsActivity(s.ctx) {
		policy := activity.GetInfo(s.ctx).RetryPolicy
		e.unlimited = policy == nil || policy.MaximumAttempts == 0
	}
	return err
}

// retryAfter is the delay before an activity is retried that failed because of a KMS outage. A
// policy that doubles its interval reaches its maximum, 100 s by default, long before the KMS
// is back. Cache and breaker call a KMS again 5 s after a failed call at the earliest. So an
// activity continues at most 9 s after its KMS recovers.
const retryAfter = 4 * time.Second

// retrySoon sets retryAfter in the failure of an activity. The server uses it instead of the
// interval of the retry policy and its maximum. Where the policy limits the attempts, its own
// intervals stay: at this pace the attempts would run out long before the outage ends.
func retrySoon(failure *failurepb.Failure, err error) {
	info := failure.GetApplicationFailureInfo()
	if info == nil || info.GetNonRetryable() || info.GetNextRetryDelay() != nil {
		return
	}
	if e, ok := errors.AsType[*callError](err); ok && e.unlimited && kms.ClassOf(e).Transient() {
		info.NextRetryDelay = durationpb.New(retryAfter)
	}
}

// requirement is a value that a data converter of this package, which the SDK may have wrapped,
// fills in: whether its namespace refuses plaintext.
type requirement struct{ sealed bool }

// requiresSealed reports whether a data converter refuses plaintext.
func requiresSealed(dc converter.DataConverter) bool {
	var r requirement
	return dc.FromPayloads(&commonpb.Payloads{}, &r) == nil && r.sealed
}
