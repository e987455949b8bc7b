package hold

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// reportTimeout bounds one try to report a failure.
	reportTimeout = 5 * time.Second
	// stopTimeout bounds how long a worker that stops reports its held tasks. reportsAtOnce
	// bounds how many reports are sent at a time.
	stopTimeout   = 10 * time.Second
	reportsAtOnce = 32
	// firstRetry and maxRetry bound the pauses between tries, which double: servers limit
	// rates, and many tasks are reported at once.
	firstRetry, maxRetry = 250 * time.Millisecond, 2 * time.Second
)

// Fail reports that a task failed. It reports a query and a first attempt at once, and also a
// task that the SDK answers again because the server did not accept the first answer. It
// reports later attempts after a delay, since the server hands a failed task out again at once.
func (ts *Tasks) Fail(t *Task, why error) {
	if t.Query || t.Attempt <= 1 || !ts.IsOpen(t) {
		ts.FailNow(t, why)
		return
	}
	ts.Hold(t, why, t.Delay(), true)
}

// FailNow reports that a task failed, unless its failure was already reported.
func (ts *Tasks) FailNow(t *Task, why error) {
	ts.mu.Lock()
	ts.forget(t)
	reported := t.reported
	t.reported = true
	ts.mu.Unlock()
	if !reported {
		ts.report(t, why)
	}
}

// report reports a failure now. If the server does not accept the report but may do so later,
// it repeats it until the task is over: without a report the server waits for the task's
// timeout, ten minutes after many attempts.
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

// retryReport repeats a report that the server did not accept.
func (t *Task) retryReport(ctx context.Context, why error) {
	for wait := firstRetry; time.Now().Add(wait).Before(t.Until); wait = min(2*wait, maxRetry) {
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

// retryable reports whether the server may accept a report later.
func retryable(err error) bool {
	return slices.Contains([]codes.Code{
		codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unknown,
	}, status.Code(err))
}

// release reports a task that is due, if it still is.
func (ts *Tasks) release(t *Task) {
	if ok, why := ts.take(t); ok {
		defer ts.reporting.Done()
		ts.report(t, why)
	}
}

// take removes a task from those that are due, and reports whether it was one of them.
// The caller reports its failure, and then calls reporting.Done.
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

// ReleaseAll reports the due tasks of a worker that stops, and due tasks of an unknown worker:
// they would time out otherwise. The SDK may still complete the tasks of other workers.
// ReleaseAll returns when the server has all reports, or after stopTimeout: the connection may
// close next.
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
	group.SetLimit(reportsAtOnce)
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

// Close forgets the tasks that are due, and waits for reports under way.
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
