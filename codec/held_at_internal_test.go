package codec

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/kms"
)

// TestHeldBesideWorkflowCode: what the SDK converts without the workflow's context,
// but knowing whose it is, has that workflow's task fail, and nobody else's.
func TestHeldBesideWorkflowCode(t *testing.T) {
	mine := converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "w"}
	away := &kms.Error{Class: kms.Unavailable}
	for _, tc := range []struct {
		name string
		site site
		err  error
		told bool
	}{
		{"marker", site{namespace: "n", serialization: mine}, away, true},
		{"namespace of the client", site{namespace: "n", serialization: converter.WorkflowSerializationContext{WorkflowID: "w"}}, away, true},
		{"nothing failed", site{namespace: "n", serialization: mine}, nil, false},
		{"no matter of waiting", site{namespace: "n", serialization: mine}, &kms.Error{Class: kms.Corrupt}, true},
		{"another workflow", site{namespace: "n", serialization: converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "v"}}, away, false},
		{"another namespace", site{namespace: "n", serialization: converter.WorkflowSerializationContext{Namespace: "m", WorkflowID: "w"}}, away, false},
		{"a client's call", site{namespace: "n", serialization: mine, ctx: context.Background()}, away, false}, //nolint:usetesting // any context
		{"an activity", site{namespace: "n", serialization: converter.ActivitySerializationContext{Namespace: "n", WorkflowID: "w"}}, away, false},
		{"whose it is is not known", site{namespace: "n"}, away, false},
		{"a replayer", site{namespace: "n", serialization: mine, replay: true}, away, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Codec{tasks: newTasks()}
				var told error
				one := &task{run: "run", token: []byte("t"), attempt: 3, until: time.Now().Add(usualTaskTimeout), base: usualTaskTimeout, tell: func(why error) { told = why }}
				one.facts.Namespace, one.facts.WorkflowID = "n", "w"
				c.tasks.begin(one)
				other := &task{run: "other", token: []byte("o"), attempt: 3, until: time.Now().Add(usualTaskTimeout), base: usualTaskTimeout, tell: func(error) { t.Error("told of another workflow's task") }}
				other.facts.Namespace, other.facts.WorkflowID = "n", "other"
				c.tasks.begin(other)
				if held := c.heldAt(tc.site, tc.err); held != nil {
					t.Errorf("panics with %v: the SDK would not catch it", held)
				}
				if time.Sleep(8 * time.Second); told != nil && kms.ClassOf(told) == kms.Corrupt { //nolint:forbidigo // the clock is the test's
					t.Error("told before the SDK had its time")
				}
				time.Sleep(2 * time.Second) //nolint:forbidigo // the clock is the test's
				synctest.Wait()
				if (told != nil) != tc.told || (tc.told && kms.ClassOf(told) != kms.ClassOf(tc.err)) {
					t.Errorf("told %v", told)
				}
			})
		})
	}
	if open := (*tasks)(nil).of("n", "w"); open != nil {
		t.Error("who knows nothing knows", open)
	}
}
