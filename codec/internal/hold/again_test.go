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

// taskIn is a task of workflow w in namespace n that notes when it was told of, and why.
func taskIn(token string, told chan<- string) *Task {
	return &Task{
		Facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, Token: []byte(token), Attempt: 9,
		Until: time.Now().Add(time.Minute), Base: time.Minute,
		Report: func(why error) error { told <- why.Error(); return nil },
	}
}

// TestHeldAfterASuspicion: what holds a task says why, and when the server is told,
// whatever the task may have met before that let it go on.
func TestHeldAfterASuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		defer ts.Close()
		start, told := time.Now(), make(chan string, 2)
		waitsFor := make(map[string]int)
		ts.KEKsOf = func(_ policy.Facts, err error) []KEK { waitsFor[err.Error()]++; return nil }
		one := taskIn("t", told)
		ts.Begin(one)
		ts.Hold(one, errors.New("suspected"), one.Patience(), false)
		ts.Hold(one, errors.New("held"), one.Delay(), true)
		ts.Hold(one, errors.New("held later"), one.Delay(), true)
		if why := <-told; why != "held" {
			t.Errorf("told that it was %s", why)
		}
		if after := time.Since(start); after != maxHold {
			t.Errorf("told after %v", after)
		}
		if waitsFor["held"] == 0 {
			t.Error("nobody asked what it waits for")
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the clock is the test's
		if len(told) > 0 {
			t.Error("told twice")
		}
	})
}

// TestQueryThatNobodyAnswered: once its time is over there is no doubt any more which
// task of its workflow must not be completed.
func TestQueryThatNobodyAnswered(t *testing.T) {
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

// TestOthersGoOnWhenAWorkerStops: their tasks are not its business.
func TestOthersGoOnWhenAWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		defer ts.Close()
		told := make(chan string, 4)
		for _, worker := range []string{"stops", "goes on", ""} {
			one := taskIn(worker+"t", told)
			one.Worker, one.Facts.WorkflowID = worker, worker
			ts.Begin(one)
			ts.Hold(one, errors.New("of "+worker), one.Delay(), false)
		}
		ts.ReleaseAll("stops")
		if len(told) != 2 {
			t.Fatalf("told of %d tasks", len(told))
		}
		for range 2 {
			if why := <-told; why == "of goes on" {
				t.Error("told of a task whose worker goes on")
			}
		}
	})
}

// TestToldByBoth: a task that is due may be refused to the SDK at that moment. Who
// tells of it does not get in the other's way.
func TestToldByBoth(t *testing.T) {
	sent, both := make(chan proto.Message), make(chan struct{})
	send := func(_ context.Context, _ string, req, _ any) error {
		sent <- req.(proto.Message)
		<-both
		return nil
	}
	for name, tell := range map[string]func(error) error{
		"task":  reportTask(t.Context(), "n", []byte("t"), &workflowservice.PollWorkflowTaskQueueRequest{}, send),
		"query": reportQuery(t.Context(), "n", &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte("t")}, send),
	} {
		var wg sync.WaitGroup
		for _, why := range []string{"one", "two"} {
			wg.Go(func() { _ = tell(OwnText(why)) })
		}
		if one, two := <-sent, <-sent; proto.Equal(one, two) {
			t.Errorf("%s: %v is sent twice", name, one)
		}
		both <- struct{}{}
		both <- struct{}{}
		wg.Wait()
	}
}

// TestAStopIsToldOfByALimitedServer: a worker that stops gives all that it holds back,
// though the server takes only so many a second.
func TestAStopIsToldOfByALimitedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks, rate = 500, 150
		ts := NewTasks()
		var mu sync.Mutex
		heard, left, since := map[string]int{}, rate, time.Now()
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
				heard[id]++
				return nil
			}}
			ts.Begin(one)
			ts.Hold(one, errors.New("x"), one.Delay(), true)
		}
		began := time.Now()
		ts.ReleaseAll("")
		ts.Close()
		if len(heard) != tasks || time.Since(began) > stopTimeout {
			t.Errorf("the server heard of %d tasks of %d in %v", len(heard), tasks, time.Since(began))
		}
		for id, n := range heard {
			if n != 1 {
				t.Errorf("it heard of task %s %d times", id, n)
			}
		}
	})
}
