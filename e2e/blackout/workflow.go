package blackout

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Names, as the server sees them.
const (
	orderType  = "Order"
	parcelType = "Parcel"
	workType   = "Work"
	refuseType = "Refuse"
	beatType   = "Beat"
	onceType   = "Once"
	noteSignal = "note"
	change     = "change"
	// changeVersion is what the marker of a new workflow says.
	changeVersion = 1
	taskQueue     = "orders"
	// activityTimeout is the time of an attempt besides its work. A worker that is killed
	// reports nothing: this timeout ends its attempts, and the server retries them.
	activityTimeout = 20 * time.Second
)

// placeOrder is the workflow. It takes no shortcut past an error: what the SDK
// gives it as one ends it.
func placeOrder(ctx workflow.Context, p Plan) (Result, error) {
	r := Result{N: p.N}
	r.Version = int(workflow.GetVersion(ctx, change, workflow.DefaultVersion, changeVersion))
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return side(p.N) }).Get(&r.Side); err != nil {
		return r, fmt.Errorf("side effect: %w", err)
	}
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
	if err := workflow.ExecuteLocalActivity(local, work, int64(seedLocal), p.N, 0, time.Duration(0)).Get(ctx, &r.Local); err != nil {
		return r, fmt.Errorf("local activity: %w", err)
	}
	workflow.Go(ctx, func(ctx workflow.Context) {
		for notes := workflow.GetSignalChannel(ctx, noteSignal); len(r.Signals) < p.Signals; {
			var number int
			notes.Receive(ctx, &number)
			r.Signals = append(r.Signals, number)
		}
	})
	aside := startBeside(ctx, p)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: p.WorkFor + activityTimeout})
	last := int64(seedWork)
	for i, due := range p.Due {
		if err := workflow.Sleep(ctx, due-workflow.Now(ctx).Sub(workflow.GetInfo(ctx).WorkflowStartTime)); err != nil {
			return r, fmt.Errorf("timer %d: %w", i, err)
		}
		var workFor time.Duration
		if i == 0 {
			workFor = p.WorkFor
		}
		if err := workflow.ExecuteActivity(ctx, workType, last, p.N, i, workFor).Get(ctx, &last); err != nil {
			return r, fmt.Errorf("activity %d: %w", i, err)
		}
		r.Work = append(r.Work, last)
	}
	var err error
	if r.Refused, err = refused(ctx, p.N); err != nil {
		return r, err
	}
	if err := aside.get(ctx, &r); err != nil {
		return r, err
	}
	return r, workflow.Await(ctx, func() bool { return len(r.Signals) >= p.Signals })
}

// beside is what runs beside the rounds of timer and activity.
type beside struct{ child, beats, once workflow.Future }

func startBeside(ctx workflow.Context, p Plan) (b beside) {
	if p.Child > 0 {
		b.child = workflow.ExecuteChildWorkflow(ctx, parcelType, p.N, p.Child)
	}
	if p.Beats > 0 {
		b.beats = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: p.BeatEvery*time.Duration(p.Beats) + time.Minute, HeartbeatTimeout: heartbeatTimeout,
		}), beatType, p.N, p.Beats, p.BeatEvery)
	}
	if p.OnceWithin > 0 {
		b.once = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: p.OnceWithin, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
		}), onceType, p.N, p.OnceFor)
	}
	return b
}

func (b beside) get(ctx workflow.Context, r *Result) error {
	for _, f := range []struct {
		what string
		of   workflow.Future
		to   *int64
	}{{"child", b.child, &r.Child}, {"long activity", b.beats, &r.Beats}, {"activity that is tried once", b.once, &r.Once}} {
		if f.of == nil {
			continue
		}
		if err := f.of.Get(ctx, f.to); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	return nil
}

// refused runs the activity that fails for good, and returns what its failure says.
func refused(ctx workflow.Context, n int) (string, error) {
	err := workflow.ExecuteActivity(ctx, refuseType, n).Get(ctx, nil)
	var failure *temporal.ApplicationError
	if !errors.As(err, &failure) || failure.Type() != refuseType {
		return "", fmt.Errorf("the activity that is to refuse: %w", err)
	}
	var detail int
	if err := failure.Details(&detail); err != nil {
		return "", fmt.Errorf("detail of a refusal: %w", err)
	}
	return fmt.Sprintf("%s (%d)", failure.Message(), detail), nil
}

// sendParcel is the child workflow.
func sendParcel(ctx workflow.Context, n int, pause time.Duration) (result int64, err error) {
	if err := workflow.Sleep(ctx, pause); err != nil {
		return 0, err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: activityTimeout})
	err = workflow.ExecuteActivity(ctx, workType, int64(seedChild), n, 0, time.Duration(0)).Get(ctx, &result)
	return result, err
}

func register(r worker.Registry) {
	r.RegisterWorkflowWithOptions(placeOrder, workflow.RegisterOptions{Name: orderType})
	r.RegisterWorkflowWithOptions(sendParcel, workflow.RegisterOptions{Name: parcelType})
	registerActivities(r)
}
