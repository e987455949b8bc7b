package codec_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// testWorkflow and testRun are the IDs that the SDK's test environment makes up.
const (
	testWorkflow = "default-test-workflow-id"
	testRun      = "default-test-run-id"
)

// runTask is a task of that run, with nothing to open.
func runTask(token string, attempt int32) *workflowservice.PollWorkflowTaskQueueResponse {
	task := taskOf()
	task.TaskToken, task.Attempt = []byte(token), attempt
	task.WorkflowExecution = &commonpb.WorkflowExecution{WorkflowId: testWorkflow, RunId: testRun}
	return task
}

func newRunWire(t *testing.T, c *codec.Codec) *wire {
	w := newWire(t, c)
	w.namespace = testNamespace
	return w
}

// panicInWorkflow lets workflow code seal a value during an outage.
func panicInWorkflow(t *testing.T, c *codec.Codec, backend *kmstest.Backend, class kms.Class) {
	t.Helper()
	backend.Fake("a").Always(kmstest.Fail(class))
	panicked, err := inWorkflow(t, codec.NewDataConverter(c, testNamespace, nil), func(dc converter.DataConverter) error {
		_, err := dc.ToPayload("CANARY")
		return err
	})
	if _, held := heldIn(panicked); held != class.Transient() {
		t.Fatalf("panic %v, error %v", panicked, err)
	}
}

// passes advances the clock of the test.
func passes(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// reports returns the reasons of the failures that were reported to the server, by task token.
func (w *wire) reports() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]string)
	for _, req := range w.sent {
		switch r := req.(type) {
		case *workflowservice.RespondWorkflowTaskFailedRequest:
			out[string(r.GetTaskToken())] = r.GetFailure().GetMessage()
		case *workflowservice.RespondQueryTaskCompletedRequest:
			out[string(r.GetTaskToken())] = r.GetErrorMessage()
		}
	}
	return out
}

// TestPanicsAreReported: the SDK reports only the first failure of a task.
func TestPanicsAreReported(t *testing.T) {
	for _, tc := range []struct {
		name  string
		task  func() *workflowservice.PollWorkflowTaskQueueResponse
		after time.Duration
	}{
		{"a task that the SDK dropped at the first attempt", func() *workflowservice.PollWorkflowTaskQueueResponse { return runTask("t", 1) }, time.Second},
		{"second attempt", func() *workflowservice.PollWorkflowTaskQueueResponse { return runTask("t", 2) }, time.Second},
		{"fourth", func() *workflowservice.PollWorkflowTaskQueueResponse { return runTask("t", 4) }, 4 * time.Second},
		{"hundredth", func() *workflowservice.PollWorkflowTaskQueueResponse { return runTask("t", 100) }, 5 * time.Second},
		{"of a task that times out soon", func() *workflowservice.PollWorkflowTaskQueueResponse {
			task := runTask("t", 100)
			task.History.Events = []*historypb.HistoryEvent{
				{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{WorkflowTaskTimeout: durationpb.New(2 * time.Second)}}},
				{Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{StartToCloseTimeout: durationpb.New(4 * time.Second)}}},
				{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED},
			}
			return task
		}, 3 * time.Second},
		{"of a workflow with a short task timeout", func() *workflowservice.PollWorkflowTaskQueueResponse {
			task := runTask("t", 100)
			task.History.Events = []*historypb.HistoryEvent{
				{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{WorkflowTaskTimeout: durationpb.New(2 * time.Second)}}},
			}
			return task
		}, time.Second},
		{"of a task that has hardly any time", func() *workflowservice.PollWorkflowTaskQueueResponse {
			task := runTask("t", 100)
			task.History.Events = []*historypb.HistoryEvent{
				{Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{StartToCloseTimeout: durationpb.New(time.Millisecond)}}},
			}
			return task
		}, 0},
		{"a query", func() *workflowservice.PollWorkflowTaskQueueResponse {
			task := runTask("t", 1)
			task.Query = &querypb.WorkflowQuery{QueryType: "__temporal_workflow_metadata"}
			return task
		}, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, backend := newCodec(t, holdAll) // one attempt, which takes no time
				w := newRunWire(t, c)
				w.poll(tc.task())
				panicInWorkflow(t, c, backend, kms.Unavailable)
				if tc.after > 0 {
					passes(tc.after - time.Millisecond)
					if got := w.reports(); len(got) > 0 {
						t.Errorf("reported before %v: %v", tc.after, got)
					}
				}
				passes(time.Millisecond)
				got := w.reports()["t"]
				if !strings.Contains(got, "workflow task held") || !strings.Contains(got, "fake://a") || !strings.Contains(got, "unavailable") || strings.Contains(got, "CANARY") {
					t.Errorf("after %v, reported to the server: %q", tc.after, got)
				}
				passes(time.Minute)
				if n := w.count(); n != 2 {
					t.Errorf("%d requests: reported twice", n)
				}
			})
		})
	}
}

// TestWhatIsNotReported: tasks that the SDK answers, errors that do not hold, and tasks that
// are over.
func TestWhatIsNotReported(t *testing.T) {
	failed := &workflowservice.RespondWorkflowTaskFailedRequest{Namespace: "n", TaskToken: []byte("t")}
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend)
	}{
		{"the SDK answers first", func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend) {
			w.poll(runTask("t", 3))
			panicInWorkflow(t, c, backend, kms.Unavailable)
			if err := w.call(t.Context(), "RespondWorkflowTaskFailed", failed, new(workflowservice.RespondWorkflowTaskFailedResponse)); err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			w.sent = nil
			w.mu.Unlock()
		}},
		{"the SDK answered before", func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend) {
			w.poll(runTask("t", 3))
			if err := w.call(t.Context(), "RespondWorkflowTaskCompleted", &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", TaskToken: []byte("t")}, new(workflowservice.RespondWorkflowTaskCompletedResponse)); err != nil {
				t.Fatal(err)
			}
			panicInWorkflow(t, c, backend, kms.Unavailable)
		}},
		{"an error that does not hold, and is handled", func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend) {
			w.poll(runTask("t", 3))
			panicInWorkflow(t, c, backend, kms.Corrupt)
			passes(8 * time.Second) // with a local activity
			if err := w.call(t.Context(), "RespondWorkflowTaskCompleted", &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", TaskToken: []byte("t")}, new(workflowservice.RespondWorkflowTaskCompletedResponse)); err != nil {
				t.Error(err)
			}
		}},
		{"what clients convert", func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend) {
			w.poll(runTask("t", 3))
			backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
			dc := codec.NewDataConverter(c, testNamespace, nil).(workflow.ContextAware).WithContext(t.Context())
			if _, err := converter.WithDataConverterSerializationContext(dc, converter.WorkflowSerializationContext{Namespace: testNamespace, WorkflowID: testWorkflow}).ToPayload("x"); err == nil {
				t.Error("it is sealed")
			}
		}},
		{"a task that the server gave up", func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend) {
			w.poll(runTask("t", 3))
			panicInWorkflow(t, c, backend, kms.Unavailable)
			w.poll(runTask("next", 4))
		}},
		{"another run's", func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend) {
			w.poll(taskOf())
			panicInWorkflow(t, c, backend, kms.Unavailable)
		}},
		{"the codec is closed", func(t *testing.T, w *wire, c *codec.Codec, backend *kmstest.Backend) {
			w.poll(runTask("t", 3))
			panicInWorkflow(t, c, backend, kms.Unavailable)
			c.Close()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, backend := newCodec(t, onePolicy)
				w := newRunWire(t, c)
				tc.do(t, w, c, backend)
				passes(time.Minute)
				if got := w.reports(); len(got) > 0 {
					t.Errorf("reported to the server: %v", got)
				}
			})
		})
	}
}

// TestErrorsBesideWorkflowCodeAreReported: the SDK converts some parts of a task without its
// context, or panics itself with the error, and drops the task.
func TestErrorsBesideWorkflowCodeAreReported(t *testing.T) {
	sealVersion := func(t *testing.T, c *codec.Codec) {
		sc := converter.WorkflowSerializationContext{Namespace: testNamespace, WorkflowID: testWorkflow}
		if _, err := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, testNamespace, nil), sc).ToPayload("CANARY"); err == nil {
			t.Error("it is sealed")
		}
	}
	for _, tc := range []struct {
		name  string
		class kms.Class
		inWorkflow,
		soon bool
	}{
		{"a version marker, in an outage", kms.Unavailable, false, true},
		{"a version marker, for a refusal", kms.Denied, false, false},
		{"workflow code, for a refusal", kms.Denied, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, backend := newCodec(t, failRefused)
				w := newRunWire(t, c)
				w.poll(runTask("t", 100))
				start := time.Now()
				backend.Fake("a").Always(kmstest.Fail(tc.class))
				if tc.inWorkflow {
					panicInWorkflow(t, c, backend, tc.class)
				} else {
					sealVersion(t, c)
				}
				passes(5 * time.Second)
				if got := w.reports()["t"]; (got != "") != tc.soon {
					t.Errorf("after %v, reported to the server: %q", time.Since(start), got)
				}
				passes(4 * time.Second)
				got := w.reports()["t"]
				if !strings.Contains(got, "fake://a") || !strings.Contains(got, tc.class.String()) || strings.Contains(got, "CANARY") {
					t.Errorf("after %v, reported to the server: %q", time.Since(start), got)
				}
			})
		})
	}
}

// TestTwoClientsOfOneCodec: each task is answered by the client that it came through.
func TestTwoClientsOfOneCodec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, backend := newCodec(t, onePolicy)
		one, other := newRunWire(t, c), newRunWire(t, c)
		one.poll(runTask("t", 3))
		other.poll(taskOf())
		panicInWorkflow(t, c, backend, kms.Unavailable)
		passes(time.Minute)
		if len(one.reports()) != 1 || len(other.reports()) != 0 {
			t.Errorf("reported %v and %v", one.reports(), other.reports())
		}
	})
}

// TestStoppingGivesTasksBack: otherwise the server would wait for their timeouts, which are
// minutes after many failures.
func TestStoppingGivesTasksBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, backend := newCodec(t, onePolicy)
		w := newRunWire(t, c)
		w.poll(runTask("t", 100))
		panicInWorkflow(t, c, backend, kms.Unavailable)
		stopped := false
		codec.NewPlugin(c).StopWorker(t.Context(), worker.PluginStopWorkerOptions{}, func(context.Context, worker.PluginStopWorkerOptions) {
			stopped = len(w.reports()) == 0
		})
		if got := w.reports(); len(got) != 1 || !stopped {
			t.Errorf("reported to the server: %v; nothing before the stop: %v", got, stopped)
		}
		passes(time.Minute)
		if n := w.count(); n != 2 {
			t.Errorf("%d requests: reported twice", n)
		}
	})
}

// TestStoppingKeepsTasksOfOtherWorkers: several workers of a process may share a Codec. A poll
// names the worker that gets the task. A task in the response to a completion goes to the
// worker of the completed task.
func TestStoppingKeepsTasksOfOtherWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, backend := newCodec(t, onePolicy)
		w := newRunWire(t, c)
		w.answer["PollWorkflowTaskQueue"] = runTask("before", 100)
		w.answer["RespondWorkflowTaskCompleted"] = &workflowservice.RespondWorkflowTaskCompletedResponse{WorkflowTask: runTask("t", 100)}
		for _, call := range []struct {
			method     string
			req, reply proto.Message
		}{
			{"PollWorkflowTaskQueue", &workflowservice.PollWorkflowTaskQueueRequest{Namespace: testNamespace, WorkerInstanceKey: "mine"}, new(workflowservice.PollWorkflowTaskQueueResponse)},
			{"RespondWorkflowTaskCompleted", &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: testNamespace, TaskToken: []byte("before")}, new(workflowservice.RespondWorkflowTaskCompletedResponse)},
		} {
			if err := w.call(t.Context(), call.method, call.req, call.reply); err != nil {
				t.Fatal(err)
			}
		}
		panicInWorkflow(t, c, backend, kms.Unavailable)
		for want, key := range []string{"another", "mine"} {
			codec.NewPlugin(c).StopWorker(t.Context(), worker.PluginStopWorkerOptions{WorkerInstanceKey: key}, func(context.Context, worker.PluginStopWorkerOptions) {})
			if reported := w.reports(); len(reported) != want {
				t.Errorf("when worker %q stops, reported to the server: %v", key, reported)
			}
		}
	})
}

// TestRecoveredPanicCompletesNothing: if workflow code recovers panics, or the panic policy
// fails workflows, an outage must not become final.
func TestRecoveredPanicCompletesNothing(t *testing.T) {
	complete := func(token string) *workflowservice.RespondWorkflowTaskCompletedRequest {
		return &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", TaskToken: []byte(token), Commands: []*commandpb.Command{{
			CommandType: enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
			Attributes: &commandpb.Command_FailWorkflowExecutionCommandAttributes{
				FailWorkflowExecutionCommandAttributes: &commandpb.FailWorkflowExecutionCommandAttributes{Failure: &failurepb.Failure{}},
			},
		}}}
	}
	for _, attempt := range []int32{1, 3} {
		t.Run(fmt.Sprint("attempt ", attempt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, backend := newCodec(t, onePolicy)
				w := newRunWire(t, c)
				w.poll(runTask("t", attempt))
				panicInWorkflow(t, c, backend, kms.Throttled)
				err := w.call(t.Context(), "RespondWorkflowTaskCompleted", complete("t"), new(workflowservice.RespondWorkflowTaskCompletedResponse))
				if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "throttled") {
					t.Errorf("got %v", err)
				}
				if got := w.reports(); len(got) != 0 && attempt > 1 {
					t.Errorf("reported at once: %v", got)
				}
				passes(time.Minute)
				if got := w.reports()["t"]; !strings.Contains(got, "throttled") || w.count() != 2 {
					t.Errorf("reported to the server: %q in %d requests", got, w.count()-1)
				}
			})
		})
	}
	t.Run("a query at the same time may have met it", func(t *testing.T) {
		c, backend := newCodec(t, onePolicy)
		w := newRunWire(t, c)
		w.poll(runTask("t", 1))
		query := runTask("q", 1)
		query.Query = &querypb.WorkflowQuery{QueryType: "state"}
		w.poll(query)
		panicInWorkflow(t, c, backend, kms.Throttled)
		if err := w.call(t.Context(), "RespondWorkflowTaskCompleted", complete("t"), new(workflowservice.RespondWorkflowTaskCompletedResponse)); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusedAnswersAreReported: the SDK would drop the task.
func TestRefusedAnswersAreReported(t *testing.T) {
	memo := &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": {Data: []byte("CANARY")}}}
	upsert := &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", TaskToken: []byte("t"), Commands: []*commandpb.Command{{
		Attributes: &commandpb.Command_ModifyWorkflowPropertiesCommandAttributes{
			ModifyWorkflowPropertiesCommandAttributes: &commandpb.ModifyWorkflowPropertiesCommandAttributes{UpsertedMemo: memo},
		},
	}}}
	answered := &workflowservice.RespondQueryTaskCompletedRequest{Namespace: "n", TaskToken: []byte("t"), QueryResult: &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte("CANARY")}}}}
	for _, tc := range []struct {
		name, method string
		req          proto.Message
		query        bool
		known        bool
	}{
		{"a memo in plaintext", "RespondWorkflowTaskCompleted", upsert, false, true},
		{"of an unknown task", "RespondWorkflowTaskCompleted", upsert, false, false},
		{"a query's result", "RespondQueryTaskCompleted", answered, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newCodec(t, onePolicy)
			w := newRunWire(t, c)
			if tc.known {
				task := runTask("t", 1)
				if tc.query {
					task.Query = &querypb.WorkflowQuery{QueryType: "state"}
				}
				w.poll(task)
			}
			err := w.call(t.Context(), tc.method, tc.req, new(workflowservice.RespondWorkflowTaskCompletedResponse))
			want := codes.InvalidArgument
			if tc.known {
				want = codes.FailedPrecondition
			}
			if status.Code(err) != want {
				t.Errorf("got %v", err)
			}
			text, reported := w.reports()["t"]
			if reported != tc.known || (reported && !strings.Contains(text, "is not sealed")) || strings.Contains(text, "CANARY") {
				t.Errorf("reported to the server: %q, %v", text, reported)
			}
		})
	}
}

// TestFailedTaskSaysWhy: the SDK's own failure for the panic cannot be sealed during the outage
// either.
func TestFailedTaskSaysWhy(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	w := newRunWire(t, c)
	w.poll(runTask("t", 1))
	panicInWorkflow(t, c, backend, kms.Unavailable)
	failure := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)).ErrorToFailure(errors.New("CANARY"))
	req := &workflowservice.RespondWorkflowTaskFailedRequest{Namespace: "n", TaskToken: []byte("t"), Identity: "me", Failure: failure}
	if err := w.call(t.Context(), "RespondWorkflowTaskFailed", req, new(workflowservice.RespondWorkflowTaskFailedResponse)); err != nil {
		t.Fatal(err)
	}
	sent, _ := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w)
	if got := sent.GetFailure().GetMessage(); !strings.Contains(got, "fake://a") || !strings.Contains(got, "workflow task held") || sent.GetIdentity() != "me" {
		t.Errorf("reported to the server: %v", sent)
	}
	if !strings.Contains(req.GetFailure().GetMessage(), "withheld") {
		t.Error("the SDK's own request was changed")
	}
}

// TestDroppedPageIsReported: the SDK drops a task if its first page does not come. If the
// workflow is queried meanwhile, the page may belong to the task or to the query.
func TestDroppedPageIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, backend := newCodec(t, holdAll)
		w := newWire(t, c)
		w.poll(runTask("t", 1))
		query := runTask("q", 1)
		query.Query = &querypb.WorkflowQuery{QueryType: "state"}
		w.poll(query)
		w.answer["GetWorkflowExecutionHistory"] = &workflowservice.GetWorkflowExecutionHistoryResponse{
			History: &historypb.History{Events: []*historypb.HistoryEvent{marker(sealedIn(t, "n", "fake://a"))}},
		}
		backend.Fake("a").Always(kmstest.Fail(kms.Denied))
		if err := w.call(t.Context(), "GetWorkflowExecutionHistory", &workflowservice.GetWorkflowExecutionHistoryRequest{
			Namespace: "n", Execution: &commonpb.WorkflowExecution{WorkflowId: testWorkflow, RunId: testRun},
		}, new(workflowservice.GetWorkflowExecutionHistoryResponse)); err == nil {
			t.Fatal("the page is given out")
		}
		passes(time.Second)
		for _, token := range []string{"t", "q"} {
			if got := w.reports()[token]; !strings.Contains(got, "denied") {
				t.Errorf("of %s reported to the server: %q", token, got)
			}
		}
	})
}

func TestEagerTaskIsHeldToo(t *testing.T) {
	c, backend := newCodec(t, holdAll)
	w := newRunWire(t, c)
	w.answer["StartWorkflowExecution"] = &workflowservice.StartWorkflowExecutionResponse{RunId: "run", EagerWorkflowTask: taskOf(marker(sealedIn(t, "n", "fake://a")))}
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	got := new(workflowservice.StartWorkflowExecutionResponse)
	if err := w.call(t.Context(), "StartWorkflowExecution", &workflowservice.StartWorkflowExecutionRequest{Namespace: "n", Identity: "me"}, got); err != nil {
		t.Fatal(err)
	}
	failed, ok := lastSent[*workflowservice.RespondWorkflowTaskFailedRequest](w)
	if got.GetEagerWorkflowTask() != nil || got.GetRunId() != "run" || !ok || failed.GetIdentity() != "me" {
		t.Errorf("the SDK sees %v, reported to the server: %v", got, failed)
	}
}
