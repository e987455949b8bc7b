package e2e

import (
	"context"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
)

// foreignQueue is where the activity runs that returns what is not ours.
const foreignQueue = "foreign"

// TestForeignNamespace gives workflows payloads sealed for another namespace. That counts
// as denied, but no KMS was called and waiting does not help: it is an error,
// and holds nothing.
func TestForeignNamespace(t *testing.T) {
	t.Parallel()
	h := newHolding(t, holdPlain)
	sealed, err := codec.NewDataConverter(h.codec(t), "elsewhere", nil).ToPayload("CANARY")
	if err != nil {
		t.Fatal(err)
	}
	foreign := converter.NewRawValue(sealed)
	c := h.sealing(t)
	w := worker.New(c, holdQueue, worker.Options{})
	register := func(name string, f any) {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	register("Input", func(_ workflow.Context, in string) (string, error) { return in, nil })
	register("Result", func(ctx workflow.Context) (out string, err error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: foreignQueue, StartToCloseTimeout: resumesWithin})
		err = workflow.ExecuteActivity(ctx, "Foreign").Get(ctx, &out)
		return out, err
	})
	register("Signal", func(ctx workflow.Context) (out string, err error) {
		workflow.Go(ctx, func(ctx workflow.Context) { workflow.GetSignalChannel(ctx, "signal").Receive(ctx, &out) })
		waitForEnd(ctx)
		return "got " + out, nil
	})
	other := worker.New(h.bare, foreignQueue, worker.Options{})
	other.RegisterActivityWithOptions(func(context.Context) (converter.RawValue, error) { return foreign, nil }, activity.RegisterOptions{Name: "Foreign"})
	for _, w := range []worker.Worker{w, other} {
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
	}
	for _, tc := range []struct {
		workflow string
		input    []any
		signals  bool
		want     string // the result; empty if it fails
	}{
		{"Input", []any{foreign}, false, ""},
		{"Result", nil, false, ""},
		{"Signal", nil, true, "got "}, // the SDK drops it
	} {
		t.Run(tc.workflow, func(t *testing.T) {
			started, err := h.bare.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: tc.workflow, TaskQueue: holdQueue}, tc.workflow, tc.input...)
			if err != nil {
				t.Fatal(err)
			}
			if tc.signals {
				if err := h.bare.SignalWorkflow(t.Context(), tc.workflow, "", "signal", foreign); err != nil {
					t.Fatal(err)
				}
				if err := h.bare.SignalWorkflow(t.Context(), tc.workflow, "", "end", nil); err != nil {
					t.Fatal(err)
				}
			}
			ends := enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
			if tc.want == "" {
				ends = enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
			}
			if err := eventually(t.Context(), "the workflow ended", func() (bool, error) { return h.status(t, started) == ends, nil }); err != nil {
				t.Error(err)
			}
			for _, kind := range []enumspb.EventType{enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT} {
				if tried, err := h.events(t.Context(), started, kind); err != nil || len(tried) > 0 {
					t.Errorf("it was held: %v, %v", tried, err)
				}
			}
			if t.Failed() {
				return // its end may never come
			}
			var got string
			err = c.GetWorkflow(t.Context(), tc.workflow, "").Get(t.Context(), &got)
			if tc.want == "" && (err == nil || !strings.Contains(err.Error(), `sealed for namespace "elsewhere", not for "default"`) || strings.Contains(err.Error(), "CANARY")) {
				t.Errorf("the workflow ended with %q, %v", got, err)
			}
			if tc.want != "" && (err != nil || got != tc.want) {
				t.Errorf("the workflow ended with %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}
