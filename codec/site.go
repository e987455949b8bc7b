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

// site is where in the SDK a converter is used: what it received through the SDK's optional
// interfaces, kept apart because the calls come in any order.
type site struct {
	// namespace is the client's, known from its options.
	namespace string
	// via is the client's connection; nil if the converter's client does not have the plugin.
	via *hold.Connection
	// serialization is the last argument of WithSerializationContext; nil if there was no call.
	serialization converter.SerializationContext
	// workflow is set while workflow code runs.
	workflow workflow.Context
	// ctx is the caller's, in activities and client calls.
	ctx context.Context
	// replay is set in a workflow replayer, which sends nothing and which the SDK
	// runs under a made-up namespace.
	replay bool
	// unbound says that a payload may have been sealed for another place; see place.
	unbound bool
}

// at converts at a site, with a context for KMS calls. A conversion in a workflow task has no
// context to wait with, since waiting on a workflow.Context is not allowed: the wait that the
// task has left bounds it. A conversion in an activity waits until the KMS answers.
func (c *Codec) at(s site, convert func(ctx context.Context) error) error {
	run, inTask := c.taskRun(s)
	switch {
	case inTask:
		ctx, done := c.waits.Bound(s.context(), run)
		defer done()
		return c.runs.undetected(s, func() error { return convert(ctx) })
	case c.patient(s):
		return c.patiently(s, convert)
	default:
		return c.runs.undetected(s, func() error { return convert(s.context()) })
	}
}

// taskRun reports whether a conversion is part of a workflow task, and of which run; empty if
// that is not known. Outside workflow code (see holdTasks) it is the run that has an open task.
// If there is none, or if several runs have one, the run is not known.
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

// ofClient reports whether a conversion is part of a client's call. Its caller gets the error.
func (s site) ofClient() bool {
	return s.replay || s.ctx != nil && s.workflow == nil && !activity.IsActivity(s.ctx)
}

// context returns the caller's context. Without one, our own deadline bounds the call.
func (s site) context() context.Context {
	if s.ctx != nil {
		return s.ctx
	}
	return context.Background()
}

// facts returns what is known of a payload and of the workflow or activity that it is addressed
// to. A serialization context describes the payload and takes precedence. The running workflow
// or activity describes only its own payloads, not those that it sends to a child or to another
// workflow. The server may have stated the namespace: see sealing and opening.
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

// sealing returns the facts that choose the rule to seal under. They are the addressee's, and
// the program names its namespace: it may start a child, signal a workflow or complete an
// activity in another one. The exception is the running activity: the SDK takes its namespace
// from the task, where the server states it.
func (s site) sealing() (policy.Facts, error) {
	f := s.facts()
	sc, ok := s.serialization.(converter.ActivitySerializationContext)
	if !ok || f.Namespace == s.namespace || s.replay {
		return f, nil
	}
	running, of := s.running(), factsOf(sc)
	running.WorkflowType, of.WorkflowType = "", "" // the SDK drops it for a task without a workflow
	if running == of {
		return policy.Facts{}, taskOfAnother("seal payload", s.namespace, f.Namespace)
	}
	return f, nil
}

// opening returns the facts of the reader. Its namespace is the client's, whatever the
// payload's serialization context says. That context names the addressee: the child's namespace
// where a parent opens the child's result, and in an activity the namespace that the server
// states.
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

// owner returns the facts of the workflow that is held if a conversion fails.
func (s site) owner() policy.Facts {
	if s.replay {
		return policy.Facts{}
	}
	running := s.running()
	if running.Namespace == "" {
		return s.facts()
	}
	if s.workflow == nil {
		running.Namespace = s.namespace // the server states the one in the task
	}
	return running
}

// running returns the facts of the running workflow or activity. The server states an
// activity's namespace; the SDK takes a workflow's from the client.
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
	// The SDK also passes contexts that lack the workflow's interceptors, and offers no test
	// for that. GetInfo panics on them. Nothing is known then.
	defer func() { _ = recover() }()
	return workflow.GetInfo(ctx)
}

// TaskNamespaceError refuses an activity task of a namespace that is not the client's. A server
// gives a worker only tasks of its client's namespace. With another one it would choose which
// payloads open and which rule seals.
type TaskNamespaceError struct {
	// Known is the client's namespace. Stated is the one that the task names. Known is empty if
	// the data converter was made without a namespace.
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

// taskOfAnother returns the error of a conversion in a task that names another namespace than
// the client's.
func taskOfAnother(op, known, stated string) error {
	e := &TaskNamespaceError{Known: known, Stated: stated}
	return &kms.Error{Class: kms.Denied, Op: op, Detail: e.Error(), Advice: e.Hint(), Err: e}
}
