package blackout

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
)

// fate is how a workflow ended.
type fate uint8

const (
	right fate = iota
	wrong
	failed
	open
	notStarted
)

// outcome is what the server's record says of one workflow.
type outcome struct {
	fate    fate
	problem string
	ended   time.Duration // when, from there; of those that completed
	open    bool          // it was in flight when the KMS came back
	// tasks and activities are how long after the KMS was back what had been
	// pending then was done: the workflow task, and each activity.
	tasks, activities []time.Duration
	run               string
}

// history fetches all events of a workflow's run, the latest with that ID.
func history(ctx context.Context, service workflowservice.WorkflowServiceClient, namespace, id string) ([]*historypb.HistoryEvent, error) {
	req := &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id}}
	var events []*historypb.HistoryEvent
	for {
		page, err := service.GetWorkflowExecutionHistory(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("blackout: read the history of %s: %w", id, err)
		}
		events = append(events, page.GetHistory().GetEvents()...)
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			return events, nil
		}
	}
}

// judge reads the history of the workflow with a plan. healed is when the KMS was
// back, by the clock that the server shares with us.
func judge(events []*historypb.HistoryEvent, p Plan, dc converter.DataConverter, healed time.Time) outcome {
	var o outcome
	o.resumption(events, healed)
	if len(events) == 0 {
		o.fate, o.problem = notStarted, "has no history"
		return o
	}
	last := events[len(events)-1]
	o.open = events[0].GetEventTime().AsTime().Before(healed) && last.GetEventTime().AsTime().After(healed)
	switch last.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		o.ended = last.GetEventTime().AsTime().Sub(healed)
		var got Result
		if err := dc.FromPayloads(last.GetWorkflowExecutionCompletedEventAttributes().GetResult(), &got); err != nil {
			o.fate, o.problem = wrong, fmt.Sprintf("its result cannot be read: %v", err)
		} else if o.problem = p.check(got); o.problem != "" {
			o.fate = wrong
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		o.fate, o.problem = failed, "failed: "+chain(last.GetWorkflowExecutionFailedEventAttributes().GetFailure(), dc)
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		o.fate, o.problem = failed, "ended with "+last.GetEventType().String()
	default:
		o.open = events[0].GetEventTime().AsTime().Before(healed)
		o.fate, o.problem = open, fmt.Sprintf("is still open after %d events, the last of which is %s", len(events), last.GetEventType())
	}
	return o
}

// chain returns the messages of a failure and its causes. The payloads are test
// data, so they may be shown.
func chain(f *failurepb.Failure, dc converter.DataConverter) string {
	var text string
	for link := f; link != nil; link = link.GetCause() {
		message := link.GetMessage()
		var common struct {
			Message string `json:"message"`
		}
		if sealed := link.GetEncodedAttributes(); sealed != nil && dc.FromPayload(sealed, &common) == nil {
			message = common.Message
		}
		if text != "" {
			text += ": "
		}
		text += message
	}
	return text
}

// resumption finds what was pending when the KMS came back, and when it was done.
func (o *outcome) resumption(events []*historypb.HistoryEvent, healed time.Time) {
	var task time.Time // when the workflow task that is pending was first scheduled
	activities := make(map[int64]time.Time)
	for _, e := range events {
		at := e.GetEventTime().AsTime()
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			o.run = e.GetWorkflowExecutionStartedEventAttributes().GetOriginalExecutionRunId()
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
			// A task that is tried again is scheduled again, in the record.
			if task.IsZero() {
				task = at
			}
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			if task.Before(healed) && at.After(healed) {
				o.tasks = append(o.tasks, at.Sub(healed))
			}
			task = time.Time{}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			// Those of long activities end when their work is done.
			switch e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() {
			case workType, refuseType:
				activities[e.GetEventId()] = at
			}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
			of := e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId() + e.GetActivityTaskFailedEventAttributes().GetScheduledEventId()
			if since, ok := activities[of]; ok && since.Before(healed) && at.After(healed) {
				o.activities = append(o.activities, at.Sub(healed))
			}
		default: // says nothing of what is pending
		}
	}
}

// absent reports whether err says that there is no such workflow.
func absent(err error) bool {
	_, ok := errors.AsType[*serviceerror.NotFound](err)
	return ok
}
