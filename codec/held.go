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

// failTask returns err in the form with which the SDK fails a workflow task, where the SDK
// honours it: see converter.WorkflowTaskFailureError. The SDK honours it only from its own
// CodecDataConverter, so failTask uses one to make it. The text stays that of err.
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

// HeldError fails a workflow task, so that the server retries it: while the KMS is unavailable
// or throttles; unless the rule says onDenied: fail, also while it denies a key, has it disabled
// or does not find it; and while workflow code reads more values than there are, if that is
// refused. Its field Err is the failure, and kms.ClassOf returns its Class.
type HeldError = hold.Error

// holds reports whether err holds the workflow of these facts. A refusal by the policy, and not
// by a KMS, does not: waiting does not help.
func (c *Codec) holds(facts policy.Facts, err error) bool {
	switch kms.ClassOf(err) {
	case kms.Unavailable, kms.Throttled, kms.Invalid: // a setting can be corrected; a failed workflow stays failed
		return true
	case kms.Denied, kms.NotFound, kms.Disabled:
		if refusedHere(err) {
			return false
		}
		rule, err := c.policy().SealRule(facts)
		return err != nil || !rule.FailsOnDenied()
	case kms.Corrupt:
		return errors.Is(err, errNoVersion)
	case kms.Internal, kms.Canceled:
	}
	return false
}

// refusedHere reports whether this process refuses, and not a KMS.
func refusedHere(err error) bool {
	_, foreign := errors.AsType[*NamespaceError](err)
	_, task := errors.AsType[*TaskNamespaceError](err)
	_, moved := errors.AsType[*BindError](err)
	_, noRule := errors.AsType[*policy.NoRuleError](err)
	return foreign || task || moved || noRule || errors.Is(err, sealed.ErrPlaintext)
}

// holdTasks schedules the failure of the workflow tasks that met a conversion error, unless the
// SDK answers them first. It reports whether the SDK must fail its task because of err.
//
// It schedules them because the SDK reports only the failure of a first attempt. It drops some
// errors outside workflow code and completes the task, which it must not if the error holds the
// workflow. docs/what-holds-a-workflow.md lists the places, sdk_assumptions_test.go tests them.
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
	// The details of a cancellation, and the outcome of an update from a Nexus handler, come
	// without the workflow's ID. A slow task of another workflow may lose an attempt to that.
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

// keksOf returns the KEKs that a task held for err waits for: when one of them answers, the
// task is worth another attempt. It returns none if err is about no open KEK, or if a KEK of
// the rule that could do as well is not open.
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
		return []hold.KEK{named} // sealed under a KEK that the rule no longer has, or that another rule has
	}
	return all
}
