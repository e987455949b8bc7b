package hold

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/policy"
)

const (
	// maxTasks bounds the tasks, and the pages of their histories, that are remembered.
	maxTasks = 10_000
	// maxReleases bounds the held tasks whose failure is still to be told; beyond,
	// they are left to time out.
	maxReleases = 10_000
	// releaseTimeout bounds one try to tell it.
	releaseTimeout = 5 * time.Second
	// stopTimeout bounds how long a worker that stops goes on telling, and releasesAtOnce
	// how many it tells of at one time.
	stopTimeout    = 10 * time.Second
	releasesAtOnce = 32
	// firstRetell and maxRetell are between such tries, doubling. Many tasks are told
	// of at one time, and servers limit rates.
	firstRetell, maxRetell = 250 * time.Millisecond, 2 * time.Second
	// maxHold is how long a task that failed before is kept from the next try. The
	// server gives it out again at once, however often it was.
	//
	// A workflow is to go on within ten seconds of its KMS being back. Of these a try
	// that began while it still hung takes three (DefaultWorkflowWait), this is five,
	// and the rest is for the try that succeeds. What failed is remembered for five
	// seconds too (the cache, and a breaker), so that trying more often would not ask
	// the KMS more often. And a task that has ten seconds, as is usual, is told of
	// before it times out: after eight.
	//
	// While breakers leave its KEKs alone a task is kept for longer, almost until it
	// times out: a try would only be counted, and the more tries, the longer the server
	// waits for a task of which a killed worker told nothing.
	maxHold = 5 * time.Second
	// reportMargin is how long before its end a task is told of that has less.
	reportMargin = time.Second
	// usualTaskTimeout is what a task has whose history does not say.
	usualTaskTimeout = 10 * time.Second
)

// Task is a workflow task, or a query task, that the SDK works on.
type Task struct {
	Via     *Connection // that the task came through
	Facts   policy.Facts
	Run     string
	Token   []byte
	Attempt int32
	Query   bool          // it asks a query and nothing else
	Worker  string        // the instance that has it; empty if it does not say
	Until   time.Time     // when it times out, about
	Base    time.Duration // what a first attempt has, about
	// Report makes the failure known to the server: it fails a task, and answers a query.
	Report func(why error) error

	// Of Tasks.mu:
	why      error     // what it is held for, or what it met first; nil if nothing
	keks     []KEK     // what it waits for
	final    bool      // it must not be completed
	answered bool      // by the SDK or by us
	reported bool      // by us
	due      time.Time // when the failure is reported, if it is to be
}

// Tasks knows the workflow tasks that the SDK works on, in all clients of a Codec,
// and has those fail that it drops without a word: it reports the first failure
// of a task and lets later ones time out, after up to ten minutes each. It is safe
// for concurrent use, and so is nil, which knows nothing.
type Tasks struct {
	// KEKsOf tells what a task waits for that met with err; nil if nobody knows.
	KEKsOf func(facts policy.Facts, err error) []KEK

	reporting sync.WaitGroup
	closing   context.Context // ends with the Codec
	end       context.CancelFunc

	mu     sync.Mutex
	known  *simplelru.LRU[tokenKey, *Task]      // by token of a task or of a page
	open   *simplelru.LRU[workflowKey, []*Task] // those that are not answered
	due    map[*Task]*time.Timer                // those that are to fail
	probed map[KEK]bool                         // the KEKs that are being asked
	closed bool
}

// workflowKey is a namespace and a workflow's ID. Workflows of several connections may
// share it; via tells their tasks apart.
type workflowKey struct{ namespace, id string }

func (t *Task) key() workflowKey { return workflowKey{t.Facts.Namespace, t.Facts.WorkflowID} }

func NewTasks() *Tasks {
	// They fail only for a size below one.
	known, _ := simplelru.NewLRU[tokenKey, *Task](maxTasks, nil)
	open, _ := simplelru.NewLRU[workflowKey, []*Task](maxTasks, nil)
	ts := &Tasks{known: known, open: open, due: make(map[*Task]*time.Timer), probed: make(map[KEK]bool)}
	ts.closing, ts.end = context.WithCancel(context.Background())
	return ts
}

// Tokens of tasks and of pages are kept apart.
const (
	ByTask = "task "
	ByPage = "page "
)

func (ts *Tasks) Remember(kind string, token []byte, t *Task) {
	if ts == nil || len(token) == 0 {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.known.Add(newTokenKey(t.Via, kind, token), t)
}

func (ts *Tasks) Recall(via *Connection, kind string, token []byte) (*Task, bool) {
	if ts == nil || len(token) == 0 {
		return nil, false
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.known.Get(newTokenKey(via, kind, token))
}

// begin is called when the SDK is given a task. A workflow has one workflow task at
// a time: one before it is over, and nothing is to be told of it.
func (ts *Tasks) Begin(t *Task) {
	ts.Remember(ByTask, t.Token, t)
	if ts == nil {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	open := []*Task{t}
	before, _ := ts.open.Get(t.key())
	for _, o := range before {
		over := !t.Query
		if o.Via != t.Via { // a workflow of another cluster
			over = false
		} else if o.Query { // there may be several at a time
			over = !time.Now().Before(o.Until)
		}
		if over {
			ts.forget(o)
		} else {
			open = append(open, o)
		}
	}
	ts.open.Add(t.key(), open)
}

// forget has nobody told of a task. The caller holds mu.
func (ts *Tasks) forget(t *Task) {
	t.answered = true
	if timer, ok := ts.due[t]; ok {
		timer.Stop()
		delete(ts.due, t)
	}
	open, _ := ts.open.Get(t.key())
	open = slices.DeleteFunc(slices.Clone(open), func(o *Task) bool { return o == t })
	if len(open) == 0 {
		ts.open.Remove(t.key())
		return
	}
	ts.open.Add(t.key(), open)
}

// answer is called when the SDK answers a task.
func (ts *Tasks) Answer(via *Connection, token []byte) {
	if t, ok := ts.Recall(via, ByTask, token); ok {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		ts.forget(t)
	}
}

// all returns the tasks of a namespace that are not answered.
func (ts *Tasks) All(via *Connection, namespace string) (all []*Task) {
	if ts == nil {
		return nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, key := range ts.open.Keys() {
		if key.namespace == namespace {
			open, _ := ts.open.Peek(key)
			all = append(all, cameThrough(via, open)...)
		}
	}
	return all
}

// of returns the tasks of a workflow that are not answered.
func (ts *Tasks) Of(via *Connection, namespace, id string) []*Task {
	if ts == nil || id == "" {
		return nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	open, _ := ts.open.Get(workflowKey{namespace, id})
	return cameThrough(via, open)
}

// hold has a task fail after a while, unless the SDK answers it first; final says
// that the SDK must not complete it. The first such reason outranks one that let the
// task go on, and its time is the sooner one.
func (ts *Tasks) Hold(t *Task, why error, after time.Duration, final bool) {
	if ts == nil {
		return
	}
	var waitsFor []KEK
	if final && !t.Query && ts.KEKsOf != nil {
		waitsFor = ts.KEKsOf(t.Facts, why)
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.why == nil || final && !t.final {
		t.why, t.keks = why, waitsFor
	}
	t.final = t.final || final
	if t.answered || ts.closed {
		return
	}
	due := time.Now().Add(after)
	if timer, ok := ts.due[t]; ok {
		if due.Before(t.due) {
			t.due = due
			timer.Reset(after)
		}
		return
	}
	if len(ts.due) >= maxReleases {
		return
	}
	t.due = due
	ts.due[t] = time.AfterFunc(after, func() {
		if !ts.keep(t) {
			ts.release(t)
		}
	})
}

// reason returns whether a task must not be completed, and what it met, nil if
// nothing. Which of several tasks of a workflow met it there is no telling,
// when a query is asked beside a workflow task: then they may be.
func (ts *Tasks) Reason(t *Task) (final bool, why error) {
	if ts == nil {
		return false, nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	open, _ := ts.open.Get(t.key())
	return t.final && len(cameThrough(t.Via, open)) <= 1, t.why
}

// isOpen reports whether a task is not answered.
func (ts *Tasks) IsOpen(t *Task) bool {
	if ts == nil {
		return false
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return !t.answered
}

// Fail reports that a task failed: at once for a query, for a first attempt, and if the
// server did not take the SDK's answer and the SDK answers again. Later attempts are
// reported after a while, since the server gives a task out again at once.
func (ts *Tasks) Fail(t *Task, why error) {
	if t.Query || t.Attempt <= 1 || !ts.IsOpen(t) {
		ts.FailNow(t, why)
		return
	}
	ts.Hold(t, why, t.Delay(), true)
}

// failNow has the server told that a task failed, unless it was.
func (ts *Tasks) FailNow(t *Task, why error) {
	if ts == nil {
		_ = t.Report(why)
		return
	}
	ts.mu.Lock()
	ts.forget(t)
	told := t.reported
	t.reported = true
	ts.mu.Unlock()
	if !told {
		ts.report(t, why)
	}
}

// tell tells the server of a task, now and, where that may help, later again, until
// the task is over: the server would wait for it, ten minutes if it failed often.
func (ts *Tasks) report(t *Task, why error) {
	if !retryable(t.Report(why)) {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if !ts.closed {
		ts.reporting.Go(func() { t.retryReport(ts.closing, why) })
	}
}

// retryReport tells the server of a task that it was told of in vain.
func (t *Task) retryReport(ctx context.Context, why error) {
	for wait := firstRetell; time.Now().Add(wait).Before(t.Until); wait = min(2*wait, maxRetell) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if !retryable(t.Report(why)) {
			return
		}
	}
}

// retryable reports whether the server may take later what it did not take.
func retryable(err error) bool {
	return slices.Contains([]codes.Code{
		codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unknown,
	}, status.Code(err))
}

// release tells of a task that is due, if it still is.
func (ts *Tasks) release(t *Task) {
	if ok, why := ts.take(t); ok {
		defer ts.reporting.Done()
		ts.report(t, why)
	}
}

// take takes a task out of those that are due, and reports whether it was there.
// The caller tells of it, and then calls telling.Done.
func (ts *Tasks) take(t *Task) (ok bool, why error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if _, ok = ts.due[t]; ok {
		ts.forget(t)
		t.reported = true
		ts.reporting.Add(1)
	}
	return ok, t.why
}

// releaseAll tells of all tasks that are due of a worker, which stops and would leave
// them to time out, and of those whose worker is not known. The SDK may still complete
// what the others have. It returns when the server has heard of them, or after
// stopTimeout: the connection may be closed next.
func (ts *Tasks) ReleaseAll(worker string) {
	ts.mu.Lock()
	var all []*Task
	for t := range ts.due {
		if worker == "" || t.Worker == "" || t.Worker == worker {
			all = append(all, t)
		}
	}
	ts.mu.Unlock()
	ctx, cancel := context.WithTimeout(ts.closing, stopTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(releasesAtOnce)
	for _, t := range all {
		group.Go(func() error {
			if ok, why := ts.take(t); ok {
				defer ts.reporting.Done()
				if retryable(t.Report(why)) {
					t.retryReport(ctx, why)
				}
			}
			return nil
		})
	}
	_ = group.Wait() // none of them fails
}

// close forgets the tasks that are due, and waits for what is being told.
func (ts *Tasks) Close() {
	ts.mu.Lock()
	ts.closed = true
	ts.end()
	for t := range ts.due {
		ts.forget(t)
	}
	ts.mu.Unlock()
	ts.reporting.Wait()
}

// delay is how long a task is held that cannot go on: 1, 1, 2, 4 and then maxHold
// seconds from the first attempt on, and so that the server hears of it before it
// times out.
func (t *Task) Delay() time.Duration {
	again := min(time.Second<<min(max(t.Attempt-2, 0), 3), maxHold)
	return max(min(again, time.Until(t.Until)-reportMargin), 0)
}

// patience is how long a task is waited for that may go on: until shortly before a
// first attempt would time out. One that waits for local activities is answered
// before that, to have more time.
func (t *Task) Patience() time.Duration {
	return max(min(t.Base, time.Until(t.Until))-reportMargin, 0)
}

// TimeoutsOf returns how long a worker has for a task, and for its first attempt:
// the server gives later ones more time. It says how much in an event that is on the
// last page of a history: for one of several pages this is the least that it may be.
func TimeoutsOf(in *workflowservice.PollWorkflowTaskQueueResponse) (timeout, base time.Duration) {
	paged := len(in.GetNextPageToken()) > 0
	for _, e := range slices.Backward(in.GetHistory().GetEvents()) {
		switch a := e.GetAttributes().(type) {
		case *historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes:
			if timeout == 0 && !paged {
				timeout = a.WorkflowTaskScheduledEventAttributes.GetStartToCloseTimeout().AsDuration()
			}
		case *historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes:
			base = a.WorkflowExecutionStartedEventAttributes.GetWorkflowTaskTimeout().AsDuration()
		}
	}
	if paged {
		base = cmp.Or(base, usualTaskTimeout)
		return base + retryTime(in.GetAttempt()), base
	}
	timeout = cmp.Or(timeout, base, usualTaskTimeout)
	return timeout, cmp.Or(base, timeout)
}

// retryTime is the least time that the server adds for an attempt: nothing up to the
// third, then 5 s, doubling up to history.workflowTaskRetryMaxInterval, 10 min unless
// configured, less up to a fifth of it (getStartToCloseTimeout in server 1.32's
// service/history/workflow/workflow_task_state_machine.go).
func retryTime(attempt int32) time.Duration {
	const (
		unlengthened = 3
		first, most  = 5 * time.Second, 10 * time.Minute
	)
	if attempt <= unlengthened {
		return 0
	}
	return min(first<<min(attempt-unlengthened-1, 10), most) / 5 * 4
}

// ReportTask returns how the server is told that a workflow task failed. Its message
// is plaintext (see PlainReason): it names the key and the class, and nothing of a payload.
func ReportTask(ctx context.Context, namespace string, token []byte, from proto.Message, send Send) func(error) error {
	out := &workflowservice.RespondWorkflowTaskFailedRequest{
		Namespace: namespace, TaskToken: token, Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
	}
	switch r := from.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest:
		out.Identity, out.DeploymentOptions = r.GetIdentity(), proto.CloneOf(r.GetDeploymentOptions())
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		out.Identity, out.DeploymentOptions, out.ResourceId = r.GetIdentity(), proto.CloneOf(r.GetDeploymentOptions()), r.GetResourceId()
	case *workflowservice.StartWorkflowExecutionRequest:
		out.Identity, out.DeploymentOptions = r.GetIdentity(), proto.CloneOf(r.GetEagerWorkerDeploymentOptions())
	}
	return func(why error) error {
		out := proto.CloneOf(out)
		out.Failure = PlainFailure(why)
		return sendTo(ctx, workflowservice.WorkflowService_RespondWorkflowTaskFailed_FullMethodName, out, new(workflowservice.RespondWorkflowTaskFailedResponse), send)
	}
}

// ReportQuery returns how a query is answered that failed.
func ReportQuery(ctx context.Context, namespace string, in *workflowservice.PollWorkflowTaskQueueResponse, send Send) func(error) error {
	out := &workflowservice.RespondQueryTaskCompletedRequest{
		Namespace: namespace, TaskToken: in.GetTaskToken(), CompletedType: enumspb.QUERY_RESULT_TYPE_FAILED, PollerGroupId: in.GetPollerGroupId(),
	}
	return func(why error) error {
		out := proto.CloneOf(out)
		out.ErrorMessage = PlainReason(why)
		return sendTo(ctx, workflowservice.WorkflowService_RespondQueryTaskCompleted_FullMethodName, out, new(workflowservice.RespondQueryTaskCompletedResponse), send)
	}
}

// sendTo sends what ends a task. It fails if the task was over already.
func sendTo(ctx context.Context, method string, req, reply any, sends Send) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	return sends(ctx, method, req, reply)
}

// Send sends a request of the guard's own, past its check.
type Send func(ctx context.Context, method string, req, reply any) error
