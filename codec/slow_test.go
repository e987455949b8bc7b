package codec_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// coldPolicy has each workflow start without data keys.
const coldPolicy = `
keys: {a: {uri: "fake://a"}}
seal: [{match: {namespace: "*"}, keys: [a], claims: [workflowId]}]
`

// endsWithSlowKMS gives a worker with the plugin, and with the SDK's own deadlock detector, the
// first task of a workflow, again while it fails. It returns how the task ends, and at which
// attempt.
func endsWithSlowKMS(t *testing.T, latency time.Duration, onPanic worker.WorkflowPanicPolicy, at conversionPlace) (end string, attempt int32) {
	t.Helper()
	c, backend := newCodec(t, coldPolicy)
	s := newStation(t, client.Options{Namespace: "n", Plugins: []client.Plugin{codec.NewPlugin(c)}}, func(worker.Registry) {})
	s.workflow(onPanic, at.code)
	task := begun(payload(t, "in")).poll("t")
	if at.task != nil {
		task = at.task(t)
	}
	sealTask(t, newCodecOn(t, coldPolicy, backend), task)
	backend.Fake("a").Always(kmstest.Slow(latency))
	id := fmt.Sprint(rand.Uint64())
	for attempt = 1; attempt <= 10; attempt++ {
		given := proto.CloneOf(task)
		given.WorkflowExecution.WorkflowId, given.TaskToken, given.Attempt = id, fmt.Appendf(nil, "%s-%d", id, attempt), attempt
		s.give(given)
		if end = s.ends(); end != taskFails {
			break
		}
	}
	return end, attempt
}

// sealTask seals what is in plaintext in a task: the SDK sends some of it back.
func sealTask(t *testing.T, c *codec.Codec, task *workflowservice.PollWorkflowTaskQueueResponse) {
	t.Helper()
	edit := payloadwalk.Edit(task)
	if err := payloadwalk.Walk(task, payloadwalk.Visitor{Payload: func(at *payloadwalk.At, _ *commonpb.Payload) error {
		if p, ok := edit.At(at.Place()).(*commonpb.Payload); ok {
			sealed := encode(t, c, "n", proto.CloneOf(p))[0]
			proto.Reset(p)
			proto.Merge(p, sealed)
		}
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	if err := edit.Done(); err != nil {
		t.Fatal(err)
	}
}

// A KMS that is slow, and not out, fails no workflow task, wherever the SDK converts: the SDK's
// deadlock detector does not count the wait. A task waits 3 s in all. So a task that needs
// data keys several times in a row is held while the KMS takes 1.5 s for each, and goes on: each
// attempt finds more data keys ready.
func TestASlowKMSLosesNoWorkflow(t *testing.T) {
	places := append(conversionPlaces(), conversionPlace{name: "15 mutable side effects", code: func(ctx workflow.Context) error {
		for i := range 15 {
			workflow.MutableSideEffect(ctx, fmt.Sprint("id", i), func(workflow.Context) any { return i }, func(a, b any) bool { return a == b })
		}
		return nil
	}})
	held := map[string]int32{"15 mutable side effects": 8} // attempts at 1.5 s, at most
	var group errgroup.Group
	group.SetLimit(32) // they wait, mostly
	for _, at := range places {
		for _, onPanic := range []worker.WorkflowPanicPolicy{worker.BlockWorkflow, worker.FailWorkflow} {
			group.Go(func() error {
				t.Run(fmt.Sprintf("%s, policy %d", at.name, onPanic), func(t *testing.T) {
					want, _ := endsWithSlowKMS(t, 0, onPanic, at)
					if want == taskFails {
						t.Error("the task fails with a fast KMS")
					}
					for latency, most := range map[time.Duration]int32{200 * time.Millisecond: 1, 1500 * time.Millisecond: max(held[at.name], 4)} {
						if got, attempt := endsWithSlowKMS(t, latency, onPanic, at); got != want || attempt > most {
							t.Errorf("latency %v: %s at attempt %d; with a fast KMS: %s", latency, got, attempt, want)
						}
					}
				})
				return nil
			})
		}
	}
	_ = group.Wait() // none of them fails
}
