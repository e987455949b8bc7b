package codec

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
)

// TestHeldBesideWorkflowCode: some conversions have no workflow context, but the ID of the
// workflow. An error in one fails the task of that workflow, and of no other.
func TestHeldBesideWorkflowCode(t *testing.T) {
	mine := converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "w"}
	away := &kms.Error{Class: kms.Unavailable}
	for _, tc := range []struct {
		name     string
		site     site
		err      error
		reported bool
	}{
		{"marker", site{namespace: "n", serialization: mine}, away, true},
		{"namespace of the client", site{namespace: "n", serialization: converter.WorkflowSerializationContext{WorkflowID: "w"}}, away, true},
		{"nothing failed", site{namespace: "n", serialization: mine}, nil, false},
		{"no matter of waiting", site{namespace: "n", serialization: mine}, &kms.Error{Class: kms.Corrupt}, true},
		{"another workflow", site{namespace: "n", serialization: converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "v"}}, away, false},
		{"another namespace", site{namespace: "n", serialization: converter.WorkflowSerializationContext{Namespace: "m", WorkflowID: "w"}}, away, false},
		{"a client's call", site{namespace: "n", serialization: mine, ctx: context.Background()}, away, false}, //nolint:usetesting // any context
		{"an activity", site{namespace: "n", serialization: converter.ActivitySerializationContext{Namespace: "n", WorkflowID: "w"}}, away, false},
		{"of an unknown workflow, in another namespace", site{namespace: "m"}, away, false},
		{"a replayer", site{namespace: "n", serialization: mine, replay: true}, away, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Codec{tasks: hold.NewTasks(), watchers: new(watchers)}
				var met atomic.Pointer[error]
				one := &hold.Task{Run: "run", Token: []byte("t"), Attempt: 3, Until: time.Now().Add(usualTaskTimeout), Base: usualTaskTimeout, Report: func(why error) error { met.Store(&why); return nil }}
				one.Facts.Namespace, one.Facts.WorkflowID = "n", "w"
				c.tasks.Begin(one)
				other := &hold.Task{Run: "other", Token: []byte("o"), Attempt: 3, Until: time.Now().Add(usualTaskTimeout), Base: usualTaskTimeout, Report: func(error) error { t.Error("another workflow's task is reported"); return nil }}
				other.Facts.Namespace, other.Facts.WorkflowID = "n", "other"
				c.tasks.Begin(other)
				converts := &dataConverter{codec: payloadCodec{codec: c, site: tc.site}}
				failed := converts.hold(tc.err) // a panic would fail the test: the SDK would not catch it
				holds := tc.reported && kms.ClassOf(tc.err).Transient()
				if _, fails := errors.AsType[*converter.WorkflowTaskFailureError](failed); !errors.Is(failed, tc.err) || fails != holds {
					t.Errorf("returns %v, which fails the task: %v", failed, fails)
				}
				time.Sleep(8 * time.Second) //nolint:forbidigo // the clock is the test's
				synctest.Wait()
				if kms.ClassOf(tc.err) == kms.Corrupt && met.Load() != nil {
					t.Error("reported before the SDK had its time")
				}
				time.Sleep(2 * time.Second) //nolint:forbidigo // the clock is the test's
				synctest.Wait()
				var reported error
				if why := met.Load(); why != nil {
					reported = *why
				}
				if (reported != nil) != tc.reported || (tc.reported && kms.ClassOf(reported) != kms.ClassOf(tc.err)) {
					t.Errorf("reported %v", reported)
				}
			})
		})
	}
}

// TestConversionWithoutAWorkflow: a conversion without a workflow's ID may belong to any task
// of the namespace.
func TestConversionWithoutAWorkflow(t *testing.T) {
	for _, of := range []site{{namespace: "n"}, {namespace: "n", serialization: converter.NexusSerializationContext{Endpoint: "e"}}} {
		testConversionWithoutAWorkflow(t, of)
	}
}

func testConversionWithoutAWorkflow(t *testing.T, of site) {
	synctest.Test(t, func(t *testing.T) {
		c := &Codec{tasks: hold.NewTasks(), watchers: new(watchers)}
		var mu sync.Mutex
		reported := make(map[string]time.Duration)
		start := time.Now()
		for _, name := range []string{"a", "b", "answered"} {
			one := &hold.Task{Token: []byte(name), Attempt: 9, Until: start.Add(time.Minute), Base: usualTaskTimeout, Report: func(error) error {
				mu.Lock()
				defer mu.Unlock()
				reported[name] = time.Since(start)
				return nil
			}}
			one.Facts.Namespace, one.Facts.WorkflowID = "n", name
			c.tasks.Begin(one)
		}
		converts := &dataConverter{codec: payloadCodec{codec: c, site: of}}
		if _, fails := errors.AsType[*converter.WorkflowTaskFailureError](converts.hold(&kms.Error{Class: kms.Unavailable})); !fails {
			t.Error("the SDK is not to fail its task")
		}
		answer := hold.Sending{Namespace: "n", Request: &workflowservice.RespondWorkflowTaskFailedRequest{TaskToken: []byte("answered")}}
		if _, err := c.tasks.BeforeSending(t.Context(), answer); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(reported) != 2 || reported["a"] != 9*time.Second || reported["b"] != 9*time.Second {
			t.Errorf("reported %v", reported)
		}
	})
}
