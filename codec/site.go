package codec

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/policy"
)

// site is where in the SDK a converter stands: what it was told through the
// SDK's optional interfaces, kept apart because they arrive in any order.
type site struct {
	// namespace is the client's, known from its options.
	namespace string
	// serialization is what WithSerializationContext told last; nil if nothing.
	serialization converter.SerializationContext
	// workflow is set while workflow code runs.
	workflow workflow.Context
	// ctx is the caller's, in activities and client calls.
	ctx context.Context
	// replay is set in a workflow replayer, which sends nothing and which the SDK
	// runs under a made-up namespace.
	replay bool
}

// at converts at a site, with a context for KMS calls. What is part of a workflow task
// has none, since a workflow.Context must not be waited on: there it is bounded by what
// the task may still wait. In activities it waits until the KMS answers.
func (c *Codec) at(s site, convert func(ctx context.Context) error) error {
	run, inTask := c.taskRun(s)
	switch {
	case inTask:
		ctx, done := c.waits.bound(s.context(), run)
		defer done()
		return convert(ctx)
	case c.patient(s):
		return c.patiently(s, convert)
	default:
		return convert(s.context())
	}
}

// taskRun reports whether a conversion is part of a workflow task, and of which run,
// empty if that is not known. Beside workflow code (see suspect) it is the run whose
// task is open; where there is none, or tasks of several runs, there is no telling.
func (c *Codec) taskRun(s site) (run string, inTask bool) {
	if s.workflow != nil {
		return runOf(s.workflow), true
	}
	if _, ok := s.serialization.(converter.WorkflowSerializationContext); !ok || s.ctx != nil {
		return "", false
	}
	facts := s.facts()
	for i, t := range c.tasks.of(facts.Namespace, facts.WorkflowID) {
		if i > 0 && t.run != run {
			return "", false
		}
		run, inTask = t.run, true
	}
	return run, inTask
}

// context returns the caller's context; our own deadline bounds a call without.
func (s site) context() context.Context {
	if s.ctx != nil {
		return s.ctx
	}
	return context.Background()
}

// facts puts together what is known. A serialization context speaks of the
// payload and wins; the workflow or activity that runs speaks only for payloads
// of its own, not for those it sends to a child or to another workflow.
func (s site) facts() policy.Facts {
	f := policy.Facts{Namespace: s.namespace}
	running := s.running()
	switch sc := s.serialization.(type) {
	case converter.WorkflowSerializationContext:
		if sc.WorkflowID == running.WorkflowID {
			f.WorkflowType, f.TaskQueue = running.WorkflowType, running.TaskQueue
		}
		f.WorkflowID = sc.WorkflowID
		if sc.Namespace != "" {
			f.Namespace = sc.Namespace
		}
	case converter.ActivitySerializationContext:
		f.WorkflowID, f.WorkflowType = sc.WorkflowID, sc.WorkflowType
		f.ActivityType, f.TaskQueue = sc.ActivityType, sc.TaskQueue
		if sc.Namespace != "" {
			f.Namespace = sc.Namespace
		}
	case nil:
		if running.Namespace != "" {
			f = running
		}
	}
	if s.replay {
		f.Namespace = ""
	}
	return f
}

// owner returns the facts of the workflow that waits if something is to be held.
func (s site) owner() policy.Facts {
	if s.replay {
		return policy.Facts{}
	}
	if running := s.running(); running.Namespace != "" {
		return running
	}
	return s.facts()
}

// running returns the facts of the workflow or activity whose code this is.
func (s site) running() policy.Facts {
	if s.workflow != nil {
		return runningWorkflow(s.workflow)
	}
	if s.ctx == nil || !activity.IsActivity(s.ctx) {
		return policy.Facts{}
	}
	info := activity.GetInfo(s.ctx)
	f := policy.Facts{
		Namespace: info.Namespace, WorkflowID: info.WorkflowExecution.ID,
		ActivityType: info.ActivityType.Name, TaskQueue: info.TaskQueue,
	}
	if info.WorkflowType != nil {
		f.WorkflowType = info.WorkflowType.Name
	}
	return f
}

func runningWorkflow(ctx workflow.Context) policy.Facts {
	info := infoOf(ctx)
	if info == nil {
		return policy.Facts{}
	}
	return policy.Facts{
		Namespace: info.Namespace, WorkflowID: info.WorkflowExecution.ID,
		WorkflowType: info.WorkflowType.Name, TaskQueue: info.TaskQueueName,
	}
}

// runOf returns the run ID of a workflow, empty if it is not known.
func runOf(ctx workflow.Context) string {
	info := infoOf(ctx)
	if info == nil {
		return ""
	}
	return info.WorkflowExecution.RunID
}

func infoOf(ctx workflow.Context) (info *workflow.Info) {
	// The SDK also passes contexts that lack the workflow's interceptors, and has
	// no way to ask; GetInfo panics on those. Nothing is known then.
	defer func() { _ = recover() }()
	return workflow.GetInfo(ctx)
}
