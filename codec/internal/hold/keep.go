package hold

import (
	"context"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/keyset"
)

// recheck is how often the KEKs of a held task are checked while breakers block them.
const recheck = 500 * time.Millisecond

// KEK is a KEK that a held task waits for. It is comparable.
type KEK interface {
	Availability() keyset.Availability
	// Probe calls the KMS, so that the breaker learns whether it answers.
	Probe(ctx context.Context)
}

// leftAlone reports whether breakers block all KEKs. It is false if there are none.
func leftAlone(keks []KEK) bool {
	return len(keks) > 0 && !slices.ContainsFunc(keks, func(k KEK) bool { return k.Availability() == keyset.Up })
}

// keep reports whether a due task is held for longer: breakers block all of its KEKs, and there
// is time. When a breaker is due, keep probes the KMS. Releasing a task to probe would cost
// that task an attempt, and from the fourth attempt on the server lengthens its timeout, which
// delays the task if its worker is killed.
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

// probe calls a KEK's KMS, unless a probe is under way. The caller holds mu.
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
