package blackout

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/stats"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
)

// Counts is what a worker process has seen so far, Held aside: that is how many
// runs have a workflow task that was failed or timed out and is not done yet.
type Counts struct {
	Held             int   `json:"held"`
	KMSCalls         int64 `json:"kmsCalls"`         // made
	KMSErrors        int64 `json:"kmsErrors"`        // of those made, the ones that failed
	KMSRejected      int64 `json:"kmsRejected"`      // not made, since the KMS was not answering
	TasksFailed      int64 `json:"tasksFailed"`      // workflow tasks
	TasksDone        int64 `json:"tasksDone"`        // workflow tasks
	ActivitiesFailed int64 `json:"activitiesFailed"` // attempts
	ActivitiesDone   int64 `json:"activitiesDone"`
}

// plus adds what an earlier process of the same worker counted.
func (c Counts) plus(before Counts) Counts {
	return Counts{
		c.Held, c.KMSCalls + before.KMSCalls, c.KMSErrors + before.KMSErrors, c.KMSRejected + before.KMSRejected,
		c.TasksFailed + before.TasksFailed, c.TasksDone + before.TasksDone,
		c.ActivitiesFailed + before.ActivitiesFailed, c.ActivitiesDone + before.ActivitiesDone,
	}
}

// Resumed is a run with a workflow task that was held and is done: when the server
// learned that the previous try failed, when a worker received the task again, and when
// it was done. Told is zero if no worker reported that try, so that the server noticed
// only the timeout, even if a worker reported an earlier try.
type Resumed struct {
	Run               string
	Told, Given, Done time.Time
}

// heldFor is how long the task was kept from being done after a moment, not counting
// the time for which it lay in the server's queue.
func (r Resumed) heldFor(after time.Time) time.Duration {
	queued := r.Told
	switch {
	case r.Told.IsZero():
		queued = r.Given // it lay nowhere: the server took it to be under way
	case r.Told.Before(after):
		queued = after
	}
	return r.Done.Sub(after) - max(r.Given.Sub(queued), 0)
}

// observer counts what passes between a worker and its servers: gRPC as it is on
// the wire, below all interceptors, and the codec's calls to its KMS. Safe for
// concurrent use.
type observer struct {
	mu     sync.Mutex
	counts Counts
	runs   map[string]given     // by task token
	held   map[string]struct{}  // by run
	told   map[string]time.Time // by run, until its task is given again
	// resumed are those that the reader has not taken yet.
	resumed []Resumed
}

// given is a task that a worker was given.
type given struct {
	run      string
	told, at time.Time // see Resumed
}

var _ stats.Handler = (*observer)(nil)

func newObserver() *observer {
	return &observer{runs: make(map[string]given), held: make(map[string]struct{}), told: make(map[string]time.Time)}
}

// Counts returns what was counted so far.
func (o *observer) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.counts
	c.Held = len(o.held)
	return c
}

func (o *observer) count(change func(*Counts)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.counts)
}

// kmsCall counts one call to a KMS.
func (o *observer) kmsCall(err error) {
	o.count(func(c *Counts) {
		c.KMSCalls++
		if err != nil {
			c.KMSErrors++
		}
	})
}

// hooks count what a codec does.
func (o *observer) hooks() codec.Hooks {
	return codec.Hooks{
		KMSCall:     func(_, _ string, err error, _ time.Duration) { o.kmsCall(err) },
		KMSRejected: func(string, string, resilience.Reason) { o.count(func(c *Counts) { c.KMSRejected++ }) },
	}
}

// observedKey counts the calls of a key that a plain codec uses.
type observedKey struct {
	kms.Key
	observer *observer
}

// Wrap implements kms.Key.
func (k observedKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	wrapped, err := k.Key.Wrap(ctx, dataKeys, ec)
	k.observer.kmsCall(err)
	return wrapped, err
}

// Unwrap implements kms.Key.
func (k observedKey) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	unwrapped, err := k.Key.Unwrap(ctx, wrapped, ec)
	k.observer.kmsCall(err)
	return unwrapped, err
}

// HandleRPC implements stats.Handler. It reads messages and keeps none.
func (o *observer) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		switch reply := s.Payload.(type) {
		case *workflowservice.PollWorkflowTaskQueueResponse:
			o.task(reply)
		case *workflowservice.RespondWorkflowTaskCompletedResponse:
			o.task(reply.GetWorkflowTask())
		}
	case *stats.OutPayload:
		o.mu.Lock()
		defer o.mu.Unlock()
		switch req := s.Payload.(type) {
		case *workflowservice.RespondWorkflowTaskCompletedRequest:
			o.counts.TasksDone++
			o.done(o.end(req.GetTaskToken()))
		case *workflowservice.RespondWorkflowTaskFailedRequest:
			o.counts.TasksFailed++
			run := o.end(req.GetTaskToken()).run
			o.held[run], o.told[run] = struct{}{}, time.Now()
		case *workflowservice.RespondActivityTaskCompletedRequest:
			o.counts.ActivitiesDone++
		case *workflowservice.RespondActivityTaskFailedRequest:
			o.counts.ActivitiesFailed++
		}
	}
}

// task notes a task that the worker was given.
func (o *observer) task(t *workflowservice.PollWorkflowTaskQueueResponse) {
	if len(t.GetTaskToken()) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	run := t.GetWorkflowExecution().GetRunId()
	o.runs[string(t.GetTaskToken())] = given{run: run, told: o.told[run], at: time.Now()}
	delete(o.told, run) // it says nothing of what becomes of this try
	if t.GetAttempt() > 1 {
		o.held[run] = struct{}{}
	}
}

// done notes that a run went on. It is called with mu held.
func (o *observer) done(task given) {
	if _, ok := o.held[task.run]; ok {
		o.resumed = append(o.resumed, Resumed{Run: task.run, Told: task.told, Given: task.at, Done: time.Now()})
	}
	delete(o.held, task.run)
}

// Resumed returns the runs that went on since it was called last.
func (o *observer) Resumed() []Resumed {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.resumed
	o.resumed = nil
	return all
}

// end forgets a task and returns it. It is called with mu held.
func (o *observer) end(token []byte) given {
	task := o.runs[string(token)]
	delete(o.runs, string(token))
	return task
}

// TagRPC implements stats.Handler.
func (*observer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (*observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*observer) HandleConn(context.Context, stats.ConnStats) {}
