package codec

import (
	"cmp"
	"errors"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/policy"
)

// holdTasks schedules the failure of the workflow tasks that met a conversion error, unless the
// SDK answers them first, and reports whether the SDK must fail its task because of err. It
// schedules them because the SDK reports the failure of a first attempt only, drops some errors
// outside workflow code, and completes the task as if nothing had happened, which must not be if
// the error holds the workflow. docs/what-holds-a-workflow.md lists the places, sdk_assumptions_test.go tests them.
func (c *Codec) holdTasks(s site, err error) (fail bool) {
	inCode := s.workflow != nil
	if inCode && s.workflow.Value(inQuery{}) != nil || !inCode && (s.ctx != nil || s.replay) {
		return false // queries, activities and clients get their error, and replayers have no task
	}
	holds := func(facts policy.Facts) bool { return c.holds(facts, err) || inCode && errors.Is(err, errMissing) }
	held := inCode && holds(s.owner())
	facts := s.running()
	if of, ok := s.serialization.(converter.WorkflowSerializationContext); ok && !inCode {
		facts = policy.Facts{Namespace: cmp.Or(of.Namespace, s.namespace), WorkflowID: of.WorkflowID}
	}
	tasks := c.tasks.of(s.via, facts.Namespace, facts.WorkflowID)
	// Details of a cancellation, and the outcome of an update that a Nexus handler sent, come without
	// the workflow's ID. A slow task of another workflow loses an attempt to that.
	_, nexus := s.serialization.(converter.NexusSerializationContext)
	known := inCode || s.serialization != nil && !nexus
	if !known {
		tasks = c.tasks.all(s.via, s.namespace)
	}
	for _, t := range tasks {
		if inCode && t.run != runOf(s.workflow) {
			continue
		}
		why, after, final := err, t.patience(), false
		if held || holds(t.facts) {
			fail, why = true, &HeldError{Err: err}
			if known {
				after, final = t.delay(), true
			}
		}
		c.tasks.hold(t, why, after, final)
	}
	return fail || held
}
