package e2e

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// resumesWithin is how soon after its KMS is back a workflow goes on, however long
// it was held.
const resumesWithin = 10 * time.Second

// sick is a client with a KMS that fails, while that of others does not.
type sick struct {
	client client.Client
	key    *kmstest.Fake
}

// sick returns one for which some calls of the KMS fail as in an outage.
func (h *holding) sick(t *testing.T, ill ...kmstest.Op) sick {
	t.Helper()
	key := h.backend.Fake("a").Reopen()
	key.Each(func(c kmstest.Call) (f kmstest.Fault) {
		if slices.Contains(ill, c.Op) {
			f = kmstest.Fail(kms.Unavailable)
		}
		return f
	})
	c := h.codecOf(t, kmstest.NewBackend(key))
	return sick{h.dial(t, client.Options{Plugins: []client.Plugin{codec.NewPlugin(c)}}), key}
}

// startEcho starts a worker for a workflow that hands its input to an activity.
func startEcho(t *testing.T, c client.Client) {
	t.Helper()
	w := worker.New(c, holdQueue, worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (out string, err error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		return out, workflow.ExecuteActivity(ctx, "Echo", in).Get(ctx, &out)
	}, workflow.RegisterOptions{Name: "Echoes"})
	w.RegisterActivityWithOptions(func(_ context.Context, in string) (string, error) { return "echo " + in, nil }, activity.RegisterOptions{Name: "Echo"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

// TestResumesSoon holds a workflow for long, and through so many tries of its task that
// the server has lengthened the timeout of a try without an answer.
func TestResumesSoon(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		ill  kmstest.Op
	}{
		{"its input cannot be opened", kmstest.OpUnwrap},
		{"its activity's input cannot be sealed", kmstest.OpWrap},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHolding(t, holdPlain)
			starter, sick := h.sealing(t), h.sick(t, tc.ill)
			startEcho(t, sick.client)
			start := time.Now()
			run, err := starter.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "echoes", TaskQueue: holdQueue}, "Echoes", "CANARY")
			if err != nil {
				t.Fatal(err)
			}
			if err := eventually(t.Context(), "it was held for long", func() (bool, error) {
				d, err := describe(t.Context(), h.bare, run.GetID(), run.GetRunID())
				return time.Since(start) > 20*time.Second && d.GetPendingWorkflowTask().GetAttempt() >= 4, err
			}); err != nil {
				t.Fatal(err)
			}
			// It heals just after a call failed, which is the worst moment.
			asked := func() int { c := sick.key.Counts(); return c.FailedWraps + c.FailedUnwraps }
			before := asked()
			if err := eventually(t.Context(), "the KMS is asked again", func() (bool, error) { return asked() > before, nil }); err != nil {
				t.Fatal(err)
			}
			out := time.Since(start)
			healed := time.Now()
			sick.key.Heal()
			var got string
			if err := run.Get(t.Context(), &got); err != nil || got != "echo CANARY" {
				t.Errorf("the workflow ended with %q, %v", got, err)
			}
			took := time.Since(healed)
			t.Logf("after an outage of %v it took %v", out, took)
			if took > resumesWithin {
				t.Errorf("it went on %v after its KMS", took)
			}
		})
	}
}

// TestShortOutageFailsNoTask: a workflow task waits for a KMS that hangs, for less
// than its bound in all.
func TestShortOutageFailsNoTask(t *testing.T) {
	t.Parallel()
	h := newHolding(t, holdPlain)
	starter, sick := h.sealing(t), h.sick(t)
	back := make(chan struct{})
	asked := make(chan struct{}, 100)
	sick.key.Always(kmstest.Fault{Hook: func(ctx context.Context) error {
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-back:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	startEcho(t, sick.client)
	run, err := starter.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "echoes", TaskQueue: holdQueue}, "Echoes", "CANARY")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-time.After(30 * time.Second):
		t.Fatal("the KMS was not asked")
	}
	<-time.After(1500 * time.Millisecond) // of 3 s
	close(back)
	var got string
	if err := run.Get(t.Context(), &got); err != nil || got != "echo CANARY" {
		t.Errorf("the workflow ended with %q, %v", got, err)
	}
	for _, kind := range []enumspb.EventType{enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT} {
		if failed, err := h.events(t.Context(), run, kind); err != nil || len(failed) > 0 {
			t.Errorf("%v, %v", failed, err)
		}
	}
}

// TestMemoOfAStart: the SDK would send it in plaintext where it cannot be sealed.
func TestMemoOfAStart(t *testing.T) {
	t.Parallel()
	h := newHolding(t, holdPlain)
	sick := h.sick(t, kmstest.OpWrap)
	_, err := sick.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "memo", TaskQueue: holdQueue, Memo: map[string]any{"m": "CANARY"}}, "Echoes")
	if err == nil {
		t.Error("the workflow is started")
	}
	notFound := new(serviceerror.NotFound)
	if d, err := describe(t.Context(), h.bare, "memo", ""); !errors.As(err, &notFound) {
		t.Errorf("the server has %v, %v", d, err)
	}
}

// TestRecoveredPanicFailsNoWorkflow: code that recovers panics, and a worker with the
// policy to fail workflows for them, would make an outage final.
func TestRecoveredPanicFailsNoWorkflow(t *testing.T) {
	t.Parallel()
	h := newHolding(t, holdPlain)
	starter, sick := h.sealing(t), h.sick(t, kmstest.OpWrap)
	w := worker.New(sick.client, holdQueue, worker.Options{WorkflowPanicPolicy: worker.FailWorkflow})
	w.RegisterWorkflowWithOptions(func(workflow.Context) (string, error) { return "CANARY", nil }, workflow.RegisterOptions{Name: "Policy"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (_ string, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = temporal.NewApplicationError("recovered", "Recovered")
			}
		}()
		var out string
		err = workflow.SideEffect(ctx, func(workflow.Context) any { return "CANARY" }).Get(&out)
		return out, err
	}, workflow.RegisterOptions{Name: "Recovers"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	var runs []client.WorkflowRun
	for _, name := range []string{"Policy", "Recovers"} {
		run, err := starter.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: name, TaskQueue: holdQueue}, name)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	for _, run := range runs {
		if err := eventually(t.Context(), run.GetID()+" was held", func() (bool, error) {
			return len(h.told.of(run.GetRunID())) > 0, nil
		}); err != nil {
			t.Fatal(err)
		}
		h.saysWhy(t, run, kms.Unavailable)
	}
	sick.key.Heal()
	for _, run := range runs {
		var got string
		if err := run.Get(t.Context(), &got); err != nil || got != "CANARY" {
			t.Errorf("%s ended with %q, %v", run.GetID(), got, err)
		}
	}
}
