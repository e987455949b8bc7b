package codec

import (
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// failTask returns err in the form with which the SDK fails a workflow task, where it honours
// that: see converter.WorkflowTaskFailureError. The SDK honours it only from a
// CodecDataConverter of its own, so one is needed to make it. The text stays that of err.
func failTask(err error) error {
	_, failed := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), failing{err}).ToPayload(nil)
	return failed
}

// failing is a converter.PayloadCodec that fails each workflow task.
type failing struct{ err error }

// Encode implements converter.PayloadCodec.
func (f failing) Encode([]*commonpb.Payload) ([]*commonpb.Payload, error) {
	return nil, converter.NewWorkflowTaskFailureError(f.err)
}

// Decode implements converter.PayloadCodec.
func (f failing) Decode(p []*commonpb.Payload) ([]*commonpb.Payload, error) { return f.Encode(p) }

// HeldError is what a workflow task is failed with, so that the server tries it
// again: while the KMS is unavailable or throttling, and where the rule says
// holdWorkflows also while it denies a key, has it disabled or does not find it; and
// while workflow code reads more values than there are, if that is refused. Its field Err
// is the failure, and kms.ClassOf returns its Class.
type HeldError = hold.Error

// errPlaintext is in the chain of the refusal to pass plaintext through.
var errPlaintext = errors.New("codec: not sealed")

// holds reports whether err is to hold up the workflow of these facts. What the
// policy refuses, and not a KMS, is no matter of waiting.
func (c *Codec) holds(facts policy.Facts, err error) bool {
	switch kms.ClassOf(err) {
	case kms.Unavailable, kms.Throttled, kms.Invalid: // a setting is corrected; a workflow that failed stays so
		return true
	case kms.Denied, kms.NotFound, kms.Disabled:
		if refusedHere(err) {
			return false
		}
		rule, err := c.policy().SealRule(facts)
		return err == nil && rule.HoldWorkflows
	case kms.Corrupt:
		return errors.Is(err, errNoVersion)
	case kms.Internal, kms.Canceled:
	}
	return false
}

// refusedHere reports whether it is this process that refuses, and not a KMS: waiting
// does not help.
func refusedHere(err error) bool {
	_, foreign := errors.AsType[*NamespaceError](err)
	_, task := errors.AsType[*TaskNamespaceError](err)
	_, moved := errors.AsType[*BindError](err)
	_, noRule := errors.AsType[*policy.NoRuleError](err)
	return foreign || task || moved || noRule || errors.Is(err, errPlaintext)
}
