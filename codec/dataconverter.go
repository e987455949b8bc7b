package codec

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec/internal/failure"
)

// dataConverter converts with parent and seals the result. Unlike the SDK's CodecDataConverter
// it receives workflow and activity contexts, and returns no plaintext beside an error.
type dataConverter struct {
	parent converter.DataConverter
	codec  payloadCodec
	// missing says whether reading more values than there are payloads is an error; if nil, the
	// policy decides.
	missing *bool
	// marked says that an interceptor marks the contexts of workflow code (workflow.go).
	marked bool
}

var (
	_ converter.DataConverter                         = (*dataConverter)(nil)
	_ converter.DataConverterWithSerializationContext = (*dataConverter)(nil)
	_ workflow.ContextAware                           = (*dataConverter)(nil)
)

// NewDataConverter returns a data converter that converts values with parent (the SDK's default
// if nil) and seals the result. namespace is the client's, and required. The converter opens
// what that namespace may open, whatever the server states. It seals for the namespace that the
// program addresses, which a serialization context names: a child workflow's, for instance. In
// an activity it fails with a *TaskNamespaceError, of Class Denied, if the task names another
// namespace. The SDK's test environment runs in namespace "default-test-namespace".
//
// The converter is wrapped so that KMS calls do not trip the SDK's deadlock detector: do not
// wrap it in another converter that hides this. It does not see headers, nor the payloads that
// the SDK sends when a conversion fails: NewPlugin does.
//
// In workflow code it panics if a KMS is Unavailable or Throttled, after Config.WorkflowWait at
// most; unless the rule says onDenied: fail also if a KMS refuses. The panic value is a
// converter.WorkflowTaskFailureError around a *HeldError: with it the SDK fails the workflow
// task under each WorkflowPanicPolicy, and the server retries the task. A returned error would
// reach the workflow code in some places, and be dropped in others (see
// sdk_assumptions_test.go).
//
// In activities, local ones too, conversions that fail for such a reason wait and retry, for
// Config.ActivityWait at most: an error would fail the attempt, and lose the result of an
// activity that did its work. With this converter alone they wait for half of the heartbeat
// timeout, if there is one: NewPlugin sends heartbeats meanwhile.
//
// Reading more values than there are payloads is an error where the policy says requireSealed
// for the namespace, or as RefuseMissingArguments says. Without NewPlugin, a workflow's only
// argument, if it is missing, is read as a nil result: the plugin distinguishes the two.
func NewDataConverter(c *Codec, namespace string, parent converter.DataConverter, options ...ConverterOption) converter.DataConverter {
	return wrapConverter(c, site{namespace: namespace}, parent, options...)
}

// newReplayConverter returns the data converter of a workflow replayer. It opens envelopes for
// their own namespaces, because the SDK replays under a made-up one. It encodes without
// sealing: a replayer sends nothing, and a program that reads a history may lack the permission
// to wrap keys.
func newReplayConverter(c *Codec, parent converter.DataConverter, options ...ConverterOption) converter.DataConverter {
	return wrapConverter(c, site{replay: true}, parent, options...)
}

func wrapConverter(c *Codec, s site, parent converter.DataConverter, options ...ConverterOption) converter.DataConverter {
	if parent == nil {
		parent = converter.GetDefaultDataConverter()
	}
	d := &dataConverter{parent: parent, codec: payloadCodec{codec: c, site: s}}
	for _, option := range options {
		option(d)
	}
	return workflow.DataConverterWithoutDeadlockDetection(d)
}

// hold returns the error of a conversion in the form that the SDK needs. An error that holds
// a workflow makes the SDK fail the workflow task: in workflow code hold panics with it,
// because some of the SDK's functions return a decoding error to the code, or drop it.
func (d *dataConverter) hold(err error) error {
	s := d.codec.site
	switch {
	case err == nil:
		return nil
	case !d.codec.codec.holdTasks(s, err):
		if !s.ofClient() {
			d.codec.codec.note(err, false)
		}
		return s.noteAttempts(err)
	}
	d.codec.codec.note(err, true)
	if s.workflow != nil {
		panic(failTask(&HeldError{Err: err})) //nolint:forbidigo // the SDK turns it into the failure of the task
	}
	return failTask(err)
}

func (d *dataConverter) encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out, err := d.codec.Encode(payloads)
	return out, d.hold(err)
}

func (d *dataConverter) decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out, err := d.codec.Decode(payloads)
	return out, d.hold(err)
}

// ToPayload implements converter.DataConverter.
func (d *dataConverter) ToPayload(value any) (*commonpb.Payload, error) {
	p, err := d.parent.ToPayload(value)
	if err != nil || p == nil {
		return nil, err
	}
	sealed, err := d.encode(failure.MarkTexts([]*commonpb.Payload{p}, value))
	if err != nil {
		return nil, err
	}
	return sealed[0], nil
}

// ToPayloads implements converter.DataConverter.
func (d *dataConverter) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	if repeated, ok := heartbeat(values); ok {
		return repeated, nil
	}
	p, err := d.parent.ToPayloads(values...)
	if err != nil || p == nil {
		return nil, err
	}
	sealed, err := d.encode(failure.MarkTexts(p.GetPayloads(), values...))
	if err != nil {
		return nil, err
	}
	out := &commonpb.Payloads{Payloads: sealed}
	d.noteHeartbeat(out)
	return out, nil
}

// FromPayload implements converter.DataConverter. The SDK uses it for the values of memos,
// summaries and details, and for the input of a Nexus operation. A child's memo and summary are
// sealed for the parent that starts it, so FromPayload does not compare bound claims.
func (d *dataConverter) FromPayload(payload *commonpb.Payload, valuePtr any) error {
	if payload == nil {
		return d.noInput(valuePtr)
	}
	opened, err := d.anywhere().decode([]*commonpb.Payload{payload})
	if err != nil {
		return d.retryable(err)
	}
	if err := failure.OnlyAsText(opened, valuePtr); err != nil {
		return err
	}
	return d.parent.FromPayload(opened[0], valuePtr)
}

// FromPayloads implements converter.DataConverter.
func (d *dataConverter) FromPayloads(payloads *commonpb.Payloads, valuePtrs ...any) error {
	if ours, err := d.heartbeatDetails(payloads, valuePtrs); ours {
		return err
	}
	if d.answerRequirement(valuePtrs) {
		return nil
	}
	if err := d.complete(payloads, valuePtrs); err != nil {
		return err
	}
	if payloads == nil {
		return d.parent.FromPayloads(nil, valuePtrs...)
	}
	opened, err := d.decode(payloads.GetPayloads())
	if err != nil {
		return err
	}
	if err := failure.OnlyAsText(opened, valuePtrs...); err != nil {
		return err
	}
	if err := d.parent.FromPayloads(&commonpb.Payloads{Payloads: opened}, valuePtrs...); err != nil {
		return err
	}
	return checkSession(valuePtrs)
}

// ToString implements converter.DataConverter. Where FromPayload would return an error, such as
// for an envelope of a namespace that the rule does not accept, ToString returns the text of
// that error. Where the converter has no namespace, no envelope is foreign.
func (d *dataConverter) ToString(payload *commonpb.Payload) string {
	opened, err := d.anywhere().decode([]*commonpb.Payload{payload})
	if err != nil {
		return err.Error()
	}
	return d.parent.ToString(opened[0])
}

// ToStrings implements converter.DataConverter. A payload that cannot be opened is replaced by
// the text of its error.
func (d *dataConverter) ToStrings(payloads *commonpb.Payloads) []string {
	if payloads == nil {
		return nil
	}
	out := make([]string, len(payloads.GetPayloads()))
	if opened, err := d.anywhere().codec.Decode(payloads.GetPayloads()); err == nil { // usually all in one call
		for i, p := range opened {
			out[i] = d.parent.ToString(p)
		}
		return out
	}
	for i, p := range payloads.GetPayloads() {
		out[i] = d.ToString(p)
	}
	return out
}

// anywhere returns the converter for payloads that may have been sealed for another place.
func (d *dataConverter) anywhere() *dataConverter {
	c := *d
	c.codec.site.unbound = true
	return &c
}

// WithSerializationContext implements converter.DataConverterWithSerializationContext.
func (d *dataConverter) WithSerializationContext(sc converter.SerializationContext) converter.DataConverter {
	if failure, ok := sc.(inFailure); ok {
		return d.anywhere().WithSerializationContext(failure.SerializationContext)
	}
	c := *d
	c.codec.site.serialization = sc
	c.parent = converter.WithDataConverterSerializationContext(d.parent, sc)
	return &c
}

// WithWorkflowContext implements workflow.ContextAware.
func (d *dataConverter) WithWorkflowContext(ctx workflow.Context) converter.DataConverter {
	c := *d
	c.codec.site.workflow = ctx
	if parent, ok := d.parent.(workflow.ContextAware); ok {
		c.parent = parent.WithWorkflowContext(ctx)
	}
	return &c
}

// WithContext implements workflow.ContextAware.
func (d *dataConverter) WithContext(ctx context.Context) converter.DataConverter {
	c := *d
	c.codec.site.ctx = ctx
	if ctx != nil && activity.IsActivity(ctx) {
		c.codec.site.workflow = nil // a local activity, with the converter of its workflow
	}
	if parent, ok := d.parent.(workflow.ContextAware); ok {
		c.parent = parent.WithContext(ctx)
	}
	return &c
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

// requiresSealed reports whether the converter's namespace refuses plaintext. A replayer does
// not: it has a made-up namespace, and reads the program's own history.
func (d *dataConverter) requiresSealed() bool {
	s := d.codec.site
	return !s.replay && d.codec.codec.policy().RequiresSealed(s.namespace)
}

// retryable returns the error for the input of a Nexus operation that cannot be opened for now.
// The SDK opens it without a context to wait with, and reports any other error as a bad
// request: the operation would fail permanently, and usually the workflow that called it. With
// this error the server retries.
func (d *dataConverter) retryable(err error) error {
	s := d.codec.site
	if _, nexus := s.serialization.(converter.NexusSerializationContext); !nexus || s.workflow != nil || s.ctx != nil || !d.codec.codec.holds(s.owner(), err) {
		return err
	}
	return temporal.NewApplicationErrorWithOptions("waxseal: the operation's input cannot be opened for now", "HeldError", temporal.ApplicationErrorOptions{Cause: err})
}

// heartbeatDetails opens the details of a heartbeat for our own types, which hold no values.
func (d *dataConverter) heartbeatDetails(payloads *commonpb.Payloads, valuePtrs []any) (ours bool, err error) {
	if len(valuePtrs) != 1 {
		return false, nil
	}
	switch v := valuePtrs[0].(type) {
	case *sealedDetails:
		v.payloads = payloads
		return true, nil
	case *openable:
		c := d.codec
		c.site.ctx = v.ctx
		_, err := c.Decode(payloads.GetPayloads())
		return true, err
	}
	return false, nil
}

// noteHeartbeat notes the sealed details in the heartbeat that is being sealed, if there is
// one.
func (d *dataConverter) noteHeartbeat(sealed *commonpb.Payloads) {
	if d.codec.site.ctx == nil {
		return
	}
	if out, ok := d.codec.site.ctx.Value(heartbeatOf{}).(*activityOut); ok {
		out.note(sealed)
	}
}
