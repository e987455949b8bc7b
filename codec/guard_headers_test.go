package codec_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

func startedWith(header map[string]*commonpb.Payload) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{Header: &commonpb.Header{Fields: header}},
	}}
}

// TestHeadersLoseNoTask: a response contains tasks that the server has handed out. If the
// headers of one do not open yet, neither the task nor the rest of the response may be lost.
func TestHeadersLoseNoTask(t *testing.T) {
	const namespace = "n"
	for _, tc := range []struct {
		name  string
		fault func(unwrap int64) kmstest.Fault
		limit time.Duration // of the call
		held  bool
	}{
		{"the call's time is over when they are opened", func(int64) kmstest.Fault { return kmstest.Fault{Latency: time.Second} }, time.Second / 2, false},
		{"the KMS goes away before they are opened", func(unwrap int64) kmstest.Fault {
			if unwrap == 1 {
				return kmstest.Healthy()
			}
			return kmstest.Fail(kms.Unavailable)
		}, time.Minute, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, err := policy.Parse("test.yaml", []byte(holdAll))
				if err != nil {
					t.Fatal(err)
				}
				backend := kmstest.NewBackend()
				c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend), CacheEntries: 1})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				task := taskOf()
				elsewhere := newCodecOn(t, holdAll, backend)
				for _, answer := range []proto.Message{
					task,
					&workflowservice.RespondWorkflowTaskCompletedResponse{WorkflowTask: task, ActivityTasks: []*workflowservice.PollActivityTaskQueueResponse{{TaskToken: []byte("eager")}}},
					&workflowservice.StartWorkflowExecutionResponse{RunId: "run", EagerWorkflowTask: task},
				} {
					backend.Fake("a").Heal()
					sealed := encode(t, elsewhere, namespace, payload(t, "one"), payload(t, "two"))
					// More than the cache has room for.
					task.History = taskOf(startedWith(map[string]*commonpb.Payload{"one": sealed[0], "two": sealed[1]})).GetHistory()
					var unwraps atomic.Int64
					backend.Fake("a").Each(func(call kmstest.Call) kmstest.Fault {
						if call.Op != kmstest.OpUnwrap {
							return kmstest.Healthy()
						}
						return tc.fault(unwraps.Add(1))
					})
					w := newWire(t, c)
					var method string
					var req proto.Message
					reply := proto.Clone(answer)
					proto.Reset(reply)
					switch answer.(type) {
					case *workflowservice.PollWorkflowTaskQueueResponse:
						method, req = "PollWorkflowTaskQueue", &workflowservice.PollWorkflowTaskQueueRequest{Namespace: namespace}
					case *workflowservice.RespondWorkflowTaskCompletedResponse:
						method, req = "RespondWorkflowTaskCompleted", &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: namespace, TaskToken: []byte("before")}
					case *workflowservice.StartWorkflowExecutionResponse:
						method, req = "StartWorkflowExecution", &workflowservice.StartWorkflowExecutionRequest{Namespace: namespace}
					}
					w.answer[method] = answer
					ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
					if err := w.call(ctx, method, req, reply); err != nil {
						t.Errorf("%s: %v", method, err)
					}
					cancel()
					if done, ok := reply.(*workflowservice.RespondWorkflowTaskCompletedResponse); ok && len(done.GetActivityTasks()) != 1 {
						t.Error("an eager activity is lost")
					}
					if reported := w.reports(); len(reported) != 0 != tc.held {
						t.Errorf("%s: reported to the server: %v", method, reported)
					}
					left := 0
					if err := codec.EachHeader(reply, func(p *commonpb.Payload) {
						if codec.ClaimsSealed(p) {
							left++
						}
					}); err != nil || left > 0 {
						t.Errorf("%s: the SDK sees %d sealed headers, %v", method, left, err)
					}
					passes(time.Minute)
				}
			})
		})
	}
}
