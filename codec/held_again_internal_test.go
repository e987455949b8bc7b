package codec

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// taskIn is a task of workflow w in namespace n that notes when it was told of, and why.
func taskIn(token string, told chan<- string) *task {
	return &task{
		facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, token: []byte(token), attempt: 9,
		until: time.Now().Add(time.Minute), base: time.Minute,
		tell: func(why error) error { told <- why.Error(); return nil },
	}
}

// TestHeldAfterASuspicion: what holds a task says why, and when the server is told,
// whatever the task may have met before that let it go on.
func TestHeldAfterASuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTasks()
		defer ts.close()
		start, told := time.Now(), make(chan string, 2)
		waitsFor := make(map[string]int)
		ts.keksOf = func(_ policy.Facts, err error) keks { waitsFor[err.Error()]++; return nil }
		one := taskIn("t", told)
		ts.begin(one)
		ts.hold(one, errors.New("suspected"), one.patience(), false)
		ts.hold(one, errors.New("held"), one.delay(), true)
		ts.hold(one, errors.New("held later"), one.delay(), true)
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
		ts := newTasks()
		defer ts.close()
		query := taskIn("q", nil)
		query.query, query.until = true, time.Now().Add(usualTaskTimeout)
		ts.begin(query)
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
		one := taskIn("t", make(chan string, 1))
		ts.begin(one)
		ts.hold(one, errors.New("held"), one.delay(), true)
		if final, _ := ts.reason(one); !final {
			t.Error("it may be completed")
		}
	})
}

// TestOthersGoOnWhenAWorkerStops: their tasks are not its business.
func TestOthersGoOnWhenAWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTasks()
		defer ts.close()
		told := make(chan string, 4)
		for _, worker := range []string{"stops", "goes on", ""} {
			one := taskIn(worker+"t", told)
			one.worker, one.facts.WorkflowID = worker, worker
			ts.begin(one)
			ts.hold(one, errors.New("of "+worker), one.delay(), false)
		}
		ts.releaseAll("stops")
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
		"task":  tellTask(t.Context(), "n", []byte("t"), &workflowservice.PollWorkflowTaskQueueRequest{}, send),
		"query": tellQuery(t.Context(), "n", &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte("t")}, send),
	} {
		var wg sync.WaitGroup
		for _, why := range []string{"one", "two"} {
			wg.Go(func() { _ = tell(ownText(why)) })
		}
		if one, two := <-sent, <-sent; proto.Equal(one, two) {
			t.Errorf("%s: %v is sent twice", name, one)
		}
		both <- struct{}{}
		both <- struct{}{}
		wg.Wait()
	}
}

// TestRefusedWhenSentAgain: the SDK sends an answer again that the server did not take.
// If the guard refuses it by then, the server is told, whatever the attempt.
func TestRefusedWhenSentAgain(t *testing.T) {
	for _, attempt := range []int32{1, 2, 9} {
		synctest.Test(t, func(t *testing.T) {
			ts := newTasks()
			defer ts.close()
			told := make(chan string, 2)
			one := taskIn("t", told)
			one.attempt = attempt
			ts.begin(one)
			g := &guard{codec: &Codec{tasks: ts}, namespace: "n"}
			req := &workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("t")}
			if _, err := g.answer(t.Context(), req, nil, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := g.answer(t.Context(), req, status.Error(codes.Unavailable, "sealing failed"), nil); err == nil {
				t.Error("it was sent")
			}
			time.Sleep(maxHold) //nolint:forbidigo // the clock is the test's
			synctest.Wait()
			if len(told) != 1 {
				t.Errorf("attempt %d: told %d times", attempt, len(told))
			}
		})
	}
}

// TestRefusedIsKept: what the guard refuses to send because a KMS is out waits for
// that KMS, as what workflow code met does.
func TestRefusedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTasks()
		defer ts.close()
		told := make(chan string, 2)
		one := taskIn("t", told)
		one.attempt, one.until = 9, time.Now().Add(time.Minute)
		ts.begin(one)
		out := kekThatIs(keyset.Down)
		ts.keksOf = func(_ policy.Facts, why error) keks {
			if e, ok := errors.AsType[*kms.Error](why); !ok || e.KeyID != "fake://a" {
				t.Errorf("the task waits for %v", why)
			}
			return keks{out}
		}
		g := &guard{codec: &Codec{tasks: ts}, namespace: "n"}
		refused := onTheWire(fmt.Errorf("codec: seal headers: %w", &kms.Error{Class: kms.Unavailable, Op: "wrap", KeyID: "fake://a"}))
		req := &workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("t")}
		if _, err := g.answer(t.Context(), req, refused, nil); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "fake://a") {
			t.Errorf("the SDK is told %v", err)
		}
		time.Sleep(30 * time.Second) //nolint:forbidigo // the clock is the test's
		if len(told) != 0 {
			t.Error("it was not kept")
		}
		out.set(keyset.Up)
		time.Sleep(recheck) //nolint:forbidigo // likewise
		synctest.Wait()
		if len(told) != 1 || !strings.Contains(<-told, "fake://a") {
			t.Error("it was not let go, or nobody was told why")
		}
	})
}

// TestAStopIsToldOfByALimitedServer: a worker that stops gives all that it holds back,
// though the server takes only so many a second.
func TestAStopIsToldOfByALimitedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks, rate = 500, 150
		ts := newTasks()
		var mu sync.Mutex
		heard, left, since := map[string]int{}, rate, time.Now()
		for i := range tasks {
			id := fmt.Sprint(i)
			one := &task{facts: policy.Facts{WorkflowID: id}, token: []byte(id), attempt: 9, until: time.Now().Add(time.Minute), tell: func(error) error {
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
			ts.begin(one)
			ts.hold(one, errors.New("x"), one.delay(), true)
		}
		began := time.Now()
		ts.releaseAll("")
		ts.close()
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
