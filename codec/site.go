package codec

import (
	"cmp"
	"context"
	"fmt"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// site is where in the SDK a converter stands: what it was told through the
// SDK's optional interfaces, kept apart because they arrive in any order.
type site struct {
	// namespace is the client's, known from its options.
	namespace string
	// via is the client's connection; nil if the converter is not of a client with the plugin.
	via *hold.Connection
	// serialization is what WithSerializationContext told last; nil if nothing.
	serialization converter.SerializationContext
	// workflow is set while workflow code runs.
	workflow workflow.Context
	// ctx is the caller's, in activities and client calls.
	ctx context.Context
	// replay is set in a workflow replayer, which sends nothing and which the SDK
	// runs under a made-up namespace.
	replay bool
	// unbound says that a payload may have been sealed in another place; see place.
	unbound bool
}

// at converts at a site, with a context for KMS calls. What is part of a workflow task
// has none, since a workflow.Context must not be waited on: there it is bounded by what
// the task may still wait. In activities it waits until the KMS answers.
func (c *Codec) at(s site, convert func(ctx context.Context) error) error {
	run, inTask := c.taskRun(s)
	switch {
	case inTask:
		ctx, done := c.waits.Bound(s.context(), run)
		defer done()
		return convert(ctx)
	case c.patient(s):
		return c.patiently(s, convert)
	default:
		return convert(s.context())
	}
}

// taskRun reports whether a conversion is part of a workflow task, and of which run,
// empty if that is not known. Outside workflow code (see holdTasks) it is the run whose
// task is open; where there is none, or tasks of several runs, there is no telling.
func (c *Codec) taskRun(s site) (run hold.RunKey, inTask bool) {
	if s.workflow != nil {
		running := s.running()
		run = hold.RunKey{Via: s.via.Root(), ID: runOf(s.workflow)}
		for _, t := range c.tasks.Of(s.via, running.Namespace, running.WorkflowID) {
			if t.Run == run.ID {
				run = t.RunKey()
			}
		}
		return run, true
	}
	if _, ok := s.serialization.(converter.WorkflowSerializationContext); !ok || s.ctx != nil {
		return hold.RunKey{}, false
	}
	facts := s.facts()
	for i, t := range c.tasks.Of(s.via, facts.Namespace, facts.WorkflowID) {
		if i > 0 && t.RunKey() != run {
			return hold.RunKey{}, false
		}
		run, inTask = t.RunKey(), true
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

// facts puts together what is known of a payload and of the workflow or activity that
// it is addressed to. A serialization context describes the payload and wins; the
// workflow or activity that runs describes only payloads of its own, not those that it
// sends to a child or to another workflow. The namespace may be the server's word: see
// sealing and opening.
func (s site) facts() policy.Facts {
	f := policy.Facts{Namespace: s.namespace}
	running := s.running()
	switch sc := s.serialization.(type) {
	case converter.WorkflowSerializationContext:
		if sc.WorkflowID == running.WorkflowID {
			f.WorkflowType, f.TaskQueue = running.WorkflowType, running.TaskQueue
		}
		f.WorkflowID = sc.WorkflowID
		f.Namespace = cmp.Or(sc.Namespace, f.Namespace)
	case converter.ActivitySerializationContext:
		f = factsOf(sc)
		f.Namespace = cmp.Or(sc.Namespace, s.namespace)
	case nil:
		if running.Namespace != "" {
			f = running
			f.Namespace = s.namespace
		}
	}
	if s.replay {
		f.Namespace = ""
	}
	return f
}

func factsOf(sc converter.ActivitySerializationContext) policy.Facts {
	return policy.Facts{
		Namespace: sc.Namespace, WorkflowID: sc.WorkflowID, WorkflowType: sc.WorkflowType,
		ActivityType: sc.ActivityType, TaskQueue: sc.TaskQueue,
	}
}

// sealing returns the facts that choose the rule to seal under. They are the
// addressee's, and the program names its namespace: it may start a child, signal, or
// complete an activity in another one. The exception is the activity that runs: the
// SDK takes its namespace from the task, where the server states it.
func (s site) sealing() (policy.Facts, error) {
	f := s.facts()
	sc, ok := s.serialization.(converter.ActivitySerializationContext)
	if !ok || f.Namespace == s.namespace || s.replay {
		return f, nil
	}
	running, of := s.running(), factsOf(sc)
	running.WorkflowType, of.WorkflowType = "", "" // of a task without a workflow the SDK drops it
	if running == of {
		return policy.Facts{}, taskOfAnother("seal payload", s.namespace, f.Namespace)
	}
	return f, nil
}

// opening returns the facts of the reader. Its namespace is the client's, whatever the
// payload's serialization context says: that one names the addressee, which is a child's
// namespace where a parent opens the child's result, and in an activity the server's word.
func (s site) opening() (policy.Facts, error) {
	f := s.facts()
	_, ofActivity := s.serialization.(converter.ActivitySerializationContext)
	switch {
	case s.replay:
		return f, nil
	case s.namespace == "" && (s.serialization != nil || s.running().Namespace != ""):
		return policy.Facts{}, taskOfAnother("open payload", "", cmp.Or(f.Namespace, s.running().Namespace))
	case f.Namespace == s.namespace:
		return f, nil
	case ofActivity:
		return policy.Facts{}, taskOfAnother("open payload", s.namespace, f.Namespace)
	}
	return policy.Facts{Namespace: s.namespace}, nil
}

// owner returns the facts of the workflow that waits if something is to be held.
func (s site) owner() policy.Facts {
	if s.replay {
		return policy.Facts{}
	}
	running := s.running()
	if running.Namespace == "" {
		return s.facts()
	}
	if s.workflow == nil {
		running.Namespace = s.namespace // the task's is the server's word
	}
	return running
}

// running returns the facts of the workflow or activity whose code this is. An
// activity's namespace is the server's word; the SDK takes a workflow's from the client.
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

// TaskNamespaceError refuses an activity task of a namespace that is not the client's. A
// server gives a worker tasks of its client's namespace only, and with another one it
// would choose whose payloads open and which rule seals.
type TaskNamespaceError struct {
	// Known is the client's namespace, Stated the one that the task names. Known is
	// empty if the data converter was made without a namespace.
	Known, Stated string
}

// Error implements error.
func (e *TaskNamespaceError) Error() string {
	if e.Known == "" {
		return fmt.Sprintf("codec: in a task of namespace %q, and the client's namespace is not known", e.Stated)
	}
	return fmt.Sprintf("codec: in an activity task of namespace %q, and the client's is %q", e.Stated, e.Known)
}

// Hint says what to check.
func (e *TaskNamespaceError) Hint() string {
	if e.Known == "" {
		return "use codec.NewPlugin, or pass the client's namespace to codec.NewDataConverter"
	}
	return fmt.Sprintf("a worker's namespace is its client's: pass %q to codec.NewDataConverter if that is the client's; otherwise the server, or a proxy before it, alters tasks", e.Stated)
}

// taskOfAnother returns the error of a conversion in a task that names another
// namespace than the client's.
func taskOfAnother(op, known, stated string) error {
	e := &TaskNamespaceError{Known: known, Stated: stated}
	return &kms.Error{Class: kms.Denied, Op: op, Detail: e.Error(), Advice: e.Hint(), Err: e}
}
