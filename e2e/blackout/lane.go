package blackout

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/e2e/internal/faultproxy"
)

const (
	// askAgain is how long a customer waits after a call that was not accepted.
	askAgain = time.Second
	// askFor bounds one try.
	askFor = 10 * time.Second
)

// lane runs the workflows of one Lane.
type lane struct {
	*Lane
	namespace string
	timing    Timing
	service   workflowservice.WorkflowServiceClient
	orders    []order
	crew      *crew
	// healthy and dark are clients: the KMS of one always answers, that of the other
	// is the worker's.
	healthy, dark *connection

	signals, refused atomic.Int64

	mu      sync.Mutex // over Samples and what is below
	current Sample
	healed  time.Time // when its KMS was back
}

// open connects the lane's clients and starts its worker.
func (l *lane) open(ctx context.Context, hostPort, vault string, proxy *faultproxy.Proxy) error {
	quiet := slog.New(slog.DiscardHandler)
	to := target{HostPort: hostPort, Namespace: l.namespace, VaultAddr: vault, Plain: l.Control}
	var err error
	if l.healthy, err = connect(ctx, to, nil, quiet); err != nil {
		return err
	}
	l.service = l.healthy.WorkflowService()
	to.VaultAddr = proxy.URL
	if l.dark, err = connect(ctx, to, nil, quiet); err != nil {
		return err
	}
	if l.crew, err = newCrew(to); err != nil {
		return err
	}
	return l.crew.start(ctx)
}

// close stops what open started.
func (l *lane) close() error {
	var err error
	if l.crew != nil {
		err = l.crew.stop()
	}
	for _, c := range []*connection{l.healthy, l.dark} {
		if c != nil {
			c.Close()
		}
	}
	return err
}

func (l *lane) id(n int) string { return fmt.Sprintf("order-%04d", n) }

// drive starts and signals all workflows, each when it is due.
func (l *lane) drive(ctx context.Context, began time.Time) {
	var wg sync.WaitGroup
	for _, o := range l.orders {
		wg.Go(func() { l.customer(ctx, began, o) })
	}
	wg.Wait()
}

// customer starts one workflow and sends its signals, in order, and each until
// the server says that it has accepted it. The server takes a signal once, however often
// it is sent.
func (l *lane) customer(ctx context.Context, began time.Time, o order) {
	until := func(due time.Duration, ask func(context.Context) error) error {
		if err := sleepUntil(ctx, began.Add(due)); err != nil {
			return err
		}
		for {
			try, cancel := context.WithTimeout(ctx, askFor)
			err := ask(try)
			cancel()
			if err == nil {
				return nil
			}
			l.refused.Add(1)
			if err := sleepUntil(ctx, time.Now().Add(askAgain)); err != nil {
				return err
			}
		}
	}
	id := l.id(o.plan.N)
	err := until(o.start, func(ctx context.Context) error {
		_, err := l.healthy.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: taskQueue}, orderType, o.plan)
		return err
	})
	for number, due := range o.signals {
		if err != nil {
			return // the run is over
		}
		from := l.healthy
		if o.viaOutage {
			from = l.dark
		}
		err = until(due, func(ctx context.Context) error {
			err := from.signal(ctx, l.namespace, id, number)
			if absent(err) {
				return nil // it has failed, and takes no signals
			}
			if err == nil {
				l.signals.Add(1)
			}
			return err
		})
	}
}

// sleepUntil waits, and fails when ctx is done first.
func sleepUntil(ctx context.Context, due time.Time) error {
	wait := time.NewTimer(time.Until(due))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sample notes one second.
func (l *lane) sample(ctx context.Context, since time.Duration) error {
	reply, err := l.service.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: l.namespace, Query: "WorkflowType = '" + orderType + "' GROUP BY ExecutionStatus",
	})
	if err != nil {
		return fmt.Errorf("blackout: count the workflows of %s: %w", l.namespace, err)
	}
	s := Sample{T: seconds(since), Signals: int(l.signals.Load()), Counts: l.crew.Counts()}
	for _, group := range reply.GetGroups() {
		var status string
		if err := converter.GetDefaultDataConverter().FromPayload(group.GetGroupValues()[0], &status); err != nil {
			return fmt.Errorf("blackout: read a status: %w", err)
		}
		switch n := int(group.GetCount()); status {
		case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING.String():
			s.Open += n
		case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED.String():
			s.Done += n
		default:
			s.Failed += n
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = s
	l.Samples = append(l.Samples, s)
	return nil
}

// now returns the last sample.
func (l *lane) now() Sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// over reports whether nothing more is to come: all workflows have ended, or their
// time is up.
func (l *lane) over(since time.Duration) bool {
	s, patience := l.now(), l.timing.Finish
	if l.Control {
		patience = controlGrace
	}
	return s.Done+s.Failed >= len(l.orders) || since > l.timing.heal()+patience
}

// tell reads the histories of all workflows and fills in their outcomes.
func (l *lane) tell(ctx context.Context) error {
	l.mu.Lock()
	healed := l.healed
	l.mu.Unlock()
	resumed := l.crew.resumedAfter(healed)
	var tasks, ours, activities, ended []took
	for _, o := range l.orders {
		id := l.id(o.plan.N)
		events, err := history(ctx, l.service, l.namespace, id)
		if err != nil && !absent(err) {
			return err
		}
		got := judge(events, o.plan, l.healthy.converter, healed)
		switch got.fate {
		case right:
			l.Right++
		case wrong:
			l.Wrong++
		case failed:
			l.Failed++
		case open:
			l.Open++
		case notStarted:
			l.NotStart++
		}
		if got.problem != "" {
			l.Examples = append(l.Examples, id+" "+got.problem)
		}
		if got.ended > 0 {
			ended = append(ended, took{id, got.ended})
		}
		if got.open {
			l.InFlight++
		}
		for _, d := range got.tasks {
			tasks = append(tasks, took{id, d})
			// The record does not show how long the task was queued; its worker reports that.
			if r, ok := resumed[got.run]; ok {
				d = min(d, r.heldFor(healed))
			}
			ours = append(ours, took{id, d})
		}
		for _, d := range got.activities {
			activities = append(activities, took{id, d})
		}
	}
	l.Untold = 0
	l.Tasks, l.Ours, l.Activity, l.Ended = spreadOf(tasks), spreadOf(ours), spreadOf(activities), spreadOf(ended)
	l.Examples = l.Examples[:min(len(l.Examples), 4*shown)]
	return nil
}
