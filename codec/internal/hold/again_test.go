package hold

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/policy"
)

// taskIn is a task of workflow w in namespace n that sends the reason of each report to a
// channel.
func taskIn(token string, reported chan<- string) *Task {
	return &Task{
		Facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, Token: []byte(token), Attempt: 9,
		Until: time.Now().Add(time.Minute), Base: time.Minute,
		Report: func(why error) error { reported <- why.Error(); return nil },
	}
}

// TestHoldReplacesAnEarlierError: the error that holds a task determines reason and time of the
// report, even if the task met an error before that does not hold it.
func TestHoldReplacesAnEarlierError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		defer ts.Close()
		start, reported := time.Now(), make(chan string, 2)
		waitsFor := make(map[string]int)
		ts.KEKsOf = func(_ policy.Facts, err error) []KEK { waitsFor[err.Error()]++; return nil }
		one := taskIn("t", reported)
		ts.Begin(one)
		ts.Hold(one, errors.New("suspected"), one.Patience(), false)
		ts.Hold(one, errors.New("held"), one.Delay(), true)
		ts.Hold(one, errors.New("held later"), one.Delay(), true)
		if why := <-reported; why != "held" {
			t.Errorf("the reason is %s", why)
		}
		if after := time.Since(start); after != maxHold {
			t.Errorf("reported after %v", after)
		}
		if waitsFor["held"] == 0 {
			t.Error("KEKsOf was not called")
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the clock is the test's
		if len(reported) > 0 {
			t.Error("reported twice")
		}
	})
}

// TestUnansweredQueryIsOver: after the query's timeout, the workflow's other task must not be
// completed.
func TestUnansweredQueryIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		defer ts.Close()
		query := taskIn("q", nil)
		query.Query, query.Until = true, time.Now().Add(usualTaskTimeout)
		ts.Begin(query)
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
		one := taskIn("t", make(chan string, 1))
		ts.Begin(one)
		ts.Hold(one, errors.New("held"), one.Delay(), true)
		if final, _ := ts.Reason(one); !final {
			t.Error("it may be completed")
		}
	})
}

// TestOthersGoOnWhenAWorkerStops: tasks of other workers are not reported.
func TestOthersGoOnWhenAWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		defer ts.Close()
		reported := make(chan string, 4)
		for _, worker := range []string{"stops", "goes on", ""} {
			one := taskIn(worker+"t", reported)
			one.Worker, one.Facts.WorkflowID = worker, worker
			ts.Begin(one)
			ts.Hold(one, errors.New("of "+worker), one.Delay(), false)
		}
		ts.ReleaseAll("stops")
		if len(reported) != 2 {
			t.Fatalf("%d tasks reported", len(reported))
		}
		for range 2 {
			if why := <-reported; why == "of goes on" {
				t.Error("a task of a worker that goes on is reported")
			}
		}
	})
}

// TestConcurrentReports: a due task may be refused to the SDK at the same moment. The two
// reports do not disturb each other.
func TestConcurrentReports(t *testing.T) {
	sent, both := make(chan proto.Message), make(chan struct{})
	send := func(_ context.Context, _ string, req, _ any) error {
		sent <- req.(proto.Message)
		<-both
		return nil
	}
	for name, report := range map[string]func(error) error{
		"task":  reportTask(t.Context(), "n", []byte("t"), &workflowservice.PollWorkflowTaskQueueRequest{}, send),
		"query": reportQuery(t.Context(), "n", &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte("t")}, send),
	} {
		var wg sync.WaitGroup
		for _, why := range []string{"one", "two"} {
			wg.Go(func() { _ = report(OwnText(why)) })
		}
		if one, two := <-sent, <-sent; proto.Equal(one, two) {
			t.Errorf("%s: %v is sent twice", name, one)
		}
		both <- struct{}{}
		both <- struct{}{}
		wg.Wait()
	}
}

// TestStopReportsToARateLimitedServer: a worker that stops reports all tasks that it holds,
// although the server limits the rate.
func TestStopReportsToARateLimitedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks, rate = 500, 150
		ts := NewTasks()
		var mu sync.Mutex
		received, left, since := map[string]int{}, rate, time.Now()
		for i := range tasks {
			id := fmt.Sprint(i)
			one := &Task{Facts: policy.Facts{WorkflowID: id}, Token: []byte(id), Attempt: 9, Until: time.Now().Add(time.Minute), Report: func(error) error {
				mu.Lock()
				defer mu.Unlock()
				if time.Since(since) >= time.Second {
					left, since = rate, time.Now()
				}
				if left--; left < 0 {
					return status.Error(codes.ResourceExhausted, "slow down")
				}
				received[id]++
				return nil
			}}
			ts.Begin(one)
			ts.Hold(one, errors.New("x"), one.Delay(), true)
		}
		began := time.Now()
		ts.ReleaseAll("")
		ts.Close()
		if len(received) != tasks || time.Since(began) > stopTimeout {
			t.Errorf("%d tasks of %d were reported in %v", len(received), tasks, time.Since(began))
		}
		for id, n := range received {
			if n != 1 {
				t.Errorf("task %s was reported %d times", id, n)
			}
		}
	})
}
