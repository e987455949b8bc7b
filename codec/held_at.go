package codec

import (
	"cmp"
	"errors"
	"slices"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// holdTasks schedules the failure of the workflow tasks that met a conversion error, unless the
// SDK answers them first, and reports whether the SDK must fail its task because of err. It
// schedules them because the SDK reports the failure of a first attempt only, drops some errors
// outside workflow code, and completes the task as if nothing had happened, which must not be if
// the error holds the workflow. docs/what-holds-a-workflow.md lists the places, sdk_assumptions_test.go tests them.
func (c *Codec) holdTasks(s site, err error) (fail bool) {
	inCode := s.workflow != nil
	if inCode && hold.InQuery(s.workflow) || !inCode && (s.ctx != nil || s.replay) {
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
