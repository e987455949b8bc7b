package hostile

import (
	"fmt"
	"strings"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// history is an honest server's history of a workflow.
type history struct {
	id, kind  string
	taskQueue *taskqueuepb.TaskQueue
	events    []*historypb.HistoryEvent
	updates   map[string]*updatepb.Request // by ID
	accepted  map[string]int64             // the events that accept them
}

// attributes are fields of an event by name.
type attributes map[string]any

// add appends an event with the attributes of its type: the fields that from has under the same
// name, and those in more.
func (h *history) add(kind enumspb.EventType, from proto.Message, more attributes) *historypb.HistoryEvent {
	e := &historypb.HistoryEvent{EventId: int64(len(h.events) + 1), EventType: kind, EventTime: timestamppb.Now()}
	name := strings.ToLower(strings.TrimPrefix(enumName(kind), "EVENT_TYPE_")) + "_event_attributes"
	field := e.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
	if field == nil {
		panic("no attributes " + name) // a mistake in a scene
	}
	to := e.ProtoReflect().Mutable(field).Message()
	if from != nil {
		from.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch same := to.Descriptor().Fields().ByName(f.Name()); {
			case same == nil || same.IsMap() != f.IsMap():
			case f.IsMap():
				entries := to.Mutable(same).Map()
				v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
					entries.Set(k, v)
					return true
				})
			case same.Kind() == f.Kind() && same.Message() == f.Message():
				to.Set(same, v)
			}
			return true
		})
	}
	for name, value := range more {
		f := to.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			panic(fmt.Sprintf("no field %s in %s", name, to.Descriptor().Name()))
		}
		switch v := value.(type) {
		case proto.Message:
			to.Set(f, protoreflect.ValueOfMessage(v.ProtoReflect()))
		case protoreflect.Enum:
			to.Set(f, protoreflect.ValueOfEnum(v.Number()))
		default:
			to.Set(f, protoreflect.ValueOf(v))
		}
	}
	h.events = append(h.events, e)
	return e
}

func enumName(k enumspb.EventType) string {
	return string(k.Descriptor().Values().ByNumber(k.Number()).Name())
}

// begin adds the events of a workflow task that a worker receives.
func (h *history) begin() {
	scheduled := h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, nil, attributes{"task_queue": h.taskQueue, "attempt": int32(1), "start_to_close_timeout": durationpb.New(taskTimeout)})
	h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, nil, attributes{"scheduled_event_id": scheduled.GetEventId()})
}

// task returns the begun task, with the whole history.
func (h *history) task() *workflowservice.PollWorkflowTaskQueueResponse {
	return &workflowservice.PollWorkflowTaskQueueResponse{
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: h.id, RunId: "run"}, WorkflowType: &commonpb.WorkflowType{Name: h.kind}, Attempt: 1, ScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(), WorkflowExecutionTaskQueue: h.taskQueue,
		History: &historypb.History{Events: cloneEvents(h.events)},
	}
}

// startsOf returns the events at which the last task of a history and the one before it were
// started.
func startsOf(events []*historypb.HistoryEvent) (last, before int64) {
	for _, e := range events {
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED {
			last, before = e.GetEventId(), last
		}
	}
	return last, before
}

func cloneEvents(events []*historypb.HistoryEvent) []*historypb.HistoryEvent {
	return proto.CloneOf(&historypb.History{Events: events}).GetEvents()
}

// commandEvents maps commands to their events.
var commandEvents = map[enumspb.CommandType]enumspb.EventType{
	enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:                     enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
	enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK:               enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
	enumspb.COMMAND_TYPE_START_TIMER:                                enumspb.EVENT_TYPE_TIMER_STARTED,
	enumspb.COMMAND_TYPE_CANCEL_TIMER:                               enumspb.EVENT_TYPE_TIMER_CANCELED,
	enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:                enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
	enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:                    enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
	enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:                  enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
	enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:         enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
	enumspb.COMMAND_TYPE_RECORD_MARKER:                              enumspb.EVENT_TYPE_MARKER_RECORDED,
	enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION:             enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
	enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION:         enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
	enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION: enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
	enumspb.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:          enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
	enumspb.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES:                 enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
	enumspb.COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION:                   enumspb.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED,
	enumspb.COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION:             enumspb.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED,
}

// complete adds the events of a worker's answer to a task, and returns those that wait for
// something to happen.
func (h *history) complete(r *workflowservice.RespondWorkflowTaskCompletedRequest) (pending []*historypb.HistoryEvent) {
	started := h.events[len(h.events)-1].GetEventId()
	done := h.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, r, attributes{"started_event_id": started, "scheduled_event_id": started - 1})
	for _, c := range r.GetCommands() {
		if c.GetCommandType() == enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE {
			h.message(r, c.GetProtocolMessageCommandAttributes().GetMessageId())
			continue
		}
		kind, ok := commandEvents[c.GetCommandType()]
		if !ok {
			panic("no event for " + c.GetCommandType().String())
		}
		e := h.add(kind, commandAttributes(c), attributes{"workflow_task_completed_event_id": done.GetEventId()})
		e.UserMetadata = c.GetUserMetadata()
		if a := e.GetSignalExternalWorkflowExecutionInitiatedEventAttributes(); a != nil {
			a.WorkflowExecution = c.GetSignalExternalWorkflowExecutionCommandAttributes().GetExecution()
		}
		if a := e.GetNexusOperationScheduledEventAttributes(); a != nil {
			a.RequestId = fmt.Sprint("request-", e.GetEventId())
		}
		pending = append(pending, e)
	}
	return pending
}

// commandAttributes returns the attributes of a command.
func commandAttributes(c *commandpb.Command) proto.Message {
	m := c.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("attributes"))
	return m.Get(field).Message().Interface()
}

// message adds the event of an answer to an update.
func (h *history) message(r *workflowservice.RespondWorkflowTaskCompletedRequest, id string) {
	for _, m := range r.GetMessages() {
		if m.GetId() != id {
			continue
		}
		body, err := m.GetBody().UnmarshalNew()
		if err != nil {
			panic(err)
		}
		switch b := body.(type) {
		case *updatepb.Acceptance:
			e := h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, b, attributes{
				"protocol_instance_id": m.GetProtocolInstanceId(), "accepted_request": h.updates[m.GetProtocolInstanceId()],
			})
			if h.accepted == nil {
				h.accepted = make(map[string]int64)
			}
			h.accepted[m.GetProtocolInstanceId()] = e.GetEventId()
		case *updatepb.Response:
			h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED, b, attributes{"accepted_event_id": h.accepted[m.GetProtocolInstanceId()]})
		}
	}
}

// insert puts an event before the one at an index, and adjusts the IDs of the later ones and
// the references to them.
func insert(events []*historypb.HistoryEvent, at int, e *historypb.HistoryEvent) []*historypb.HistoryEvent {
	from := events[at].GetEventId()
	for _, later := range events {
		shift(later.ProtoReflect(), from)
	}
	e.EventId = from
	return append(append(append([]*historypb.HistoryEvent{}, events[:at]...), e), events[at:]...)
}

// shift adds one to every event ID in a message that is at least from.
func shift(m protoreflect.Message, from int64) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.Int64Kind && strings.HasSuffix(string(f.Name()), "event_id") && v.Int() >= from:
			m.Set(f, protoreflect.ValueOfInt64(v.Int()+1))
		case f.Message() != nil && !f.IsList() && !f.IsMap():
			shift(v.Message(), from)
		}
		return true
	})
}
