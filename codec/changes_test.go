package codec_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
)

// versioned is a workflow that takes a change, waits for a signal, and takes another one.
func versioned(ctx workflow.Context) error {
	if workflow.GetVersion(ctx, "first", workflow.DefaultVersion, 2) == 2 {
		workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
	}
	workflow.GetVersionWithOptions(ctx, "new-fees", workflow.DefaultVersion, 1, workflow.GetVersionOptions{})
	return workflow.Await(ctx, func() bool { return false })
}

func startVersioned(t *testing.T, retired ...string) *outgoing {
	t.Helper()
	o := newOutgoing(t, retired...)
	o.start(func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(versioned, workflow.RegisterOptions{Name: "Workflow"})
	})
	return o
}

// versionMarker is the marker of workflow.GetVersion.
func versionMarker(id, version *commonpb.Payloads) *historypb.HistoryEvent {
	return markerEvent("Version", map[string]*commonpb.Payloads{"change-id": id, "version": version})
}

func upsertEvent(t testing.TB, changes ...string) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, Attributes: &historypb.HistoryEvent_UpsertWorkflowSearchAttributesEventAttributes{
		UpsertWorkflowSearchAttributesEventAttributes: &historypb.UpsertWorkflowSearchAttributesEventAttributes{
			WorkflowTaskCompletedEventId: 4, SearchAttributes: &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"TemporalChangeVersion": payload(t, changes)}},
		},
	}}
}

// changesSent returns the changes in the next completion.
func changesSent(o *outgoing) (sent []string) {
	o.Helper()
	for _, command := range wait[*workflowservice.RespondWorkflowTaskCompletedRequest](o).GetCommands() {
		if p := command.GetUpsertWorkflowSearchAttributesCommandAttributes().GetSearchAttributes().GetIndexedFields()["TemporalChangeVersion"]; p != nil {
			if err := converter.GetDefaultDataConverter().FromPayload(p, &sent); err != nil {
				o.Error(err)
			}
		}
	}
	slices.Sort(sent)
	return sent
}

// Without the guard, the server could read any sealed string and integer through a version
// marker.
func TestVersionMarkersLeakNothing(t *testing.T) {
	for name, marker := range map[string]func(o *outgoing) *historypb.HistoryEvent{
		"a string and an integer": func(o *outgoing) *historypb.HistoryEvent {
			return versionMarker(o.sealed(o.secret("iban")), o.sealed(secretNumber))
		},
		"a string": func(o *outgoing) *historypb.HistoryEvent {
			return versionMarker(o.sealed(o.secret("iban")), o.sealed(1))
		},
		"an integer, of no change": func(o *outgoing) *historypb.HistoryEvent { return versionMarker(o.sealed(1), o.sealed(secretNumber)) },
		"an integer, of a named change": func(o *outgoing) *historypb.HistoryEvent {
			return versionMarker(o.sealed("new-fees"), o.sealed(secretNumber))
		},
		"an integer, of a retired one": func(o *outgoing) *historypb.HistoryEvent {
			return versionMarker(o.sealed("gone"), o.sealed(secretNumber))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := startVersioned(t, "gone-3")
			o.give("workflow", outgoingQueue, o.workflowTask(nil, versionMarker(o.sealed("first"), o.sealed(2)), upsertEvent(t, "first-2"), marker(o), signalEvent("go on", nil)))
			text := o.failed()
			if name == "an integer, of a named change" { // workflow.GetVersion itself refuses it
				return
			}
			for _, want := range []string{"TemporalChangeVersion: denied", "RetiredChanges"} {
				if !strings.Contains(text, want) {
					t.Errorf("the task fails with %q, want %q in it", text, want)
				}
			}
		})
	}
}

// A change that code names, or that Config.RetiredChanges lists, leaves: in the first worker of
// a workflow, in one that has the workflow in its cache, and in one that replays it.
func TestChangesOfTheProgramLeave(t *testing.T) {
	o := startVersioned(t, "gone-3")
	fresh := o.workflowTask(nil)
	o.give("workflow", outgoingQueue, fresh)
	if got := changesSent(o); !slices.Equal(got, []string{"first-2"}) {
		t.Errorf("a new workflow: %q", got)
	}
	cached := proto.CloneOf(fresh)
	cached.TaskToken, cached.PreviousStartedEventId = []byte("second"), 3
	cached.History = o.history(nil, versionMarker(o.sealed("first"), o.sealed(2)), upsertEvent(t, "first-2"), signalEvent("go on", nil))
	cached.StartedEventId = int64(len(cached.GetHistory().GetEvents()))
	cached.History.Events = cached.GetHistory().GetEvents()[3:]
	o.give("workflow", outgoingQueue, cached)
	if got := changesSent(o); !slices.Equal(got, []string{"first-2", "new-fees-1"}) {
		t.Errorf("a cached workflow: %q", got)
	}

	another := startVersioned(t, "gone-3")
	another.give("workflow", outgoingQueue, another.workflowTask(nil,
		versionMarker(another.sealed("gone"), another.sealed(3)), upsertEvent(t, "gone-3"),
		versionMarker(another.sealed("first"), another.sealed(2)), upsertEvent(t, "first-2", "gone-3"), signalEvent("go on", nil)))
	if got := changesSent(another); !slices.Equal(got, []string{"first-2", "gone-3", "new-fees-1"}) {
		t.Errorf("a replayed workflow: %q", got)
	}
}

// After a refused completion the workflow is replayed, and fails again: the SDK's cache keeps
// nothing of it that a later task would send.
func TestRefusedChangesStayRefused(t *testing.T) {
	o := startVersioned(t)
	task := o.workflowTask(nil, versionMarker(o.sealed("first"), o.sealed(2)), upsertEvent(t, "first-2"), versionMarker(o.sealed(o.secret("iban")), o.sealed(1)), signalEvent("go on", nil))
	for attempt := range int32(3) {
		task = proto.CloneOf(task)
		task.TaskToken, task.Attempt = fmt.Append(nil, "attempt-", attempt), 1
		o.give("workflow", outgoingQueue, task)
		if text := o.failed(); !strings.Contains(text, "denied") {
			t.Errorf("attempt %d: %s", attempt, text)
		}
	}
}
