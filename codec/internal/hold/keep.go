package hold

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/internal/keyset"
)

// recheck is how often a held task is looked at whose KEKs are being left alone.
const recheck = 500 * time.Millisecond

// KEK is a KEK that a held task waits for. It is comparable.
type KEK interface {
	Availability() keyset.Availability
	// Probe calls the KMS, so that the breaker learns whether it answers.
	Probe(ctx context.Context)
}

// keep reports whether a task that is due is kept for longer: its KEKs are being
// left alone, and it has the time. One of them that is due is asked, on nobody's
// behalf: were a task let go to ask it, that would have one try more behind it, for
// nothing as long as the outage lasts, and from the fourth on the server waits longer
// with each for the worker that has the task, and longest for one that was killed.
func (ts *Tasks) keep(t *Task) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	timer, ok := ts.due[t]
	if !ok || ts.closed || len(t.keks) == 0 || time.Until(t.Until) < recheck+reportMargin {
		return false
	}
	for _, k := range t.keks {
		switch k.Availability() {
		case keyset.Up:
			return false
		case keyset.ProbeDue:
			ts.probe(k)
		case keyset.Down:
		}
	}
	t.due = time.Now().Add(recheck)
	timer.Reset(recheck)
	return true
}

// probe asks a KEK, unless that is being done. The caller holds mu.
func (ts *Tasks) probe(k KEK) {
	if ts.probed[k] {
		return
	}
	ts.probed[k] = true
	ts.reporting.Go(func() {
		k.Probe(ts.closing)
		ts.mu.Lock()
		defer ts.mu.Unlock()
		delete(ts.probed, k)
	})
}
