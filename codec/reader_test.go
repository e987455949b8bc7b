package codec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// readerPolicy has a strict namespace, and one with payloads that the reader may not open.
const readerPolicy = `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}}
seal:
  - {match: {namespace: "n"}, keys: [a], requireSealed: true}
  - {match: {namespace: "friendly"}, keys: [a], requireSealed: true, accept: [other]}
  - {match: {namespace: "other"}, keys: [b]}
`

// messageOf returns the text of a failure that the worker sent.
func messageOf(t *testing.T, c *codec.Codec, namespace string, f *failurepb.Failure) string {
	t.Helper()
	if f == nil {
		t.Fatal("no failure")
	}
	return codec.NewFailureConverter(codec.NewDataConverter(c, namespace, nil)).FailureToError(f).Error()
}

// If a server names another namespace in an activity task, nothing is opened or sealed by the
// rules of that namespace, and with the plugin the activity does not run.
func TestAnActivitysNamespaceIsTheClients(t *testing.T) {
	c, _ := newCodec(t, readerPolicy)
	foreign := encode(t, c, "other", payload(t, "foreign"))[0]
	plain, own := payload(t, "plain"), encode(t, c, "n", payload(t, "own"))[0]
	for name, options := range map[string]func(*codec.Codec, string) client.Options{"plugin": withPlugin, "converter alone": converterAlone} {
		t.Run(name, func(t *testing.T) {
			var got sights
			s := newStation(t, options(c, "n"), func(w worker.Registry) {
				w.RegisterActivityWithOptions(func(_ context.Context, in string) (string, error) {
					got.add("ran with " + in)
					return "result", nil
				}, activity.RegisterOptions{Name: "Do"})
				w.RegisterActivityWithOptions(func(ctx context.Context) error {
					got.add("ran")
					var details string
					err := activity.GetHeartbeatDetails(ctx, &details)
					got.add("read " + details)
					return err
				}, activity.RegisterOptions{Name: "Details"})
				w.RegisterActivityWithOptions(func(context.Context) (string, error) {
					got.add("ran")
					return "result", nil
				}, activity.RegisterOptions{Name: "Result"})
				w.RegisterActivityWithOptions(func(ctx context.Context) error {
					got.add("ran")
					activity.RecordHeartbeat(ctx, "beat")
					return nil
				}, activity.RegisterOptions{Name: "Beat"})
			})
			for i, tc := range []struct {
				kind, namespace string
				in, details     *commonpb.Payload
				want            []string // what the activity received if it ran
			}{
				{"Do", "n", own, nil, []string{"ran with own"}},
				{"Do", "", own, nil, []string{"ran with own"}},
				{"Details", "n", nil, own, []string{"ran", "read own"}},
				{"Beat", "n", nil, nil, []string{"ran"}},
				{"Do", "other", plain, nil, nil},
				{"Do", "other", foreign, nil, nil},
				{"Do", "other", own, nil, nil},
				{"Do", "nameless", foreign, nil, nil},
				{"Details", "other", nil, plain, []string{"ran", "read "}},
				{"Details", "other", nil, foreign, []string{"ran", "read "}},
				{"Result", "other", nil, nil, []string{"ran"}},
				{"Beat", "other", nil, nil, []string{"ran"}},
			} {
				t.Run(fmt.Sprint(i, " ", tc.kind, " in ", tc.namespace), func(t *testing.T) {
					task := activityTask(fmt.Sprint(name, i), tc.namespace)
					task.ActivityType.Name = tc.kind
					if task.Input = nil; tc.in != nil {
						task.Input = payloads(tc.in)
					}
					if tc.details != nil {
						task.HeartbeatDetails = payloads(tc.details)
					}
					out := s.do("activity", task)
					ours := tc.namespace == "n" || tc.namespace == ""
					want := tc.want
					if !ours && name == "plugin" {
						want = nil
					}
					if saw := got.take(); !slices.Equal(saw, want) {
						t.Errorf("the activity saw %q, want %q", saw, want)
					}
					if ours {
						if done, ok := out.(*workflowservice.RespondActivityTaskCompletedRequest); !ok || len(done.GetResult().GetPayloads()) > 0 && codec.KeyIDs(done.GetResult().GetPayloads()[0])[0] != "fake://a@1" {
							t.Errorf("the worker answers %.300v", out)
						}
						return
					}
					failed, ok := out.(*workflowservice.RespondActivityTaskFailedRequest)
					if !ok {
						t.Fatalf("the worker answers %.300v", out)
					}
					for _, p := range payloadsIn(t, failed) {
						if id := codec.KeyIDs(p); len(id) != 1 || id[0] != "fake://a@1" {
							t.Errorf("sealed under %q", id)
						}
					}
					message := messageOf(t, c, "n", failed.GetFailure())
					if !strings.Contains(message, "denied") || !strings.Contains(message, `task of namespace "`+tc.namespace+`", and the client's is "n"`) {
						t.Errorf("it fails with %q", message)
					}
				})
			}
		})
	}
}

// The same holds for tasks in the response to a workflow task's completion.
func TestAnEagerActivitysNamespaceIsTheClients(t *testing.T) {
	c, _ := newCodec(t, readerPolicy)
	var got sights
	s := newStation(t, withPlugin(c, "n"), func(w worker.Registry) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			return workflow.ExecuteActivity(workflow.WithStartToCloseTimeout(ctx, time.Minute), "Do", "input").Get(ctx, nil)
		}, workflow.RegisterOptions{Name: "Order"})
		w.RegisterActivityWithOptions(func(_ context.Context, in string) error {
			got.add("ran with " + in)
			return nil
		}, activity.RegisterOptions{Name: "Do"})
	})
	s.answers(func(req, reply proto.Message) {
		r, ok := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
		if !ok || !r.GetCommands()[0].GetScheduleActivityTaskCommandAttributes().GetRequestEagerExecution() {
			return
		}
		eager := activityTask("eager", "other", encode(t, c, "other", payload(t, "foreign"))...)
		reply.(*workflowservice.RespondWorkflowTaskCompletedResponse).ActivityTasks = []*workflowservice.PollActivityTaskQueueResponse{eager}
	})
	s.do("workflow", begun().poll("start"))
	failed, ok := s.answer("eager").(*workflowservice.RespondActivityTaskFailedRequest)
	if !ok || len(got.take()) > 0 || !strings.Contains(messageOf(t, c, "n", failed.GetFailure()), `task of namespace "other"`) {
		t.Errorf("the worker answers %.300v", failed)
	}
}

func payloadsIn(t *testing.T, m proto.Message) (all []*commonpb.Payload) {
	t.Helper()
	if err := findPayloads(m.ProtoReflect(), "", func(_ string, p *commonpb.Payload) error {
		all = append(all, p)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A parent reads the payloads of a child in another namespace by its own rules.
func TestAParentReadsByItsOwnRules(t *testing.T) {
	c, _ := newCodec(t, readerPolicy)
	plain, foreign := payload(t, "plain"), encode(t, c, "other", payload(t, "foreign"))[0]
	fc := codec.NewFailureConverter(codec.NewDataConverter(c, "other", nil))
	failure := fc.ErrorToFailure(errors.New("foreign"))
	for _, tc := range []struct {
		name, namespace string
		result          *commonpb.Payload
		failure         *failurepb.Failure
		want            string
	}{
		{"result, not accepted", "n", foreign, nil, `sealed for namespace "other", not for "n"`},
		{"result, accepted", "friendly", foreign, nil, "read foreign"},
		{"plaintext result", "n", plain, nil, "not sealed"},
		{"plaintext result of one that is accepted", "friendly", plain, nil, "not sealed"},
		{"failure, not accepted", "n", nil, failure, `sealed for namespace "other", not for "n"`},
		{"failure, accepted", "friendly", nil, failure, "startedEventID: 6): foreign"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got sights
			s := newStation(t, withPlugin(c, tc.namespace), func(w worker.Registry) {
				w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
					ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: "child", Namespace: "other"}) //nolint:staticcheck // deprecated, and still there
					var result string
					err := workflow.ExecuteChildWorkflow(ctx, "Child", "input").Get(ctx, &result)
					got.add(fmt.Sprintf("read %s, error %v", result, err))
					return nil
				}, workflow.RegisterOptions{Name: "Order"})
			})
			// The child reads the input.
			done := s.do("workflow", begun().poll("start")).(*workflowservice.RespondWorkflowTaskCompletedRequest)
			start := done.GetCommands()[0].GetStartChildWorkflowExecutionCommandAttributes()
			if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "other"}, start.GetInput().GetPayloads())[0]; d.Err != nil || d.Namespace != "other" {
				t.Fatalf("the child's input: %v, of namespace %q", d.Err, d.Namespace)
			}
			h := begun().task()
			h.child("other", tc.result, tc.failure)
			out := s.do("workflow", h.poll("end"))
			if done, ok := out.(*workflowservice.RespondWorkflowTaskCompletedRequest); !ok || done.GetCommands()[0].GetCommandType() != enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION {
				t.Fatalf("the worker answers %.300v", out)
			}
			if saw := got.take(); len(saw) != 1 || !strings.Contains(saw[0], tc.want) {
				t.Errorf("the parent saw %q, want %q", saw, tc.want)
			}
		})
	}
}

// child adds a child "child" that ends.
func (h *history) child(namespace string, result *commonpb.Payload, failure *failurepb.Failure) {
	execution, kind := &commonpb.WorkflowExecution{WorkflowId: "child", RunId: "child-run"}, &commonpb.WorkflowType{Name: "Child"}
	initiated := int64(len(h.events) + 1)
	h.add(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED, &historypb.StartChildWorkflowExecutionInitiatedEventAttributes{
		Namespace: namespace, WorkflowId: "child", WorkflowType: kind, WorkflowTaskCompletedEventId: initiated - 1,
	})
	h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, &historypb.ChildWorkflowExecutionStartedEventAttributes{
		Namespace: namespace, InitiatedEventId: initiated, WorkflowExecution: execution, WorkflowType: kind,
	})
	if failure != nil {
		h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED, &historypb.ChildWorkflowExecutionFailedEventAttributes{
			Namespace: namespace, InitiatedEventId: initiated, StartedEventId: initiated + 1, WorkflowExecution: execution, WorkflowType: kind, Failure: failure,
		})
		return
	}
	h.add(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, &historypb.ChildWorkflowExecutionCompletedEventAttributes{
		Namespace: namespace, InitiatedEventId: initiated, StartedEventId: initiated + 1, WorkflowExecution: execution, WorkflowType: kind, Result: payloads(result),
	})
}

// Clients of several namespaces may share a connection and its guard: the request names the
// reader.
func TestHeadersOpenForTheRequestingClient(t *testing.T) {
	c, _ := newCodec(t, readerPolicy)
	for requested, opens := range map[string]bool{"n": false, "other": true, "friendly": true, "": false} {
		in := new(workflowservice.GetWorkflowExecutionHistoryResponse)
		err := codec.NewGuard(c, "n").Unary(t.Context(), "/s/GetWorkflowExecutionHistory", &workflowservice.GetWorkflowExecutionHistoryRequest{
			Namespace: requested, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT,
		}, in,
			func(_ context.Context, _ string, _, reply any) error {
				h := new(history).add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, &historypb.WorkflowExecutionStartedEventAttributes{
					Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": encode(t, c, "other", payload(t, "header"))[0]}},
				})
				reply.(*workflowservice.GetWorkflowExecutionHistoryResponse).History = &historypb.History{Events: h.events}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		if got := payloadsIn(t, in)[0]; codec.ClaimsSealed(got) == opens {
			t.Errorf("for %q: %v", requested, got)
		}
	}
}

// A program may complete an activity in another namespace: then the result is for that
// namespace.
func TestAClientMayAddressAnotherNamespace(t *testing.T) {
	c, _ := newCodec(t, readerPolicy)
	s := newStation(t, withPlugin(c, "n"), func(w worker.Registry) {
		w.RegisterWorkflowWithOptions(func(workflow.Context) error { return nil }, workflow.RegisterOptions{Name: "Order"})
	})
	if err := s.client.CompleteActivityByID(t.Context(), "other", "w", "", "a", "result", nil); err != nil {
		t.Fatal(err)
	}
	for req := range s.sent {
		if r, ok := req.(*workflowservice.RespondActivityTaskCompletedByIdRequest); ok {
			if id := codec.KeyIDs(r.GetResult().GetPayloads()[0])[0]; id != "fake://b@1" {
				t.Errorf("sealed under %s", id)
			}
			return
		}
	}
}

// A converter without a namespace would open payloads in a task for the namespace that the
// server states.
func TestAReaderIsKnown(t *testing.T) {
	c, _ := newCodec(t, readerPolicy)
	nameless := codec.NewDataConverter(c, "", nil)
	foreign := encode(t, c, "other", payload(t, "foreign"))[0]
	for name, sc := range map[string]converter.SerializationContext{
		"activity": converter.ActivitySerializationContext{Namespace: "other", ActivityType: "Do"},
		"workflow": converter.WorkflowSerializationContext{Namespace: "other", WorkflowID: "w"},
		"Nexus":    converter.NexusSerializationContext{Endpoint: "e"},
	} {
		err := converter.WithDataConverterSerializationContext(nameless, sc).FromPayload(foreign, new(string))
		wantClass(t, err, kms.Denied)
		var refused *codec.TaskNamespaceError
		if !errors.As(err, &refused) || refused.Known != "" || !strings.Contains(refused.Hint(), "codec.NewDataConverter") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTaskNamespaceErrorAdvises(t *testing.T) {
	e := &codec.TaskNamespaceError{Known: "n", Stated: "other"}
	if !strings.Contains(e.Error(), `"n"`) || !strings.Contains(e.Error(), `"other"`) || !strings.Contains(e.Hint(), "alters tasks") {
		t.Errorf("%v: %s", e, e.Hint())
	}
}

// Two clusters may use the same names, and even the same task tokens.
func TestTasksOfTwoClustersAreKeptApart(t *testing.T) {
	c, backend := newCodec(t, stubbornPolicy)
	register := func(w worker.Registry) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) {
			return "", workflow.SideEffect(ctx, func(workflow.Context) any { return "CANARY" }).Get(new(string))
		}, workflow.RegisterOptions{Name: "Order"})
	}
	stations := []*station{newStation(t, withPlugin(c, "n"), register), newStation(t, withPlugin(c, "n"), register)}
	backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	again := func() *workflowservice.PollWorkflowTaskQueueResponse {
		task := begun().poll("token")
		task.Attempt = 2 // the SDK does not report the failure of that attempt
		return task
	}
	for _, s := range stations {
		s.server.queue("workflow", scriptQueue) <- again()
	}
	for i, s := range stations {
		if failed, ok := s.answer("token").(*workflowservice.RespondWorkflowTaskFailedRequest); !ok || !strings.Contains(failed.GetFailure().GetMessage(), "workflow task held") {
			t.Errorf("cluster %d hears %v", i, failed)
		}
	}
}

// A client that was made from another one shares its connection and its guard.
func TestTasksOfADerivedClientAreReported(t *testing.T) {
	c, backend := newCodec(t, stubbornPolicy)
	s := newStation(t, withPlugin(c, "n"), func(w worker.Registry) {
		w.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "Do"})
	})
	derived, err := client.NewClientFromExistingWithContext(t.Context(), s.client, quiet(withPlugin(c, "derived")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(derived.Close)
	w := worker.New(derived, "derived", worker.Options{MaxConcurrentWorkflowTaskPollers: 2})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) {
		return "", workflow.SideEffect(ctx, func(workflow.Context) any { return "CANARY" }).Get(new(string))
	}, workflow.RegisterOptions{Name: "Order"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	task := begun().poll("token")
	task.Attempt = 2
	s.server.queue("workflow", "derived") <- task
	if failed, ok := s.answer("token").(*workflowservice.RespondWorkflowTaskFailedRequest); !ok || !strings.Contains(failed.GetFailure().GetMessage(), "workflow task held") || failed.GetNamespace() != "derived" {
		t.Errorf("the server hears %v", failed)
	}
}
