package codec

import (
	"cmp"
	"errors"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
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
	return foreign || task || moved || noRule || errors.Is(err, sealed.ErrPlaintext)
}

// holdTasks schedules the failure of the workflow tasks that met a conversion error, unless the
// SDK answers them first, and reports whether the SDK must fail its task because of err. It
// schedules them because the SDK reports the failure of a first attempt only, drops some errors
// outside workflow code, and completes the task as if nothing had happened, which must not be if
// the error holds the workflow. docs/what-holds-a-workflow.md lists the places, sdk_assumptions_test.go tests them.
func (c *Codec) holdTasks(s site, err error) (fail bool) {
	inCode := s.workflow != nil
	if inCode && inQueryHandler(s.workflow) || !inCode && (s.ctx != nil || s.replay) {
		return false // queries, activities and clients get their error, and replayers have no task
	}
	holds := func(facts policy.Facts) bool { return c.holds(facts, err) || inCode && errors.Is(err, hold.ErrMissing) }
	held := inCode && holds(s.owner())
	facts := s.running()
	if of, ok := s.serialization.(converter.WorkflowSerializationContext); ok && !inCode {
		facts = policy.Facts{Namespace: cmp.Or(of.Namespace, s.namespace), WorkflowID: of.WorkflowID}
	}
	tasks := c.tasks.Of(s.via, facts.Namespace, facts.WorkflowID)
	// Details of a cancellation, and the outcome of an update that a Nexus handler sent, come without
	// the workflow's ID. A slow task of another workflow loses an attempt to that.
	_, nexus := s.serialization.(converter.NexusSerializationContext)
	known := inCode || s.serialization != nil && !nexus
	if !known {
		tasks = c.tasks.All(s.via, s.namespace)
	}
	for _, t := range tasks {
		if inCode && t.Run != runOf(s.workflow) {
			continue
		}
		why, after, final := err, t.Patience(), false
		if held || holds(t.Facts) {
			fail, why = true, &HeldError{Err: err}
			if known {
				after, final = t.Delay(), true
			}
		}
		c.tasks.Hold(t, why, after, final)
	}
	return fail || held
}

// keksOf returns the KEKs that a task waits for which is held for err: one of them
// answers, and it is worth trying again. None if err is about none that is open, or
// if one of the rule of these facts, which might do as well, is not.
func (c *Codec) keksOf(facts policy.Facts, err error) []hold.KEK {
	var about *kms.Error
	now := c.now.Load()
	rule, noRule := now.policy.SealRule(facts)
	if noRule != nil || !errors.As(err, &about) {
		return nil
	}
	named, ok := now.keys.WithID(about.KeyID)
	if !ok {
		return nil
	}
	if rule.Recipients != policy.RecipientsPrimary && slices.Contains([]string{"wrap", "seal", "seal payload"}, about.Op) {
		return []hold.KEK{named} // the others cannot stand in for it
	}
	var all []hold.KEK
	for _, name := range rule.Keys {
		key, ok := now.keys.IfOpen(name, facts.Namespace)
		if !ok {
			return nil
		}
		all = append(all, key)
	}
	if !slices.Contains(all, hold.KEK(named)) {
		return []hold.KEK{named} // sealed under a KEK that the rule had once, or another rule has
	}
	return all
}
