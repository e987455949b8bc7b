package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/kms"
)

// illness says what fails where the workflow runs.
type illness int

const (
	opening illness = iota
	sealing
	nothing // but where its activities run
)

// place is one where the SDK seals or opens something, and the first at which its
// workflow meets a KMS that fails.
type place struct {
	name     string
	ill      illness
	input    []any
	workflow func(il *ills) any
	// do is done once the workflow is started, and what it returns after the trouble.
	do func(ctx context.Context, il *ills, id string) (after func() error, err error)
	// started reports whether a workflow that is not held has met its trouble.
	started func(ctx context.Context, il *ills, id string) (bool, error)

	refusal   outcome // what refusals lead to with onDenied: fail
	alwaysOn  bool    // it goes on whatever the trouble
	waits     bool    // it goes on where others are held
	want      string  // the result
	fails     string  // what it fails with instead
	otherwise string  // what is in the result if it ends otherwise

	says, saysRefused []string // in the failure of the held task; nil for the usual
	afterwards        func(ctx context.Context, il *ills, id string, how outcome) error
}

func (p place) outcome(tr trouble) outcome {
	switch {
	case p.alwaysOn:
		return goesOn
	case tr.refusal:
		return p.refusal
	case p.waits:
		return goesOn
	default:
		return held
	}
}

// simple has a workflow without a context of the trouble.
func simple(f any) func(*ills) any { return func(*ills) any { return f } }

// waitForEnd is what end ends.
func waitForEnd(ctx workflow.Context) { workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil) }

func end(ctx context.Context, il *ills, id string, _ outcome) error {
	return il.bare.SignalWorkflow(ctx, id, "", "end", nil)
}

// places returns those at which a kind of trouble is met. Only the retries of the KMS
// distinguish throttling from being unavailable, and refusals differ only by name: for
// those, some of the places suffice.
func places(tr trouble) []place {
	all := slices.Concat(workflowPlaces(), markerPlaces(), messagePlaces(), activityPlaces())
	if tr.class != kms.Unavailable && tr.class != kms.Denied {
		all = slices.DeleteFunc(all, func(p place) bool {
			return !slices.Contains([]string{"workflow input", "workflow result", "activity result", "side effect", "signal"}, p.name)
		})
	}
	return all
}

func workflowPlaces() []place {
	return []place{
		{
			name: "workflow input", input: []any{"CANARY in"}, refusal: fails, want: "got CANARY in",
			workflow: simple(func(_ workflow.Context, in string) (string, error) { return "got " + in, nil }),
		},
		{
			name: "workflow result", ill: sealing, refusal: fails, want: "CANARY out",
			workflow: simple(func(workflow.Context) (string, error) { return "CANARY out", nil }),
		},
		{
			name: "workflow failure", ill: sealing, refusal: fails, fails: "CANARY failed", says: []string{"waxseal: workflow task held"},
			workflow: simple(func(workflow.Context) error { return temporal.NewApplicationError("CANARY failed", "Failed") }),
		},
		{
			name: "cancellation", ill: sealing, refusal: held, fails: "canceled",
			workflow: simple(func(workflow.Context) error { return temporal.NewCanceledError("CANARY details") }),
		},
		{
			name: "continue as new", ill: sealing, refusal: held, want: "got CANARY next",
			workflow: simple(func(ctx workflow.Context, in string) (string, error) {
				if in == "" {
					return "", workflow.NewContinueAsNewError(ctx, "continue as new", "CANARY next")
				}
				return "got " + in, nil
			}),
		},
		{
			name: "activity input", ill: sealing, refusal: held, want: "echo CANARY in",
			workflow: func(il *ills) any {
				return func(ctx workflow.Context) (out string, err error) {
					return out, workflow.ExecuteActivity(at(ctx, il.well), "Echo", "CANARY in").Get(ctx, &out)
				}
			},
		},
		{
			name: "activity result", refusal: fails, want: "CANARY spoken",
			workflow: func(il *ills) any {
				return func(ctx workflow.Context) (out string, err error) {
					return out, workflow.ExecuteActivity(at(ctx, il.well), "Speak").Get(ctx, &out)
				}
			},
		},
		{
			name: "activity failure", refusal: otherwise, want: "CANARY refused, 13", otherwise: "Encoded failure",
			workflow: func(il *ills) any {
				return func(ctx workflow.Context) (string, error) {
					err := workflow.ExecuteActivity(at(ctx, il.well), "Refuse").Get(ctx, nil)
					failure, ok := errors.AsType[*temporal.ApplicationError](err)
					if !ok {
						return "", err
					}
					var detail int
					_ = failure.Details(&detail) // where they do not open, detail stays
					return fmt.Sprintf("%s, %d", failure.Message(), detail), nil
				}
			},
		},
		{
			name: "child input", ill: sealing, refusal: fails, want: "got CANARY in",
			workflow: func(il *ills) any {
				return func(ctx workflow.Context) (out string, err error) {
					return out, workflow.ExecuteChildWorkflow(at(ctx, il.well), "Child", "CANARY in").Get(ctx, &out)
				}
			},
		},
		{
			name: "child result", refusal: fails, want: "got ",
			workflow: func(il *ills) any {
				return func(ctx workflow.Context) (out string, err error) {
					return out, workflow.ExecuteChildWorkflow(at(ctx, il.well), "Child").Get(ctx, &out)
				}
			},
		},
		{
			name: "upserted memo", ill: sealing, refusal: held, want: "done", saysRefused: []string{"refused to send", "Memo", "is not sealed"},
			workflow: simple(func(ctx workflow.Context) (string, error) {
				return "done", workflow.UpsertMemo(ctx, map[string]any{"m": "CANARY memo"})
			}),
		},
		{
			name: "child memo", ill: sealing, refusal: held, want: "got ", says: []string{"refused to send", "Memo", "is not sealed"},
			workflow: func(il *ills) any {
				return func(ctx workflow.Context) (out string, err error) {
					ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{TaskQueue: il.well.queue, Memo: map[string]any{"m": "CANARY memo"}})
					return out, workflow.ExecuteChildWorkflow(ctx, "Child").Get(ctx, &out)
				}
			},
		},
	}
}

func markerPlaces() []place {
	return []place{
		{
			name: "side effect", ill: sealing, refusal: held, want: "CANARY side",
			workflow: simple(func(ctx workflow.Context) (out string, err error) {
				return out, workflow.SideEffect(ctx, func(workflow.Context) any { return "CANARY side" }).Get(&out)
			}),
		},
		{
			name: "mutable side effect", ill: sealing, refusal: held, want: "CANARY mutable",
			workflow: simple(func(ctx workflow.Context) (out string, err error) {
				return out, workflow.MutableSideEffect(ctx, "id", func(workflow.Context) any { return "CANARY mutable" }, func(a, b any) bool { return a == b }).Get(&out)
			}),
		},
		{
			name: "version", ill: sealing, refusal: held, want: "version 1",
			workflow: simple(func(ctx workflow.Context) (string, error) {
				return fmt.Sprint("version ", workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 1)), nil
			}),
		},
		{
			// It waits in place, as other activities do.
			name: "local activity", ill: sealing, refusal: held, waits: true, want: "CANARY local",
			workflow: simple(func(ctx workflow.Context) (out string, err error) {
				ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
				return out, workflow.ExecuteLocalActivity(ctx, func(context.Context) (string, error) { return "CANARY local", nil }).Get(ctx, &out)
			}),
		},
	}
}

// patience is how long a caller waits for an answer: longer than any trouble lasts, even
// on a slow machine, so that only an answer ends the wait.
const patience = 3 * time.Minute

// messagePlaces are those of signals, queries and updates.
func messagePlaces() []place {
	query := func(arg ...any) func(context.Context, *ills, string) (func() error, error) {
		return func(ctx context.Context, il *ills, id string) (func() error, error) {
			ask := func() (string, error) {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				value, err := il.well.client.QueryWorkflow(ctx, id, "", "query", arg...)
				if err != nil {
					return "", err
				}
				var got string
				return got, value.Get(&got)
			}
			// The worker's answer holds the class. A busy server ends a call before that, and the
			// caller tries again.
			var said string
			err := eventually(ctx, "a query is refused", func() (bool, error) {
				got, err := ask()
				said = got
				if err == nil || strings.Contains(err.Error(), il.class.String()) {
					return true, nil //nolint:nilerr // that is what is waited for
				}
				return false, err
			})
			if err != nil || said != "" {
				return nil, fmt.Errorf("in the trouble the query said %q, %w", said, err)
			}
			return func() error {
				return eventually(ctx, "a query is answered", func() (bool, error) {
					got, err := ask()
					return got == "CANARY said", err
				})
			}, nil
		}
	}
	handlesQueries := simple(func(ctx workflow.Context) (string, error) {
		err := workflow.SetQueryHandler(ctx, "query", func(string) (string, error) { return "CANARY said", nil })
		waitForEnd(ctx)
		return "done", err
	})
	update := func(arg ...any) func(context.Context, *ills, string) (func() error, error) {
		return func(ctx context.Context, il *ills, id string) (func() error, error) {
			ask := func() (text string, err error) {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				u, err := il.well.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{WorkflowID: id, UpdateName: "update", Args: arg, WaitForStage: client.WorkflowUpdateStageCompleted})
				if err != nil {
					return "", err
				}
				return text, u.Get(ctx, &text)
			}
			first := make(chan error, 1)
			go func() {
				text, err := ask()
				if err == nil && text != "CANARY updated" {
					err = fmt.Errorf("it said %q", text)
				}
				first <- err
			}()
			return func() error {
				// The caller may have its error already: the server waits for no workflow with a
				// task that fails again and again. A refusal of ours is final.
				err := <-first
				refused := il.refusal && len(arg) > 0
				if told := err != nil && strings.Contains(err.Error(), "Workflow Task in failed state"); !told && refused != (err != nil) {
					return fmt.Errorf("in the trouble the update ended with %w", err)
				}
				if refused && !strings.Contains(err.Error(), il.class.String()) {
					return fmt.Errorf("the update was refused with %w", err)
				}
				return eventually(ctx, "an update is answered", func() (bool, error) {
					text, err := ask()
					return text == "CANARY updated", err
				})
			}, nil
		}
	}
	handlesUpdates := simple(func(ctx workflow.Context) (string, error) {
		err := workflow.SetUpdateHandler(ctx, "update", func(workflow.Context, string) (string, error) { return "CANARY updated", nil })
		waitForEnd(ctx)
		return "done", err
	})
	return []place{
		{
			name: "signal", refusal: otherwise, want: "CANARY signal", otherwise: "the signal is lost",
			workflow: simple(func(ctx workflow.Context) (out string, err error) {
				workflow.Go(ctx, func(ctx workflow.Context) { workflow.GetSignalChannel(ctx, "signal").Receive(ctx, &out) })
				workflow.Go(ctx, func(ctx workflow.Context) {
					waitForEnd(ctx)
					if out == "" {
						out = "the signal is lost"
					}
				})
				err = workflow.Await(ctx, func() bool { return out != "" })
				return out, err
			}),
			// Where the SDK drops the signal, the workflow ends in the trouble: what opens the
			// signal again in a replay after it would have it still. A workflow is replayed
			// when its worker's queue was slow for 5 s, or when any test of the process purges
			// the SDK's cache, which all workers share.
			do: func(ctx context.Context, il *ills, id string) (func() error, error) {
				err := il.well.client.SignalWorkflow(ctx, id, "", "signal", "CANARY signal")
				if err == nil && il.refusal {
					err = end(ctx, il, id, otherwise)
				}
				return func() error { return nil }, err
			},
		},
		{name: "query arguments", alwaysOn: true, want: "done", workflow: handlesQueries, do: query("CANARY asked"), afterwards: end},
		{name: "query result", ill: sealing, alwaysOn: true, want: "done", workflow: handlesQueries, do: query(), afterwards: end},
		{name: "update arguments", refusal: goesOn, want: "done", workflow: handlesUpdates, do: update("CANARY asked"), afterwards: end},
		{name: "update result", ill: sealing, refusal: held, want: "done", workflow: handlesUpdates, do: update(), afterwards: end},
	}
}

// activityPlaces are those in activities. Their workflows run where all is well.
func activityPlaces() []place {
	tried := func(ctx context.Context, il *ills, id string) (bool, error) {
		d, err := describe(ctx, il.bare, id, "")
		if err != nil || len(d.GetPendingActivities()) == 0 {
			return false, err
		}
		a := d.GetPendingActivities()[0]
		return a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED || a.GetAttempt() > 1, nil
	}
	runs := func(where func(*ills) *site, name string, args ...any) func(il *ills) any {
		return func(il *ills) any {
			return func(ctx workflow.Context) (out string, err error) {
				return out, workflow.ExecuteActivity(at(ctx, where(il)), name, args...).Get(ctx, &out)
			}
		}
	}
	opens := func(il *ills) *site { return il.opens }
	seals := func(il *ills) *site { return il.seals }
	return []place{
		{name: "input of an activity", ill: nothing, alwaysOn: true, want: "echo CANARY in", workflow: runs(opens, "Echo", "CANARY in"), started: tried},
		{name: "result of an activity", ill: nothing, alwaysOn: true, want: "CANARY spoken", workflow: runs(seals, "Speak"), started: tried},
		{name: "heartbeat", ill: nothing, alwaysOn: true, want: "beaten", workflow: runs(seals, "Beat"), started: tried},
		{name: "details of a heartbeat", ill: nothing, alwaysOn: true, want: "CANARY detail", workflow: runs(opens, "Recall"), started: tried},
	}
}

func registerHelpers(w worker.Worker) {
	w.RegisterWorkflowWithOptions(func(_ workflow.Context, in string) (string, error) { return "got " + in, nil }, workflow.RegisterOptions{Name: "Child"})
	register := func(name string, f any) { w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name}) }
	register("Echo", func(_ context.Context, in string) (string, error) { return "echo " + in, nil })
	register("Speak", func(context.Context) (string, error) { return "CANARY spoken", nil })
	register("Refuse", func(context.Context) error {
		return temporal.NewNonRetryableApplicationError("CANARY refused", "Refused", nil, 13)
	})
	register("Beat", func(ctx context.Context) (string, error) {
		activity.RecordHeartbeat(ctx, "CANARY detail")
		return "beaten", nil
	})
	register("Recall", func(ctx context.Context) (detail string, err error) {
		if !activity.HasHeartbeatDetails(ctx) {
			activity.RecordHeartbeat(ctx, "CANARY detail")
			return "", errors.New("the first attempt fails")
		}
		return detail, activity.GetHeartbeatDetails(ctx, &detail)
	})
}
