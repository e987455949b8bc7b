package blackout

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/stats"

	"github.com/waxseal/waxseal/kms/resilience"
)

func TestObserver(t *testing.T) {
	o := newObserver()
	in := func(message any) { o.HandleRPC(t.Context(), &stats.InPayload{Payload: message}) }
	out := func(message any) { o.HandleRPC(t.Context(), &stats.OutPayload{Payload: message}) }
	task := func(run, token string, attempt int32) *workflowservice.PollWorkflowTaskQueueResponse {
		return &workflowservice.PollWorkflowTaskQueueResponse{
			TaskToken: []byte(token), Attempt: attempt, WorkflowExecution: &commonpb.WorkflowExecution{RunId: run},
		}
	}
	held := func(want int) {
		t.Helper()
		if got := o.Counts().Held; got != want {
			t.Errorf("%d are held, want %d", got, want)
		}
	}
	in(task("a", "a1", 1))
	in(&workflowservice.RespondWorkflowTaskCompletedResponse{WorkflowTask: task("b", "b1", 1)})
	in(&workflowservice.PollWorkflowTaskQueueResponse{}) // a poll that timed out
	in(&workflowservice.RespondWorkflowTaskCompletedResponse{})
	held(0)
	out(&workflowservice.RespondWorkflowTaskFailedRequest{TaskToken: []byte("a1")})
	held(1)
	in(task("a", "a2", 2))
	in(task("b", "b2", 2)) // the first try timed out
	held(2)
	out(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("a2")})
	held(1)
	out(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("b2")})
	held(0)
	resumed := o.Resumed()
	if len(resumed) != 2 || resumed[0].Run != "a" || resumed[0].Told.IsZero() || resumed[1].Run != "b" || !resumed[1].Told.IsZero() ||
		resumed[0].Given.Before(resumed[0].Told) || resumed[0].Done.Before(resumed[0].Given) {
		t.Errorf("went on: %+v", resumed)
	}
	if again := o.Resumed(); len(again) != 0 || len(o.runs)+len(o.told) != 1 {
		t.Errorf("remembers %+v, %v, %v", again, o.runs, o.told)
	}
	// The worker reports the first try; the second is dropped and times out.
	in(task("c", "c1", 1))
	out(&workflowservice.RespondWorkflowTaskFailedRequest{TaskToken: []byte("c1")})
	in(task("c", "c2", 2))
	in(task("c", "c3", 3))
	out(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("c3")})
	held(0)
	if resumed := o.Resumed(); len(resumed) != 1 || resumed[0].Run != "c" || !resumed[0].Told.IsZero() {
		t.Errorf("a run whose last try was dropped went on: %+v", resumed)
	}
	out(&workflowservice.RespondActivityTaskCompletedRequest{})
	out(&workflowservice.RespondActivityTaskFailedRequest{})
	hooks := o.hooks()
	hooks.KMSCall("k", "wrap", nil, 0)
	hooks.KMSCall("k", "wrap", errors.New("gone"), 0)
	hooks.KMSRejected("k", "wrap", resilience.BreakerOpen)
	want := Counts{KMSCalls: 2, KMSErrors: 1, KMSRejected: 1, TasksFailed: 2, TasksDone: 3, ActivitiesFailed: 1, ActivitiesDone: 1}
	if diff := cmp.Diff(want, o.Counts()); diff != "" {
		t.Error(diff)
	}
	want = Counts{KMSCalls: 4, KMSErrors: 2, KMSRejected: 2, TasksFailed: 4, TasksDone: 6, ActivitiesFailed: 2, ActivitiesDone: 2}
	before := o.Counts()
	before.Held = 9 // of a process that is gone
	if diff := cmp.Diff(want, o.Counts().plus(before)); diff != "" {
		t.Error(diff)
	}
}
