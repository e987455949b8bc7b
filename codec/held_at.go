package codec

import (
	"cmp"
	"errors"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/policy"
)

// holdTasks schedules the failure of the workflow tasks that a conversion error belongs to,
// and reports whether the SDK must fail its task because of err. The schedule is needed
// beside that: the SDK reports the failure of a first attempt only.
func (c *Codec) holdTasks(s site, err error) bool {
	if s.workflow == nil || s.workflow.Value(inQuery{}) != nil || !c.holds(s.owner(), err) && !errors.Is(err, errMissing) {
		return c.suspect(s, err)
	}
	held := &HeldError{Err: err}
	running, run := s.running(), runOf(s.workflow)
	for _, t := range c.tasks.of(s.via, running.Namespace, running.WorkflowID) {
		if t.run == run {
			c.tasks.hold(t, held, t.delay(), true)
		}
	}
	return true
}

// suspect schedules the failure of a workflow's tasks after a conversion error, unless the
// SDK answers them first, and reports whether the error holds one of them. The SDK converts
// some parts of a task outside workflow code, with a converter that has the workflow's ID
// and no context. It drops some errors there and completes the task as if nothing had
// happened, which must not be if the error holds the workflow. docs/what-holds-a-workflow.md lists the places.
func (c *Codec) suspect(s site, err error) (held bool) {
	if s.ctx != nil || s.replay || (s.workflow != nil && s.workflow.Value(inQuery{}) != nil) {
		return false // activities, clients and queries get their error, and replayers have no task
	}
	facts := s.running()
	if of, ok := s.serialization.(converter.WorkflowSerializationContext); ok && s.workflow == nil {
		facts = policy.Facts{Namespace: cmp.Or(of.Namespace, s.namespace), WorkflowID: of.WorkflowID}
	}
	// Details of a cancellation come without a workflow ID. A slow task loses an attempt to that.
	known := s.workflow != nil || s.serialization != nil
	tasks := c.tasks.of(s.via, facts.Namespace, facts.WorkflowID)
	if !known {
		tasks = c.tasks.all(s.via, s.namespace)
	}
	for _, t := range tasks {
		why, after, final := err, t.patience(), false
		if c.holds(t.facts, err) {
			held, why = true, &HeldError{Err: err}
			if known {
				after, final = t.delay(), true
			}
		}
		c.tasks.hold(t, why, after, final)
	}
	return held
}
