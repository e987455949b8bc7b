package codec_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// holdAll holds the tasks of one workflow type for refusals, and makes one attempt per KMS call.
const holdAll = `
keys: {a: {uri: "fake://a", resilience: {attempts: 1}}}
seal:
  - {match: {namespace: "n", workflowType: "Order", taskQueue: "q"}, keys: [a], holdWorkflows: true}
  - {match: {namespace: "*"}, keys: [a], sealHeaders: true, onDenied: fail}
`

// wire records what a guard sends and what the SDK receives.
type wire struct {
	t         *testing.T
	guard     *codec.Guard
	namespace string                   // of its polls
	answer    map[string]proto.Message // by the last segment of the method

	mu   sync.Mutex
	sent []proto.Message
}

func newWire(t *testing.T, c *codec.Codec) *wire {
	return &wire{t: t, guard: codec.NewGuard(c, "n"), namespace: "n", answer: make(map[string]proto.Message)}
}

// call sends req through the guard and returns the error that the SDK receives.
func (w *wire) call(ctx context.Context, method string, req, reply proto.Message) error {
	return w.guard.Unary(ctx, "/service/"+method, req, reply, func(_ context.Context, method string, req, reply any) error {
		w.mu.Lock()
		w.sent = append(w.sent, req.(proto.Message))
		w.mu.Unlock()
		if a := w.answer[method[strings.LastIndex(method, "/")+1:]]; a != nil {
			proto.Merge(reply.(proto.Message), a)
		}
		return nil
	})
}

func (w *wire) poll(task *workflowservice.PollWorkflowTaskQueueResponse) *workflowservice.PollWorkflowTaskQueueResponse {
	w.t.Helper()
	w.answer["PollWorkflowTaskQueue"] = task
	got := new(workflowservice.PollWorkflowTaskQueueResponse)
	if err := w.call(w.t.Context(), "PollWorkflowTaskQueue", &workflowservice.PollWorkflowTaskQueueRequest{Namespace: w.namespace, Identity: "me"}, got); err != nil {
		w.t.Fatal(err)
	}
	return got
}

// count returns how many requests were sent.
func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent)
}

// lastSent returns the last request if it is a T.
func lastSent[T proto.Message](w *wire) (last T, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) > 0 {
		last, ok = w.sent[len(w.sent)-1].(T)
	}
	return last, ok
}

func marker(p ...*commonpb.Payload) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_MARKER_RECORDED, Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{
		MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{Details: map[string]*commonpb.Payloads{"version": {Payloads: p}}},
	}}
}

func scheduled(p ...*commonpb.Payload) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
		ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{Input: &commonpb.Payloads{Payloads: p}},
	}}
}

func signaled(p ...*commonpb.Payload) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{
		WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{Input: &commonpb.Payloads{Payloads: p}},
	}}
}

func activityFailed(f *failurepb.Failure) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, Attributes: &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{
		ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{Failure: f},
	}}
}

func taskFailed(f *failurepb.Failure) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, Attributes: &historypb.HistoryEvent_WorkflowTaskFailedEventAttributes{
		WorkflowTaskFailedEventAttributes: &historypb.WorkflowTaskFailedEventAttributes{Failure: f},
	}}
}

func taskOf(events ...*historypb.HistoryEvent) *workflowservice.PollWorkflowTaskQueueResponse {
	return &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: []byte("token"), Attempt: 1, BacklogCountHint: 7, PollerGroupId: "group",
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: "run"},
		WorkflowType:      &commonpb.WorkflowType{Name: "Order"},
		History:           &historypb.History{Events: events},

		WorkflowExecutionTaskQueue: &taskqueuepb.TaskQueue{Name: "q"},
	}
}

func TestTasksAreOpenedAhead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		events func(p *commonpb.Payload) []*historypb.HistoryEvent
		opened bool // its data key is unwrapped ahead
		must   bool // or the task is held
	}{
		{"marker", func(p *commonpb.Payload) []*historypb.HistoryEvent { return []*historypb.HistoryEvent{marker(p)} }, true, true},
		{"failure", func(p *commonpb.Payload) []*historypb.HistoryEvent {
			return []*historypb.HistoryEvent{activityFailed(&failurepb.Failure{Message: "x", Cause: &failurepb.Failure{EncodedAttributes: p}})}
		}, true, true},
		{"update", func(p *commonpb.Payload) []*historypb.HistoryEvent {
			return []*historypb.HistoryEvent{{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes{
				WorkflowExecutionUpdateAcceptedEventAttributes: &historypb.WorkflowExecutionUpdateAcceptedEventAttributes{
					AcceptedRequest: &updatepb.Request{Input: &updatepb.Input{Args: &commonpb.Payloads{Payloads: []*commonpb.Payload{p}}}},
				},
			}}}
		}, true, true},
		{"signal", func(p *commonpb.Payload) []*historypb.HistoryEvent { return []*historypb.HistoryEvent{signaled(p)} }, true, false},
		{"activity's input", func(p *commonpb.Payload) []*historypb.HistoryEvent { return []*historypb.HistoryEvent{scheduled(p)} }, false, false},
		{"failure of an earlier task", func(p *commonpb.Payload) []*historypb.HistoryEvent {
			return []*historypb.HistoryEvent{taskFailed(&failurepb.Failure{EncodedAttributes: p})}
		}, false, false},
	} {
		for _, class := range []kms.Class{kms.Unavailable, kms.Throttled, kms.Denied, kms.Disabled, kms.NotFound, kms.Corrupt, kms.Internal} {
			t.Run(tc.name+"/"+class.String(), func(t *testing.T) {
				c, backend := newCodec(t, holdAll)
				w := newWire(t, c)
				task := taskOf(tc.events(sealedIn(t, "n", "fake://a"))...)
				backend.Fake("a").Always(kmstest.Fail(class))
				got := w.poll(task)
				if called := backend.Fake("a").Counts().Unwraps > 0; called != tc.opened {
					t.Errorf("called the KMS: %v", called)
				}
				failed, held := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w)
				if want := tc.must && class != kms.Corrupt && class != kms.Internal; held != want {
					t.Fatalf("held %v, want %v", held, want)
				}
				if !held {
					if !proto.Equal(got, task) {
						t.Error("the SDK sees another task")
					}
					return
				}
				if len(got.GetTaskToken()) > 0 || got.GetHistory() != nil || got.GetBacklogCountHint() != 7 || got.GetPollerGroupId() != "group" {
					t.Errorf("the SDK sees %v", got)
				}
				text := failed.GetFailure().GetMessage()
				if string(failed.GetTaskToken()) != "token" || failed.GetNamespace() != "n" || failed.GetIdentity() != "me" ||
					failed.GetCause() != enumspb.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE ||
					!strings.Contains(text, "workflow task held") || !strings.Contains(text, "fake://a") || !strings.Contains(text, class.String()) {
					t.Errorf("reported to the server: %v", failed)
				}
			})
		}
	}
}

func TestTasksOfOtherRulesAreNotHeldForRefusals(t *testing.T) {
	c, backend := newCodec(t, holdAll)
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	w := newWire(t, c)
	task := taskOf(marker(sealedIn(t, "n", "fake://a")))
	task.WorkflowType.Name = "Other"
	if got := w.poll(task); !proto.Equal(got, task) {
		t.Errorf("the SDK sees %v", got)
	}
}

// TestNothingIsUnwrappedTwice: an unwrapped data key stays in the cache, and a task that fails
// halfway gets further at the next attempt.
func TestNothingIsUnwrappedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, backend := newCodec(t, holdAll)
		w := newWire(t, c)
		const markers = 600 // more than a chunk
		var all []*historypb.HistoryEvent
		elsewhere := newCodecOn(t, onePolicy, backend)
		for range markers {
			all = append(all, marker(encode(t, elsewhere, "n", payload(t, "x"))...))
		}
		backend.Fake("a").Each(func(call kmstest.Call) (f kmstest.Fault) {
			if call.N == 2 {
				f = kmstest.Fail(kms.Throttled)
			}
			return f
		})
		w.poll(taskOf(all...))
		if _, held := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w); !held {
			t.Fatal("not held")
		}
		before := backend.Fake("a").Counts().UnwrapItems
		backend.Fake("a").Heal()
		<-time.After(6 * time.Second) // failures are remembered for five
		task := taskOf(all...)
		if got := w.poll(task); !proto.Equal(got, task) {
			t.Fatal("held again")
		}
		after := backend.Fake("a").Counts()
		if got := after.UnwrapItems - before; got >= markers {
			t.Errorf("%d of %d data keys were unwrapped again", got, markers)
		}
		backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
		if got := w.poll(task); !proto.Equal(got, task) || backend.Fake("a").Counts().Unwraps != after.Unwraps {
			t.Error("a cached data key was unwrapped again")
		}
	})
}

// TestHeldQuery queries a workflow with a history that does not open.
func TestHeldQuery(t *testing.T) {
	c, backend := newCodec(t, holdAll)
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	w := newWire(t, c)
	task := taskOf(marker(sealedIn(t, "n", "fake://a")))
	task.Query, task.Attempt = &querypb.WorkflowQuery{QueryType: "state"}, 7
	if got := w.poll(task); len(got.GetTaskToken()) > 0 {
		t.Errorf("the SDK sees %v", got)
	}
	answer, ok := lastSent[*workflowservice.RespondQueryTaskCompletedRequest](w)
	if !ok || answer.GetCompletedType() != enumspb.QUERY_RESULT_TYPE_FAILED || string(answer.GetTaskToken()) != "token" ||
		answer.GetPollerGroupId() != "group" || !strings.Contains(answer.GetErrorMessage(), "denied") {
		t.Errorf("reported to the server: %v", answer)
	}
}

// TestArgumentsOfQueriesHoldNothing: a query with arguments that do not open fails alone.
func TestArgumentsOfQueriesHoldNothing(t *testing.T) {
	c, backend := newCodec(t, holdAll)
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	query := &querypb.WorkflowQuery{QueryType: "state", QueryArgs: &commonpb.Payloads{Payloads: []*commonpb.Payload{sealedIn(t, "n", "fake://a")}}}
	alone, along := taskOf(), taskOf()
	alone.Query, along.Queries = query, map[string]*querypb.WorkflowQuery{"q": query}
	for name, task := range map[string]*workflowservice.PollWorkflowTaskQueueResponse{"alone": alone, "with a task": along} {
		if got := newWire(t, c).poll(task); !proto.Equal(got, task) {
			t.Errorf("%s: the SDK sees %v", name, got)
		}
	}
}

// TestHeldAgain: the server hands a held task out again at once, any number of times.
func TestHeldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, backend := newCodec(t, holdAll)
		sealed := sealedIn(t, "n", "fake://a")
		backend.Fake("a").Always(kmstest.Fail(kms.Denied))
		for attempt, want := range map[int32]time.Duration{2: time.Second, 3: 2 * time.Second, 4: 4 * time.Second, 5: 5 * time.Second, 1 << 30: 5 * time.Second} {
			w := newWire(t, c)
			task := taskOf(marker(sealed))
			task.Attempt = attempt
			if got := w.poll(task); len(got.GetTaskToken()) > 0 || w.count() != 1 {
				t.Fatalf("attempt %d: %v, %d requests", attempt, got, w.count())
			}
			<-time.After(want - time.Millisecond)
			synctest.Wait()
			if w.count() != 1 {
				t.Errorf("attempt %d: reported before %v", attempt, want)
			}
			<-time.After(time.Millisecond)
			synctest.Wait()
			if _, ok := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w); !ok {
				t.Errorf("attempt %d: not reported after %v", attempt, want)
			}
		}
	})
}

func TestNextTaskIsHeldToo(t *testing.T) {
	c, backend := newCodec(t, holdAll)
	w := newWire(t, c)
	w.answer["RespondWorkflowTaskCompleted"] = &workflowservice.RespondWorkflowTaskCompletedResponse{WorkflowTask: taskOf(marker(sealedIn(t, "n", "fake://a")))}
	complete := func() (*workflowservice.RespondWorkflowTaskCompletedResponse, error) {
		got := new(workflowservice.RespondWorkflowTaskCompletedResponse)
		return got, w.call(t.Context(), "RespondWorkflowTaskCompleted", &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", TaskToken: []byte("before")}, got)
	}
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	if got, err := complete(); err != nil || got.GetWorkflowTask() != nil {
		t.Errorf("the SDK sees %v, %v", got, err)
	}
	if _, ok := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w); !ok {
		t.Error("nothing is reported")
	}
}

// TestPages: the guard opens pages ahead that a worker fetches for a task, but not pages that a
// client reads.
func TestPages(t *testing.T) {
	history := func(run, token string, change func(*workflowservice.GetWorkflowExecutionHistoryRequest)) *workflowservice.GetWorkflowExecutionHistoryRequest {
		r := &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: "n", Execution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: run}, NextPageToken: []byte(token)}
		if change != nil {
			change(r)
		}
		return r
	}
	for _, tc := range []struct {
		name string
		req  *workflowservice.GetWorkflowExecutionHistoryRequest
		held bool
	}{
		{"the page that the task names", history("run", "page 2", nil), true},
		{"a page of another task", history("run", "other", nil), false},
		{"all of it, after a cache miss", history("run", "", nil), true},
		{"of another run", history("run 2", "", nil), false},
		{"a client's", history("run", "", func(r *workflowservice.GetWorkflowExecutionHistoryRequest) {
			r.HistoryEventFilterType = enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT
		}), false},
		{"a client's that waits", history("run", "", func(r *workflowservice.GetWorkflowExecutionHistoryRequest) { r.WaitNewEvent = true }), false},
		{"of a size", history("run", "", func(r *workflowservice.GetWorkflowExecutionHistoryRequest) { r.MaximumPageSize = 10 }), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, backend := newCodec(t, holdAll)
			w := newWire(t, c)
			task := taskOf()
			task.NextPageToken = []byte("page 2")
			w.poll(task)
			w.answer["GetWorkflowExecutionHistory"] = &workflowservice.GetWorkflowExecutionHistoryResponse{
				History: &historypb.History{Events: []*historypb.HistoryEvent{marker(sealedIn(t, "n", "fake://a"))}}, NextPageToken: []byte("page 3"),
			}
			backend.Fake("a").Always(kmstest.Fail(kms.Denied))
			fetch := func(req *workflowservice.GetWorkflowExecutionHistoryRequest) bool {
				err := w.call(t.Context(), "GetWorkflowExecutionHistory", req, new(workflowservice.GetWorkflowExecutionHistoryResponse))
				if err != nil && (status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "workflow task held")) {
					t.Fatal(err)
				}
				return err != nil
			}
			if held := fetch(tc.req); held != tc.held {
				t.Errorf("held %v, want %v", held, tc.held)
			}
			if held := fetch(history(tc.req.GetExecution().GetRunId(), "page 3", nil)); held != tc.held {
				t.Errorf("the page after it: held %v, want %v", held, tc.held)
			}
		})
	}
}

// TestWithheldFailureIsNotSent: a workflow that fails while its failure cannot be sealed would
// lose the text of the failure.
func TestWithheldFailureIsNotSent(t *testing.T) {
	for _, tc := range []struct {
		name  string
		class kms.Class
		known bool // the guard saw the task
		held  bool
	}{
		{"unavailable", kms.Unavailable, true, true},
		{"unavailable, of an unknown task", kms.Unavailable, false, true},
		{"denied", kms.Denied, true, true},
		{"denied, of an unknown task", kms.Denied, false, false},
		{"internal", kms.Internal, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, backend := newCodec(t, holdAll)
			w := newWire(t, c)
			if tc.known {
				w.poll(taskOf())
			}
			backend.Fake("a").Always(kmstest.Fail(tc.class))
			failure := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)).ErrorToFailure(context.DeadlineExceeded)
			req := &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", TaskToken: []byte("token"), Identity: "me", Commands: []*commandpb.Command{{
				CommandType: enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
				Attributes: &commandpb.Command_FailWorkflowExecutionCommandAttributes{
					FailWorkflowExecutionCommandAttributes: &commandpb.FailWorkflowExecutionCommandAttributes{Failure: failure},
				},
			}}}
			err := w.call(t.Context(), "RespondWorkflowTaskCompleted", req, new(workflowservice.RespondWorkflowTaskCompletedResponse))
			if (err != nil) != tc.held || (tc.held && status.Code(err) != codes.FailedPrecondition) {
				t.Errorf("got %v", err)
			}
			failed, reported := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w)
			if reported != tc.held || (reported && (failed.GetIdentity() != "me" || !strings.Contains(failed.GetFailure().GetMessage(), tc.class.String()))) {
				t.Errorf("reported to the server: %v", failed)
			}
		})
	}
}

// TestOpeningAheadIsBounded: a KMS that hangs blocks neither the poller nor the server,
// although the poll itself has no time left.
func TestOpeningAheadIsBounded(t *testing.T) {
	sealed := sealedIn(t, "n", "fake://a")
	c, backend := newCodec(t, holdAll)
	backend.Fake("a").Always(kmstest.Stall())
	w := newWire(t, c)
	w.answer["PollWorkflowTaskQueue"] = taskOf(marker(sealed))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	if err := w.call(ctx, "PollWorkflowTaskQueue", &workflowservice.PollWorkflowTaskQueueRequest{Namespace: "n"}, new(workflowservice.PollWorkflowTaskQueueResponse)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > codec.DefaultWorkflowWait+2*time.Second {
		t.Errorf("it took %v", took)
	}
	if failed, ok := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w); !ok || !strings.Contains(failed.GetFailure().GetMessage(), "unavailable") {
		t.Errorf("reported to the server: %v", failed)
	}
}
