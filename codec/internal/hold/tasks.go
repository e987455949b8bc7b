package hold

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/policy"
)

const (
	// maxTasks bounds the tasks, and the pages of their histories, that are remembered.
	maxTasks = 10_000
	// maxDue bounds the tasks with a failure to be reported later. Tasks beyond it time out.
	maxDue = 10_000
)

// Task is a workflow task, or a query task, that the SDK works on.
type Task struct {
	Via     *Connection // the connection that the task came through
	Facts   policy.Facts
	Run     string
	Token   []byte
	Attempt int32
	Query   bool          // it holds only a query
	Worker  string        // the worker instance that has it; empty if the request does not name one
	Until   time.Time     // when it times out, about
	Base    time.Duration // the timeout of a first attempt, about
	// Report sends the failure to the server: it fails a task, and answers a query.
	Report func(why error) error

	// Of Tasks.mu:
	why      error     // what holds it, or the first error that it met; nil if there is none
	keks     []KEK     // the KEKs that it waits for
	final    bool      // the SDK must not complete it
	answered bool      // by the SDK or by hold
	reported bool      // by hold
	due      time.Time // when the failure is reported; zero if it is not to be
}

// Tasks is the registry of the workflow tasks that the SDK works on, in all clients of a Codec.
// The SDK reports the failure of a first attempt only, and drops later ones silently. Those
// time out, after up to ten minutes. Tasks reports them. It is safe for concurrent use.
type Tasks struct {
	// Waits bounds how long each task waits for KMSs.
	Waits *Waits
	// Holds reports whether err is to hold the workflow of these facts.
	Holds func(facts policy.Facts, err error) bool
	// Note is called when the guard holds a task, or refuses a request of a worker; nil if it
	// need not be.
	Note func(why error, held bool)
	// KEKsOf returns the KEKs that a task waits for after err; nil if they are not known.
	KEKsOf func(facts policy.Facts, err error) []KEK

	reporting sync.WaitGroup
	closing   context.Context // ends with the Codec
	end       context.CancelFunc

	mu     sync.Mutex
	known  *simplelru.LRU[tokenKey, *Task]      // by token of a task or of a page
	open   *simplelru.LRU[workflowKey, []*Task] // tasks that are not answered
	due    map[*Task]*time.Timer                // tasks with a failure to be reported
	probed map[KEK]bool                         // KEKs with a probe under way
	closed bool
}

// workflowKey is a namespace and a workflow's ID. Workflows of several connections may
// share it; Task.Via distinguishes their tasks.
type workflowKey struct{ namespace, id string }

func (t *Task) key() workflowKey { return workflowKey{t.Facts.Namespace, t.Facts.WorkflowID} }

// RunKey returns the task's run.
func (t *Task) RunKey() RunKey { return RunKey{t.Via, t.Run} }

// NewTasks returns an empty registry. Close ends its timers.
func NewTasks() *Tasks {
	// They fail only for a size below one.
	known, _ := simplelru.NewLRU[tokenKey, *Task](maxTasks, nil)
	open, _ := simplelru.NewLRU[workflowKey, []*Task](maxTasks, nil)
	ts := &Tasks{known: known, open: open, due: make(map[*Task]*time.Timer), probed: make(map[KEK]bool)}
	ts.closing, ts.end = context.WithCancel(context.Background())
	return ts
}

// The kinds of tokens that remember and recall distinguish.
const (
	byTask = "task "
	byPage = "page "
)

// remember notes the task of a token.
func (ts *Tasks) remember(kind string, token []byte, t *Task) {
	if len(token) == 0 {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.known.Add(newTokenKey(t.Via, kind, token), t)
}

// recall returns the task of a token.
func (ts *Tasks) recall(via *Connection, kind string, token []byte) (*Task, bool) {
	if len(token) == 0 {
		return nil, false
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.known.Get(newTokenKey(via, kind, token))
}

// Begin is called when the SDK receives a task. A workflow has one workflow task at a time: the
// previous one is over, and its failure is no longer reported.
func (ts *Tasks) Begin(t *Task) {
	ts.remember(byTask, t.Token, t)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	open := []*Task{t}
	before, _ := ts.open.Get(t.key())
	for _, o := range before {
		over := !t.Query
		if o.Via != t.Via { // a workflow of another cluster
			over = false
		} else if o.Query { // a workflow may have several at a time
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

// forget ends a task: its failure is not reported. The caller holds mu.
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
func (ts *Tasks) answer(via *Connection, token []byte) {
	if t, ok := ts.recall(via, byTask, token); ok {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		ts.forget(t)
	}
}

// All returns the tasks of a namespace that are not answered.
func (ts *Tasks) All(via *Connection, namespace string) (all []*Task) {
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

// Of returns the tasks of a workflow that are not answered.
func (ts *Tasks) Of(via *Connection, namespace, id string) []*Task {
	if id == "" {
		return nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	open, _ := ts.open.Get(workflowKey{namespace, id})
	return cameThrough(via, open)
}

// Hold schedules the report of a task's failure, unless the SDK answers the task first. final
// says that the SDK must not complete it. The first final reason replaces a reason that is not
// final. The earlier time applies.
func (ts *Tasks) Hold(t *Task, why error, after time.Duration, final bool) {
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
	if leftAlone(t.keks) {
		after = min(after, recheck) // and then keep holds it until one of them is up
	}
	due := time.Now().Add(after)
	if timer, ok := ts.due[t]; ok {
		if due.Before(t.due) {
			t.due = due
			timer.Reset(after)
		}
		return
	}
	if len(ts.due) >= maxDue {
		return
	}
	t.due = due
	ts.due[t] = time.AfterFunc(after, func() {
		if !ts.keep(t) {
			ts.release(t)
		}
	})
}

// note calls Note. Held tasks are those that a KMS is to permit.
func (ts *Tasks) note(why error) {
	if ts.Note != nil {
		_, held := errors.AsType[*Error](why)
		ts.Note(why, held)
	}
}

// Reason returns whether the SDK must not complete a task, and the error that the task met; nil
// if there is none. A task beside a query of the same workflow may be completed: which of the
// two met the error is not known.
func (ts *Tasks) Reason(t *Task) (final bool, why error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	open, _ := ts.open.Get(t.key())
	return t.final && len(cameThrough(t.Via, open)) <= 1, t.why
}

// IsOpen reports whether a task is not answered.
func (ts *Tasks) IsOpen(t *Task) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return !t.answered
}
