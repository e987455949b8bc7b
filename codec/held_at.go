package codec

import (
	"cmp"
	"errors"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/policy"
)

// heldAt returns what a conversion in workflow code is to panic with that failed,
// and has its task fail; nil if err is to be returned.
func (c *Codec) heldAt(s site, err error) *HeldError {
	if err == nil {
		return nil
	}
	if s.workflow == nil || s.workflow.Value(inQuery{}) != nil || !c.holds(s.owner(), err) && !errors.Is(err, errMissing) {
		c.suspect(s, err)
		return nil
	}
	held := &HeldError{Err: err}
	running, run := s.running(), runOf(s.workflow)
	for _, t := range c.tasks.of(s.via, running.Namespace, running.WorkflowID) {
		if t.run == run {
			c.tasks.hold(t, held, t.delay(), true)
		}
	}
	return held
}

// suspect has the tasks of a workflow fail that met an error, unless the SDK answers
// them. It converts some of a task beside workflow code, with a converter that was
// told the workflow's ID and has neither its context nor another. With such an error
// it panics where it writes markers, with each replay anew, and drops others; and
// with errors in workflow code it panics at times. A task that is tried again it then
// leaves to time out, or it completes it as if nothing were, which must not be where
// the reason is to hold the workflow. docs/what-holds-a-workflow.md has the places.
func (c *Codec) suspect(s site, err error) {
	if s.ctx != nil || s.replay || (s.workflow != nil && s.workflow.Value(inQuery{}) != nil) {
		return // activities, clients and queries have their error, and replayers no task
	}
	facts := s.running()
	if of, ok := s.serialization.(converter.WorkflowSerializationContext); ok && s.workflow == nil {
		facts = policy.Facts{Namespace: cmp.Or(of.Namespace, s.namespace), WorkflowID: of.WorkflowID}
	}
	why := func(t *task) (held bool, why error) {
		if c.holds(t.facts, err) {
			return true, &HeldError{Err: err}
		}
		return false, err
	}
	if s.workflow == nil && s.serialization == nil {
		// Details of cancellations: there is no telling whose. It costs a slow task a try.
		for _, t := range c.tasks.all(s.via, s.namespace) {
			_, why := why(t)
			c.tasks.hold(t, why, t.patience(), false)
		}
		return
	}
	for _, t := range c.tasks.of(s.via, facts.Namespace, facts.WorkflowID) {
		held, why := why(t)
		after := t.patience()
		if held {
			after = t.delay()
		}
		c.tasks.hold(t, why, after, held)
	}
}
