package codec

import (
	"go.temporal.io/sdk/converter"
)

// heldAt returns what a conversion in workflow code is to panic with, and has the
// task fail that is running; nil if err is to be returned.
func (c *Codec) heldAt(s site, err error) *HeldError {
	if err == nil {
		return nil
	}
	if s.workflow == nil {
		c.heldBeside(s, err)
		return nil
	}
	if s.workflow.Value(inQuery{}) != nil || !c.holds(s.owner(), err) {
		return nil
	}
	held := &HeldError{Err: err}
	c.tasks.hold(runOf(s.workflow), held)
	return held
}

// heldBeside has the task fail for which the SDK converts something beside workflow
// code: with a converter that was told the workflow's ID, and has neither its context
// nor another. Of these it panics with the error where it writes markers, with each
// replay anew, and drops other errors; a task that is tried again it then leaves to
// time out, or completes as if nothing were. docs/adr/007 has the places.
func (c *Codec) heldBeside(s site, err error) {
	of, ok := s.serialization.(converter.WorkflowSerializationContext)
	if !ok || s.ctx != nil || s.replay || !c.holds(s.owner(), err) {
		return
	}
	for _, run := range c.tasks.runsOf(s.facts().Namespace, of.WorkflowID) {
		c.tasks.hold(run, &HeldError{Err: err})
	}
}
