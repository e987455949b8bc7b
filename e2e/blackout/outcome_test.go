package blackout

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var healed = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// written is a history, written one event after the other.
type written []*historypb.HistoryEvent

// at adds an event that happened so long after the KMS was back.
func (w *written) at(after time.Duration, kind enumspb.EventType) *historypb.HistoryEvent {
	e := &historypb.HistoryEvent{EventId: int64(len(*w) + 1), EventTime: timestamppb.New(healed.Add(after)), EventType: kind}
	*w = append(*w, e)
	return e
}

func (w *written) activity(scheduled, done time.Duration, name string, end enumspb.EventType) {
	s := w.at(scheduled, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
	s.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
		ActivityType: &commonpb.ActivityType{Name: name},
	}}
	e := w.at(done, end)
	if end == enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{ScheduledEventId: s.EventId}}
		return
	}
	e.Attributes = &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: s.EventId}}
}

const (
	started   = enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
	scheduled = enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
	taskFails = enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED
	completed = enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
)

// TestResumption writes histories of workflows that were held, or were not.
func TestResumption(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		name              string
		write             func(*written)
		tasks, activities []time.Duration
	}{
		{"never held", func(w *written) {
			w.at(-60*s, scheduled)
			w.at(-59*s, completed)
			w.at(20*s, scheduled)
			w.at(21*s, completed)
		}, nil, nil},
		{"held, and tried again", func(w *written) {
			w.at(-60*s, scheduled)
			w.at(-59*s, taskFails)
			w.at(4*s, scheduled)
			w.at(5*s, completed)
			w.at(30*s, scheduled)
			w.at(31*s, completed)
		}, []time.Duration{5 * s}, nil},
		{"no worker was there", func(w *written) {
			w.at(-60*s, scheduled)
			w.at(7*s, completed)
		}, []time.Duration{7 * s}, nil},
		{"failed and was done in the outage", func(w *written) {
			w.at(-60*s, scheduled)
			w.at(-59*s, taskFails)
			w.at(-50*s, scheduled)
			w.at(-49*s, completed)
		}, nil, nil},
		{"activities", func(w *written) {
			w.activity(-60*s, -50*s, workType, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
			w.activity(-40*s, 6*s, workType, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
			w.activity(-30*s, 8*s, refuseType, enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED)
			w.activity(-20*s, 90*s, beatType, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
			w.activity(-20*s, 90*s, onceType, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
			w.activity(1*s, 2*s, workType, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
		}, nil, []time.Duration{6 * s, 8 * s}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var w written
			w.at(-100*s, started)
			tc.write(&w)
			var o outcome
			o.resumption(w, healed)
			if diff := cmp.Diff(tc.tasks, o.tasks); diff != "" {
				t.Error("tasks", diff)
			}
			if diff := cmp.Diff(tc.activities, o.activities); diff != "" {
				t.Error("activities", diff)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	dc := converter.GetDefaultDataConverter()
	p := Plan{N: 3, Signals: 1}
	payloads := func(value any) *commonpb.Payloads {
		out, err := dc.ToPayloads(value)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	sealedMessage, err := dc.ToPayload(map[string]string{"message": "inner words"})
	if err != nil {
		t.Fatal(err)
	}
	ends := func(result *commonpb.Payloads) func(*written) {
		return func(w *written) {
			w.at(time.Second, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED).Attributes = &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
				WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: result},
			}
		}
	}
	for _, tc := range []struct {
		name  string
		write func(*written)
		fate  fate
		says  string
		open  bool
	}{
		{"right", ends(payloads(p.want())), right, "", true},
		{"wrong", ends(payloads(Result{N: 4})), wrong, "want", true},
		{"unreadable", ends(payloads("text")), wrong, "cannot be read", true},
		{"failed", func(w *written) {
			w.at(-time.Second, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED).Attributes = &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{
				WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{Failure: &failurepb.Failure{
					Message: "outer", Cause: &failurepb.Failure{Message: "Encoded failure", EncodedAttributes: sealedMessage},
				}},
			}
		}, failed, "failed: outer: inner words", false},
		{"timed out", func(w *written) { w.at(time.Second, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT) }, failed, "TimedOut", true},
		{"open", func(w *written) { w.at(-time.Second, completed) }, open, "still open after 2 events", true},
		{"never started", func(w *written) { *w = nil }, notStarted, "no history", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var w written
			w.at(-time.Minute, started)
			tc.write(&w)
			got := judge(w, p, dc, healed)
			if got.fate != tc.fate || !strings.Contains(got.problem, tc.says) || (got.problem == "") != (tc.says == "") || got.open != tc.open {
				t.Errorf("got %+v, want fate %d, %q, in flight %t", got, tc.fate, tc.says, tc.open)
			}
		})
	}
}

func TestHeldFor(t *testing.T) {
	at := func(s float64) time.Time { return healed.Add(time.Duration(s * float64(time.Second))) }
	for _, tc := range []struct {
		name              string
		told, given, done time.Time
		want              time.Duration
	}{
		{"told late", at(4), at(4), at(4.5), 4500 * time.Millisecond},
		{"told, and then it lay in the queue", at(4), at(30), at(31), 5 * time.Second},
		{"it lay in the queue when the KMS came back", at(-3), at(30), at(31), time.Second},
		{"nobody was told, so it timed out", time.Time{}, at(30), at(31), 31 * time.Second},
		{"under way when the KMS came back", at(-3), at(-1), at(2), 2 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (Resumed{Told: tc.told, Given: tc.given, Done: tc.done}).heldFor(healed); got != tc.want {
				t.Errorf("held for %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAbsent(t *testing.T) {
	if !absent(fmt.Errorf("signal: %w", serviceerror.NewNotFound("gone"))) || absent(errors.New("not found")) || absent(nil) {
		t.Error("takes another error for that of an absent workflow")
	}
}

func TestSpread(t *testing.T) {
	var all []took
	for i := range 200 {
		all = append(all, took{fmt.Sprint(i), time.Duration((i*37)%200+1) * time.Second})
	}
	want := Spread{N: 200, P50: 100, P99: 198, Max: 200, Last: "27"}
	if diff := cmp.Diff(want, spreadOf(all)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Spread{}, spreadOf(nil)); diff != "" {
		t.Error(diff)
	}
	if got := spreadOf([]took{{"one", 1234567 * time.Microsecond}}); got.P50 != 1.235 || got.Max != 1.235 || got.P99 != 1.235 {
		t.Errorf("got %+v", got)
	}
}
