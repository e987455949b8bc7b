package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// bench is a server with a worker and a client, each with keys in a KMS that fails on
// command, and a client that sees what the server has.
type bench struct {
	backend      *kmstest.Backend
	codec        *codec.Codec // the worker's
	client, bare client.Client
	dial         func(...client.Plugin) client.Client
}

const benchQueue = "failures"

func newBench(t *testing.T, register func(worker.Worker)) *bench {
	t.Helper()
	server := servers.StartTemporal(t, servers.TemporalOptions{})
	b := &bench{backend: kmstest.NewBackend()}
	b.dial = func(plugins ...client.Plugin) client.Client {
		c, err := client.DialContext(t.Context(), client.Options{
			HostPort: server.HostPort, Plugins: plugins, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	b.codec = b.newCodec(t)
	b.client, b.bare = b.dial(codec.NewPlugin(b.newCodec(t))), b.dial()
	w := worker.New(b.dial(codec.NewPlugin(b.codec)), benchQueue, worker.Options{})
	register(w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return b
}

// newCodec returns a codec of its own: what it has in its cache no other has.
func (b *bench) newCodec(t *testing.T) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(`{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(b.backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// start starts a workflow under its type as ID.
func (b *bench) start(t *testing.T, name string, args ...any) client.WorkflowRun {
	t.Helper()
	run, err := b.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: name, TaskQueue: benchQueue}, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// pending waits until the only activity of a workflow is as it should be.
func (b *bench) pending(t *testing.T, id, what string, is func(*workflowpb.PendingActivityInfo) bool) (out *workflowpb.PendingActivityInfo) {
	t.Helper()
	if err := eventually(t.Context(), what, func() (bool, error) {
		d, err := describe(t.Context(), b.bare, id, "")
		if err != nil || len(d.GetPendingActivities()) != 1 {
			return false, err
		}
		out = d.GetPendingActivities()[0]
		return is(out), nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// failed reports whether an attempt of an activity has failed.
func failed(p *workflowpb.PendingActivityInfo) bool { return p.GetLastFailure() != nil }

// failureConverter is that of the client.
func (b *bench) failureConverter() converter.FailureConverter {
	return codec.NewFailureConverter(codec.NewDataConverter(b.codec, client.DefaultNamespace, nil))
}

// runs runs an activity with a policy under which a failed one stays pending.
func runs(name string) func(workflow.Context) error {
	return func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: longBreak},
		})
		return workflow.ExecuteActivity(ctx, name).Get(ctx, nil)
	}
}

//go:noinline
func recurses(n int, err error) int {
	if n == 0 {
		panic(err)
	}
	return recurses(n-1, err) + 1
}

func chainOf(n int, err error) error {
	for i := range n {
		err = temporal.NewApplicationErrorWithCause(fmt.Sprintf("CANARY level %d, %s", i, strings.Repeat("and so on ", 50)), fmt.Sprint("Level", i), err)
	}
	return err
}

// TestPendingFailures has activities fail at length, and looks at what the server
// keeps of that until they are tried again.
func TestPendingFailures(t *testing.T) {
	t.Parallel()
	activities := map[string]func(context.Context) error{
		"Panics": func(context.Context) error { return fmt.Errorf("%d", recurses(100, errors.New("CANARY panic"))) },
		"IsDeep": func(context.Context) error {
			return fmt.Errorf("CANARY outermost: %w", chainOf(5, errors.New("CANARY root")))
		},
		"SaysMuch": func(context.Context) error { return errors.New("CANARY " + strings.Repeat("much ", 50_000)) },
		"TooLarge": func(context.Context) error {
			return temporal.NewApplicationErrorWithCause("CANARY message", "TooLarge", errors.New("CANARY cause"), "CANARY details"+strings.Repeat(".", 5000))
		},
	}
	b := newBench(t, func(w worker.Worker) {
		for name, f := range activities {
			w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
			w.RegisterWorkflowWithOptions(runs(name), workflow.RegisterOptions{Name: "w" + name})
		}
	})
	for name := range activities {
		b.start(t, "w"+name)
	}
	for name, check := range map[string]func(t *testing.T, err error){
		"Panics": func(t *testing.T, err error) {
			p, ok := errors.AsType[*temporal.PanicError](err)
			if !ok || !strings.Contains(p.Error(), "CANARY panic") || strings.Count(p.StackTrace(), "recurses") < 5 || !strings.Contains(p.StackTrace(), "[…]") {
				t.Errorf("%v, with the stack %q", err, p.StackTrace())
			}
		},
		"IsDeep": func(t *testing.T, err error) {
			if !strings.Contains(err.Error(), "CANARY outermost") || !strings.Contains(err.Error(), "CANARY root") {
				t.Errorf("got %v", err)
			}
			for i := 4; i >= 0; i-- {
				err = errors.Unwrap(err)
				if app, ok := errors.AsType[*temporal.ApplicationError](err); !ok || app.Type() != fmt.Sprint("Level", i) || !strings.HasPrefix(app.Message(), fmt.Sprintf("CANARY level %d", i)) {
					t.Errorf("level %d: %v", i, err)
				}
			}
		},
		"SaysMuch": func(t *testing.T, err error) {
			if s := err.Error(); !strings.HasPrefix(s, "CANARY much") || !strings.Contains(s, "[…]") || len(s) < 2000 {
				t.Errorf("%d bytes: %s", len(s), s)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.pending(t, "w"+name, "the activity failed", failed)
			f := p.GetLastFailure()
			if n := proto.Size(f); n > 4096 || strings.Contains(p.String(), "CANARY") {
				t.Errorf("%d bytes: %s", n, p)
			}
			for link := f; link != nil; link = link.GetCause() {
				if link.GetEncodedAttributes() == nil {
					t.Errorf("a link was truncated: %s", link)
				}
			}
			check(t, b.failureConverter().FailureToError(f))
		})
	}
	t.Run("TooLarge", func(t *testing.T) {
		p := b.pending(t, "wTooLarge", "the activity failed", failed)
		f := p.GetLastFailure()
		if f.GetServerFailureInfo() == nil || f.GetCause().GetEncodedAttributes() != nil {
			t.Fatalf("it was not truncated: %s", f)
		}
		if strings.Contains(p.String(), "CANARY") {
			t.Errorf("in plaintext: %s", p)
		}
		app, ok := errors.AsType[*temporal.ApplicationError](b.failureConverter().FailureToError(f))
		if !ok || app.Type() != "TooLarge" {
			t.Errorf("it says %v", app)
		}
	})
}

// ofActivity returns what an activity failed with.
func ofActivity(err error) error {
	of, _ := errors.AsType[*temporal.ActivityError](err)
	if of == nil {
		return nil
	}
	return of.Unwrap()
}

// what an activity fails with, by kind, and what is to be found in the error that
// comes back to the client.
var comesBack = map[string]struct {
	fail  func(ctx context.Context) error
	check func(err error) error
}{
	"an application error": {
		func(context.Context) error {
			return temporal.NewApplicationErrorWithOptions("CANARY outer", "Outer", temporal.ApplicationErrorOptions{
				NonRetryable: true, Category: temporal.ApplicationErrorCategoryBenign, Details: []any{"CANARY details", 7}, NextRetryDelay: time.Minute,
				Cause: fmt.Errorf("CANARY wrapped: %w", temporal.NewApplicationError("CANARY inner", "Inner", "CANARY inner details")),
			})
		},
		func(err error) error {
			var s, inner string
			var n int
			app, ok := errors.AsType[*temporal.ApplicationError](ofActivity(err))
			if !ok || app.Type() != "Outer" || !app.NonRetryable() || app.Category() != temporal.ApplicationErrorCategoryBenign || app.NextRetryDelay() != time.Minute ||
				app.Message() != "CANARY outer" || app.Details(&s, &n) != nil || s != "CANARY details" || n != 7 {
				return fmt.Errorf("outer: %w", err)
			}
			wrapped, ok := errors.AsType[*temporal.ApplicationError](errors.Unwrap(app))
			if !ok || wrapped.Type() != "wrapError" || !strings.HasPrefix(wrapped.Message(), "CANARY wrapped: CANARY inner") || wrapped.NonRetryable() {
				return fmt.Errorf("wrapped: %w", err)
			}
			last, ok := errors.AsType[*temporal.ApplicationError](errors.Unwrap(wrapped))
			if !ok || last.Type() != "Inner" || last.Details(&inner) != nil || inner != "CANARY inner details" {
				return fmt.Errorf("inner: %w", err)
			}
			return nil
		},
	},
	"joined errors": {
		func(context.Context) error { return errors.Join(errors.New("CANARY one"), errors.New("CANARY two")) },
		func(err error) error {
			if app, ok := errors.AsType[*temporal.ApplicationError](ofActivity(err)); !ok || app.Type() != "joinError" || app.Message() != "CANARY one\nCANARY two" {
				return fmt.Errorf("joined: %w", err)
			}
			return nil
		},
	},
	"a timeout": {
		func(ctx context.Context) error {
			activity.RecordHeartbeat(ctx, "CANARY beat")
			<-ctx.Done()
			return ctx.Err()
		},
		func(err error) error {
			var s string
			timeout, ok := errors.AsType[*temporal.TimeoutError](err)
			if !ok || timeout.TimeoutType() != enumspb.TIMEOUT_TYPE_START_TO_CLOSE || timeout.LastHeartbeatDetails(&s) != nil || s != "CANARY beat" {
				return fmt.Errorf("timeout with %q: %w", s, err)
			}
			return nil
		},
	},
	"a panic": {
		func(context.Context) error { return fmt.Errorf("%d", recurses(3, errors.New("CANARY panic"))) },
		func(err error) error {
			if p, ok := errors.AsType[*temporal.PanicError](err); !ok || p.Error() != "CANARY panic" || !strings.Contains(p.StackTrace(), "recurses") {
				return fmt.Errorf("panic: %w", err)
			}
			return nil
		},
	},
}

// TestErrorsKeepTheirChain sends errors from an activity through a child workflow
// and its parent to the client: four times sealed and opened.
func TestErrorsKeepTheirChain(t *testing.T) {
	t.Parallel()
	activityOf := func(ctx context.Context, kind string) error { return comesBack[kind].fail(ctx) }
	child := func(ctx workflow.Context, kind string) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 2 * time.Second, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
		err := workflow.ExecuteActivity(ctx, "Activity", kind).Get(ctx, nil)
		if wrong := comesBack[kind].check(err); wrong != nil {
			return fmt.Errorf("in the child: %w", wrong)
		}
		return fmt.Errorf("CANARY around: %w", err)
	}
	parent := func(ctx workflow.Context, kind string) error {
		err := workflow.ExecuteChildWorkflow(ctx, "Child", kind).Get(ctx, nil)
		if wrong := comesBack[kind].check(err); wrong != nil {
			return fmt.Errorf("in the parent: %w", wrong)
		}
		return err
	}
	b := newBench(t, func(w worker.Worker) {
		w.RegisterActivityWithOptions(activityOf, activity.RegisterOptions{Name: "Activity"})
		w.RegisterWorkflowWithOptions(child, workflow.RegisterOptions{Name: "Child"})
		w.RegisterWorkflowWithOptions(parent, workflow.RegisterOptions{Name: "Parent"})
	})
	for kind, tc := range comesBack {
		t.Run(kind, func(t *testing.T) {
			run, err := b.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: benchQueue}, "Parent", kind)
			if err != nil {
				t.Fatal(err)
			}
			err = run.Get(t.Context(), nil)
			if wrong := tc.check(err); wrong != nil {
				t.Error(wrong)
			}
			ended, ok := errors.AsType[*temporal.WorkflowExecutionError](err)
			in, okChild := errors.AsType[*temporal.ChildWorkflowExecutionError](err)
			by, okActivity := errors.AsType[*temporal.ActivityError](err)
			if !ok || !okChild || !okActivity || by.ActivityType().GetName() != "Activity" || !strings.Contains(err.Error(), "CANARY around") {
				t.Errorf("%v, %v, %v: %v", ended, in, by, err)
			}
			history := b.bare.GetWorkflowHistory(t.Context(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for history.HasNext() {
				if e, err := history.Next(); err != nil || strings.Contains(e.String(), "CANARY") {
					t.Errorf("the server has %v, %v", e, err)
				}
			}
		})
	}
}

// TestActivitiesGoOnSoonAfterAnOutage takes the KMS out for several attempts of
// activities with a retry policy that lets them wait for an hour after the first.
func TestActivitiesGoOnSoonAfterAnOutage(t *testing.T) {
	t.Parallel()
	const reads = "reads"
	waits := func(attempts int32) func(workflow.Context) (string, error) {
		return func(ctx workflow.Context) (got string, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				TaskQueue: reads, StartToCloseTimeout: 2 * time.Second, RetryPolicy: &temporal.RetryPolicy{InitialInterval: longBreak, MaximumAttempts: attempts},
			})
			return got, workflow.ExecuteActivity(ctx, "Reads", "CANARY").Get(ctx, &got)
		}
	}
	b := newBench(t, func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(waits(0), workflow.RegisterOptions{Name: "Unlimited"})
		w.RegisterWorkflowWithOptions(waits(10), workflow.RegisterOptions{Name: "Limited"})
	})
	// The workflows' worker made the data keys, so it has them cached.
	other := worker.New(b.dial(codec.NewPlugin(b.newCodec(t))), reads, worker.Options{})
	other.RegisterActivityWithOptions(func(_ context.Context, s string) (string, error) { return s, nil }, activity.RegisterOptions{Name: "Reads"})
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Stop)
	b.backend.Fake("a").Each(func(c kmstest.Call) kmstest.Fault {
		if c.Op == kmstest.OpUnwrap {
			return kmstest.Fail(kms.Unavailable)
		}
		return kmstest.Healthy()
	})
	run := b.start(t, "Unlimited")
	b.start(t, "Limited")

	const attempts = 4
	p := b.pending(t, "Unlimited", "the activity failed several times", func(p *workflowpb.PendingActivityInfo) bool { return failed(p) && p.GetAttempt() == attempts })
	if strings.Contains(p.String(), "CANARY") {
		t.Errorf("in plaintext: %s", p)
	}
	b.backend.Fake("a").Heal()
	healed := time.Now()
	if err := b.failureConverter().FailureToError(p.GetLastFailure()); !strings.Contains(err.Error(), "unavailable") {
		t.Errorf("the activity failed with %v", err)
	}
	var got string
	if err := run.Get(t.Context(), &got); err != nil || got != "CANARY" {
		t.Errorf("got %q, %v", got, err)
	}
	if took := time.Since(healed); took > 10*time.Second {
		t.Errorf("it went on %s after the KMS did", took)
	}
	// Attempts are used up at the pace that the policy has for them.
	if p := b.pending(t, "Limited", "the activity failed", failed); p.GetAttempt() != 2 || p.GetCurrentRetryInterval().AsDuration().Round(time.Second) != longBreak {
		t.Errorf("%s", p)
	}
}

// TestCompletingActivitiesInAnOutage completes activities from outside with errors that
// have details, which cannot be sealed: the call fails and can be repeated.
func TestCompletingActivitiesInAnOutage(t *testing.T) {
	t.Parallel()
	tokens := make(chan []byte, 2)
	b := newBench(t, func(w worker.Worker) {
		w.RegisterActivityWithOptions(func(ctx context.Context) error {
			tokens <- activity.GetInfo(ctx).TaskToken
			return activity.ErrResultPending
		}, activity.RegisterOptions{Name: "Outside"})
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (got []string, err error) {
			for _, id := range []string{"first", "second"} {
				ctx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{ActivityID: id, StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
				var s string
				app, ok := errors.AsType[*temporal.ApplicationError](workflow.ExecuteActivity(ctx, "Outside").Get(ctx, nil))
				if !ok || !app.NonRetryable() || app.Type() != "Declined" || app.Details(&s) != nil {
					return nil, fmt.Errorf("ended with %w", app)
				}
				got = append(got, app.Message(), s)
			}
			return got, nil
		}, workflow.RegisterOptions{Name: "Waits"})
	})
	run := b.start(t, "Waits")
	declined := temporal.NewNonRetryableApplicationError("CANARY message", "Declined", nil, "CANARY details")
	for _, complete := range []func(client.Client, []byte) error{
		func(c client.Client, token []byte) error {
			return c.CompleteActivity(t.Context(), token, nil, declined)
		},
		func(c client.Client, _ []byte) error {
			return c.CompleteActivityByID(t.Context(), client.DefaultNamespace, "Waits", "", "second", nil, declined)
		},
	} {
		token := <-tokens
		outside := b.dial(codec.NewPlugin(b.newCodec(t))) // with no data key wrapped ahead of need
		b.backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
		if err := complete(outside, token); err == nil || strings.Contains(err.Error(), "CANARY") || !strings.Contains(err.Error(), "unavailable") {
			t.Errorf("in the outage: %v", err)
		}
		b.backend.Fake("a").Heal()
		if err := eventually(t.Context(), "the activity is completed", func() (bool, error) {
			err := complete(outside, token)
			return err == nil, err
		}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	if err := run.Get(t.Context(), &got); err != nil || fmt.Sprint(got) != "[CANARY message CANARY details CANARY message CANARY details]" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestACanceledActivityInAnOutage has an activity end as canceled, with details that
// cannot be sealed: it is canceled all the same.
func TestACanceledActivityInAnOutage(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w worker.Worker) {
		w.RegisterActivityWithOptions(func(ctx context.Context) error {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					activity.RecordHeartbeat(ctx)
				case <-ctx.Done():
					return fmt.Errorf("CANARY: %w", temporal.NewCanceledError("CANARY details"))
				}
			}
		}, activity.RegisterOptions{Name: "WaitsToBeCanceled"})
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, HeartbeatTimeout: 2 * time.Second, WaitForCancellation: true, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
			})
			return workflow.ExecuteActivity(ctx, "WaitsToBeCanceled").Get(ctx, nil)
		}, workflow.RegisterOptions{Name: "Canceled"})
	})
	run := b.start(t, "Canceled")
	b.pending(t, "Canceled", "the activity runs", func(p *workflowpb.PendingActivityInfo) bool {
		return p.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED
	})
	b.backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	if err := b.client.CancelWorkflow(t.Context(), run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := run.Get(ctx, nil); !temporal.IsCanceledError(err) || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("it ended with %v", err)
	}
}
