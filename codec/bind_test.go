package codec_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec"
)

// Both policies record the same claims. Only the first compares them.
const (
	boundPolicy   = `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], bind: [workflowId, activityType]}]}`
	unboundPolicy = `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], claims: [workflowId, activityType]}]}`
)

func inWorkflowOf(id string) converter.SerializationContext {
	return converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: id}
}

func inActivityOf(id, kind string) converter.SerializationContext {
	return converter.ActivitySerializationContext{Namespace: "n", WorkflowID: id, WorkflowType: "Order", ActivityType: kind, TaskQueue: scriptQueue}
}

// sealedAt returns a payload that was sealed for a place of namespace "n".
func sealedAt(t *testing.T, c *codec.Codec, sc converter.SerializationContext, value any) *commonpb.Payload {
	t.Helper()
	p, err := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, "n", nil), sc).ToPayload(value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// failureTexts returns the texts of all failures in a message.
func failureTexts(t *testing.T, c *codec.Codec, m protoreflect.Message) (all []string) {
	t.Helper()
	switch v := m.Interface().(type) {
	case *failurepb.Failure:
		return []string{messageOf(t, c, "n", v)}
	case *anypb.Any:
		inner, err := v.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		return failureTexts(t, c, inner.ProtoReflect())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				all = append(all, failureTexts(t, c, v.Message())...)
				return true
			})
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				all = append(all, failureTexts(t, c, v.List().Get(i).Message())...)
			}
		default:
			all = append(all, failureTexts(t, c, v.Message())...)
		}
		return true
	})
	return all
}

// bench is a client, and a worker with a workflow and an activity that a test sets.
type bench struct {
	*station
	codec *codec.Codec
	got   sights
	code  func(ctx workflow.Context, in string) (string, error)
}

func newBench(t *testing.T, c *codec.Codec) *bench {
	t.Helper()
	b := &bench{codec: c}
	b.station = newStation(t, withPlugin(c, "n"), func(w worker.Registry) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (string, error) {
			b.got.add("input " + in)
			if b.code == nil {
				return "", nil
			}
			return b.code(ctx, in)
		}, workflow.RegisterOptions{Name: "Order"})
		w.RegisterActivityWithOptions(func(ctx context.Context, in string) (string, error) {
			b.got.add("activity input " + in)
			var details string
			if err := activity.GetHeartbeatDetails(ctx, &details); err == nil || activity.HasHeartbeatDetails(ctx) {
				b.note("details", details, err)
			}
			return "of the activity", nil
		}, activity.RegisterOptions{Name: "Do"})
	})
	return b
}

func (b *bench) note(what, value string, err error) {
	b.got.add(fmt.Sprintf("%s %s, error %v", what, value, err))
}

// outcome lets the worker do a task, and returns what user code received and what failed.
func (b *bench) outcome(kind string, task proto.Message) string {
	b.t.Helper()
	answer := b.do(kind, task)
	return strings.Join(append(b.got.take(), failureTexts(b.t, b.codec, answer.ProtoReflect())...), "; ")
}

// marker adds a marker as the server records it.
func (h *history) marker(name string, details map[string]*commonpb.Payloads) *history {
	return h.add(enumspb.EVENT_TYPE_MARKER_RECORDED, &historypb.MarkerRecordedEventAttributes{MarkerName: name, Details: details, WorkflowTaskCompletedEventId: int64(len(h.events))})
}

// activity adds an activity "Do" that ends with a result.
func (h *history) activity(result *commonpb.Payload) *history {
	scheduled := int64(len(h.events) + 1)
	h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, &historypb.ActivityTaskScheduledEventAttributes{ActivityId: fmt.Sprint(scheduled), ActivityType: &commonpb.ActivityType{Name: "Do"}, WorkflowTaskCompletedEventId: scheduled - 1})
	h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, &historypb.ActivityTaskStartedEventAttributes{ScheduledEventId: scheduled})
	return h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: scheduled, StartedEventId: scheduled + 1, Result: payloads(result)})
}

func (h *history) signal(p *commonpb.Payload) *history {
	return h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: "signal", Input: payloads(p)})
}

// relocations are the places to which a server may move a payload from another place.
func relocations() map[string]func(b *bench, own, moved *commonpb.Payload) string {
	return map[string]func(b *bench, own, moved *commonpb.Payload) string{
		"workflow input": func(b *bench, _, moved *commonpb.Payload) string {
			return b.outcome("workflow", begun(moved).poll("t"))
		},
		"last result": func(b *bench, own, moved *commonpb.Payload) string {
			b.code = func(ctx workflow.Context, _ string) (string, error) {
				var last string
				err := workflow.GetLastCompletionResult(ctx, &last)
				b.note("last", last, err)
				return "", nil
			}
			h := begun(own)
			h.events[0].GetWorkflowExecutionStartedEventAttributes().LastCompletionResult = payloads(moved)
			return b.outcome("workflow", h.poll("t"))
		},
		"signal": func(b *bench, own, moved *commonpb.Payload) string {
			b.code = func(ctx workflow.Context, _ string) (string, error) {
				var signal string
				err := func() (err error) {
					defer func() {
						if p := recover(); p != nil {
							err = fmt.Errorf("panic: %v", p)
						}
					}()
					workflow.GetSignalChannel(ctx, "signal").Receive(ctx, &signal)
					return nil
				}()
				b.note("signal", signal, err)
				return "", err
			}
			return b.outcome("workflow", begun(own).signal(moved).poll("t"))
		},
		"query": func(b *bench, own, moved *commonpb.Payload) string {
			b.code = func(ctx workflow.Context, _ string) (string, error) {
				return "", errors.Join(workflow.SetQueryHandler(ctx, "query", func(arg string) (string, error) {
					b.got.add("query " + arg)
					return "", nil
				}), workflow.Await(ctx, func() bool { return false }))
			}
			task := begun(own).task().poll("t")
			task.Query = &querypb.WorkflowQuery{QueryType: "query", QueryArgs: payloads(moved)}
			return b.outcome("workflow", task)
		},
		"update": func(b *bench, own, moved *commonpb.Payload) string {
			b.code = func(ctx workflow.Context, _ string) (string, error) {
				return "", errors.Join(workflow.SetUpdateHandler(ctx, "update", func(_ workflow.Context, arg string) (string, error) {
					b.got.add("update " + arg)
					return "", nil
				}), workflow.Sleep(ctx, time.Hour))
			}
			task := begun(own).poll("t")
			body, err := anypb.New(&updatepb.Request{Meta: &updatepb.Meta{UpdateId: "u"}, Input: &updatepb.Input{Name: "update", Args: payloads(moved)}})
			if err != nil {
				b.t.Fatal(err)
			}
			task.Messages = []*protocolpb.Message{{Id: "u/request", ProtocolInstanceId: "u", Body: body, SequencingId: &protocolpb.Message_EventId{EventId: 2}}}
			return b.outcome("workflow", task)
		},
		"side effect": func(b *bench, own, moved *commonpb.Payload) string {
			b.code = func(ctx workflow.Context, _ string) (string, error) {
				var value string
				err := workflow.SideEffect(ctx, func(workflow.Context) any { return "new" }).Get(&value)
				b.note("side effect", value, err)
				return "", nil
			}
			id := sealedAt(b.t, b.codec, inWorkflowOf("w"), 1)
			return b.outcome("workflow", begun(own).task().marker("SideEffect", map[string]*commonpb.Payloads{"side-effect-id": payloads(id), "data": payloads(moved)}).poll("t"))
		},
		"activity result": func(b *bench, own, moved *commonpb.Payload) string {
			b.code = func(ctx workflow.Context, in string) (string, error) {
				var result string
				err := workflow.ExecuteActivity(workflow.WithStartToCloseTimeout(ctx, time.Minute), "Do", in).Get(ctx, &result)
				b.note("result", result, err)
				return "", nil
			}
			return b.outcome("workflow", begun(own).task().activity(moved).poll("t"))
		},
		"child's result": func(b *bench, own, moved *commonpb.Payload) string {
			b.code = func(ctx workflow.Context, in string) (string, error) {
				var result string
				err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: "child"}), "Child", in).Get(ctx, &result)
				b.note("result", result, err)
				return "", nil
			}
			h := begun(own).task()
			h.child("n", moved, nil)
			return b.outcome("workflow", h.poll("t"))
		},
		"activity input": func(b *bench, _, moved *commonpb.Payload) string {
			return b.outcome("activity", activityTask("t", "n", moved))
		},
		"heartbeat details": func(b *bench, _, moved *commonpb.Payload) string {
			task := activityTask("t", "n", sealedAt(b.t, b.codec, inActivityOf("w", "Do"), "own"))
			task.HeartbeatDetails = payloads(moved)
			return b.outcome("activity", task)
		},
		"result for a client": func(b *bench, _, moved *commonpb.Payload) string {
			b.answers(func(_, reply proto.Message) {
				if r, ok := reply.(*workflowservice.GetWorkflowExecutionHistoryResponse); ok {
					h := new(history).add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, &historypb.WorkflowExecutionCompletedEventAttributes{Result: payloads(moved)})
					r.History = &historypb.History{Events: h.events}
				}
			})
			var result string
			err := b.client.GetWorkflow(b.t.Context(), "w", "run").Get(b.t.Context(), &result)
			return fmt.Sprint(result, err)
		},
		"answer to a query": func(b *bench, _, moved *commonpb.Payload) string {
			b.answers(func(_, reply proto.Message) {
				if r, ok := reply.(*workflowservice.QueryWorkflowResponse); ok {
					r.QueryResult = payloads(moved)
				}
			})
			v, err := b.client.QueryWorkflow(b.t.Context(), "w", "run", "query")
			if err != nil {
				return err.Error()
			}
			var result string
			err = v.Get(&result)
			return fmt.Sprint(result, err)
		},
		"answer to an update": func(b *bench, _, moved *commonpb.Payload) string {
			b.answers(func(_, reply proto.Message) {
				if r, ok := reply.(*workflowservice.UpdateWorkflowExecutionResponse); ok {
					r.Outcome = &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: payloads(moved)}}
				}
			})
			return b.update()
		},
	}
}

func (b *bench) update() string {
	u, err := b.client.UpdateWorkflow(b.t.Context(), client.UpdateWorkflowOptions{WorkflowID: "w", UpdateName: "update", WaitForStage: client.WorkflowUpdateStageCompleted})
	if err != nil {
		return err.Error()
	}
	var result string
	err = u.Get(b.t.Context(), &result)
	return fmt.Sprint(result, err)
}

// A payload that was sealed in one workflow cannot replace one in another.
func TestMovedPayloadsAreRefused(t *testing.T) {
	for name, relocate := range relocations() {
		t.Run(name, func(t *testing.T) {
			for yaml, refused := range map[string]bool{boundPolicy: true, unboundPolicy: false} {
				c, _ := newCodec(t, yaml)
				own, moved := sealedAt(t, c, inWorkflowOf("w"), "OWN"), sealedAt(t, c, inWorkflowOf("other"), "MOVED")
				saw := relocate(newBench(t, c), own, moved)
				why := strings.Contains(saw, `denied: codec: sealed for workflowId "other", not for`)
				if name == "signal" {
					why = refused // the SDK drops signals that do not open
				}
				if strings.Contains(saw, "MOVED") == refused || why != refused {
					t.Errorf("refused %v: %s", refused, saw)
				}
			}
		})
	}
}

// An activity's payload cannot replace one of another activity, nor one of the workflow.
func TestPayloadsOfActivitiesStayThere(t *testing.T) {
	for name, relocate := range relocations() {
		t.Run(name, func(t *testing.T) {
			for yaml, refused := range map[string]bool{boundPolicy: true, unboundPolicy: false} {
				c, _ := newCodec(t, yaml)
				id := "w"
				if name == "child's result" {
					id = "child"
				}
				own, moved := sealedAt(t, c, inWorkflowOf("w"), "OWN"), sealedAt(t, c, inActivityOf(id, "Refund"), "MOVED")
				saw := relocate(newBench(t, c), own, moved)
				why := strings.Contains(saw, `denied: codec: sealed for activityType "Refund", not for "Do"`) || strings.Contains(saw, `denied: codec: sealed for activityType "Refund", and read where there is none`)
				if name == "signal" {
					why = refused
				}
				if strings.Contains(saw, "MOVED") == refused || why != refused {
					t.Errorf("refused %v: %s", refused, saw)
				}
			}
		})
	}
}

// The SDK opens the result of an update as a result of the workflow that the answer names.
func TestAnAnswerToAnUpdateIsAboutItsWorkflow(t *testing.T) {
	c, _ := newCodec(t, boundPolicy)
	moved := sealedAt(t, c, inWorkflowOf("other"), "MOVED")
	b := newBench(t, c)
	answer := func(workflowID string) *workflowservice.UpdateWorkflowExecutionResponse {
		return &workflowservice.UpdateWorkflowExecutionResponse{
			UpdateRef: &updatepb.UpdateRef{WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: "run"}, UpdateId: "u"},
			Stage:     enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED,
			Outcome:   &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: payloads(moved)}},
		}
	}
	b.answers(func(_, reply proto.Message) {
		switch r := reply.(type) {
		case *workflowservice.UpdateWorkflowExecutionResponse:
			proto.Reset(r)
			proto.Merge(r, answer("other"))
		case *workflowservice.ExecuteMultiOperationResponse:
			for _, one := range r.GetResponses() {
				if one.GetUpdateWorkflow() != nil {
					one.Response = &workflowservice.ExecuteMultiOperationResponse_Response_UpdateWorkflow{UpdateWorkflow: answer("other")}
				}
			}
		}
	})
	const want = `denied: the answer is about workflow "other", and the request about "w"`
	if saw := b.update(); !strings.Contains(saw, want) {
		t.Errorf("update: %s", saw)
	}
	_, err := b.client.UpdateWithStartWorkflow(t.Context(), client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: b.client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: "w", TaskQueue: "elsewhere", WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, "Order"),
		UpdateOptions: client.UpdateWorkflowOptions{WorkflowID: "w", UpdateName: "update", WaitForStage: client.WorkflowUpdateStageCompleted},
	})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("update with start: %v", err)
	}
}
