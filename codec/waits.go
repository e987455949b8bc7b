package codec

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
type waits struct {
	limit time.Duration

	mu   sync.Mutex
	runs *simplelru.LRU[runKey, waited]
}

// runKey is a workflow run of a connection; id is empty if the run is not known.
type runKey struct {
	via *connection
	id  string
}

type waited struct {
	since time.Time
	all   time.Duration
}

func newWaits(limit time.Duration) *waits {
	// It fails only for a size below one.
	runs, _ := simplelru.NewLRU[runKey, waited](maxWaits, nil)
	return &waits{limit: limit, runs: runs}
}

// begin is called when a task of a run comes.
func (w *waits) begin(run runKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs.Remove(run)
}

// left returns how long a run may wait now, usualWait at least. A run that is not
// known has all of it.
func (w *waits) left(run runKey) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	spent, ok := w.runs.Get(run)
	if !ok || time.Since(spent.since) >= waitWindow {
		return w.limit
	}
	return max(w.limit-spent.all, min(usualWait, w.limit))
}

// spend counts how long a run has waited since a moment.
func (w *waits) spend(run runKey, since time.Time) {
	over := time.Since(since) - usualWait
	if run.id == "" || over <= 0 {
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
func (w *waits) bound(ctx context.Context, run runKey) (_ context.Context, done func()) {
	start, left := time.Now(), w.left(run)
	ctx, cancel := context.WithTimeoutCause(ctx, left, &lateError{after: left})
	return ctx, func() {
		cancel()
		w.spend(run, start)
	}
}

// lateError is the cause of the end of a context whose deadline we set.
type lateError struct{ after time.Duration }

func (e *lateError) Error() string { return fmt.Sprintf("codec: no answer within %s", e.after) }
