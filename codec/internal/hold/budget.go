package hold

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/kms"
)

// DefaultWorkflowWait is how long one workflow task waits for KMSs in all.
// docs/outage-clock.md has the arithmetic.
const DefaultWorkflowWait = 3 * time.Second

const (
	// usualWait is the time that each conversion may take uncounted: a workflow with a hundred
	// conversions and a distant KMS must not be held forever.
	usualWait = 250 * time.Millisecond
	// waitWindow is the time after which a run has its full wait again if no guard reports the
	// beginning of a task: the default task timeout.
	waitWindow = 10 * time.Second
	// maxWaits bounds the runs for which waits are kept. An evicted run has its full wait
	// again.
	maxWaits = 10_000
)

// Waits counts how long each workflow run has waited for KMSs in its task: several conversions
// that each stay below the bound must not exceed it together. It is safe for concurrent use.
type Waits struct {
	limit time.Duration

	mu   sync.Mutex
	runs *simplelru.LRU[RunKey, waited]
}

// RunKey is a workflow run of a connection; ID is empty if the run is not known.
type RunKey struct {
	Via *Connection
	ID  string
}

type waited struct {
	since time.Time
	all   time.Duration
}

// NewWaits returns counts with a bound for each task.
func NewWaits(limit time.Duration) *Waits {
	// NewLRU fails only for a size below one.
	runs, _ := simplelru.NewLRU[RunKey, waited](maxWaits, nil)
	return &Waits{limit: limit, runs: runs}
}

// Begin is called when a task of a run begins.
func (w *Waits) Begin(run RunKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs.Remove(run)
}

// Left returns how long a run may still wait, usualWait at least. A run that is not known has
// its full wait.
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

// Bound returns a context with the deadline of the wait that a run has left. The caller calls
// done.
func (w *Waits) Bound(ctx context.Context, run RunKey) (_ context.Context, done func()) {
	start, left := time.Now(), w.Left(run)
	ctx, cancel := kms.WithLimit(ctx, left)
	return ctx, func() {
		cancel()
		w.spend(run, start)
	}
}
