package hold

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// DefaultWorkflowWait is how long one workflow task waits for KMSs in all. A task
// has 10 s unless told otherwise, and what runs into that is tried again without
// a word about the reason.
const DefaultWorkflowWait = 3 * time.Second

const (
	// usualWait is what a conversion may take uncounted, and has in any case: a
	// workflow with a hundred conversions whose KMS is merely far away must not be
	// held for good.
	usualWait = 250 * time.Millisecond
	// waitWindow is after how long a run has all of its wait again where no guard
	// tells when a task begins: the time that a task has by default.
	waitWindow = 10 * time.Second
	// maxWaits bounds the runs whose waits are kept; one that was forgotten has
	// all of its wait again.
	maxWaits = 10_000
)

// waits keeps how much each workflow run has waited for KMSs in its task: several
// conversions that all but run into their bound must not add up past it. It is
// safe for concurrent use.
type Waits struct {
	limit time.Duration

	mu   sync.Mutex
	runs *simplelru.LRU[RunKey, waited]
}

// RunKey is a workflow run of a connection; id is empty if the run is not known.
type RunKey struct {
	Via *Connection
	ID  string
}

type waited struct {
	since time.Time
	all   time.Duration
}

func NewWaits(limit time.Duration) *Waits {
	// It fails only for a size below one.
	runs, _ := simplelru.NewLRU[RunKey, waited](maxWaits, nil)
	return &Waits{limit: limit, runs: runs}
}

// begin is called when a task of a run comes.
func (w *Waits) Begin(run RunKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs.Remove(run)
}

// left returns how long a run may wait now, usualWait at least. A run that is not
// known has all of it.
func (w *Waits) Left(run RunKey) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	spent, ok := w.runs.Get(run)
	if !ok || time.Since(spent.since) >= waitWindow {
		return w.limit
	}
	return max(w.limit-spent.all, min(usualWait, w.limit))
}

// spend counts how long a run has waited since a moment.
func (w *Waits) spend(run RunKey, since time.Time) {
	over := time.Since(since) - usualWait
	if run.ID == "" || over <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	spent, ok := w.runs.Get(run)
	if !ok || time.Since(spent.since) >= waitWindow {
		spent = waited{since: since}
	}
	spent.all += over
	w.runs.Add(run, spent)
}

// bound gives ctx the deadline that a run has left. The caller calls done.
func (w *Waits) Bound(ctx context.Context, run RunKey) (_ context.Context, done func()) {
	start, left := time.Now(), w.Left(run)
	ctx, cancel := context.WithTimeoutCause(ctx, left, &LateError{After: left})
	return ctx, func() {
		cancel()
		w.spend(run, start)
	}
}

// LateError is the cause of the end of a context whose deadline we set.
type LateError struct{ After time.Duration }

func (e *LateError) Error() string { return fmt.Sprintf("codec: no answer within %s", e.After) }
