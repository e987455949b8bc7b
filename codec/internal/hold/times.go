package hold

import (
	"cmp"
	"slices"
	"time"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// docs/outage-clock.md has the arithmetic of these durations.
const (
	// maxHold is how long a task that failed before is held before the next attempt: the server
	// hands it out again at once. While breakers block its KEKs, keep holds it for longer.
	maxHold = 5 * time.Second
	// reportMargin is how long before its timeout a held task is reported.
	reportMargin = time.Second
	// usualTaskTimeout is the timeout of a task if its history states none.
	usualTaskTimeout = 10 * time.Second
)

// Delay is how long a task that cannot continue is held: 1, 1, 2, 4 and then maxHold seconds
// from the first attempt on. The report reaches the server before the task times out.
func (t *Task) Delay() time.Duration {
	again := min(time.Second<<min(max(t.Attempt-2, 0), 3), maxHold)
	return max(min(again, time.Until(t.Until)-reportMargin), 0)
}

// Patience is how long the SDK has to answer a task that may continue: until shortly before a
// first attempt would time out. If the task waits for local activities, the SDK answers it
// before that, to get more time.
func (t *Task) Patience() time.Duration {
	return max(min(t.Base, time.Until(t.Until))-reportMargin, 0)
}

// timeoutsOf returns the timeout of a task, and of its first attempt: the server gives later
// attempts more time. The event that states it is on the last page of a history. For a history
// of several pages the result is a lower bound.
func timeoutsOf(in *workflowservice.PollWorkflowTaskQueueResponse) (timeout, base time.Duration) {
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

// retryTime is the least time that the server adds for an attempt: nothing up to the third,
// then 5 s, doubling up to history.workflowTaskRetryMaxInterval (10 min by default), less up to
// a fifth of it (getStartToCloseTimeout in server 1.32's
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
