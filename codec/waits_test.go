package codec_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// stubbornPolicy has a breaker that never opens: only the waits bound a conversion.
const stubbornPolicy = onePolicy + "resilience: {breaker: {failures: 1000}}\n"

// stalled is a codec with a KMS that hangs, and the wire that its tasks come through.
type stalled struct {
	*wire
	codec *codec.Codec
}

func newStalled(t *testing.T) *stalled {
	c, backend := newCodec(t, stubbornPolicy)
	backend.Fake("a").Always(kmstest.Stall())
	return &stalled{wire: newRunWire(t, c), codec: c}
}

// give hands the SDK a task of a run with nothing to open.
func (s *stalled) give(token, workflowID, run string, query bool) {
	s.t.Helper()
	task := runTask(token, 1)
	task.WorkflowExecution.WorkflowId, task.WorkflowExecution.RunId = workflowID, run
	if query {
		task.Query = &querypb.WorkflowQuery{QueryType: "state"}
	}
	if got := s.poll(task); string(got.GetTaskToken()) != token {
		s.t.Fatalf("the SDK sees %v", got)
	}
}

// A conversion returns its error.
type conversion func(s *stalled) error

// inCode opens a payload in workflow code of testRun. Each call uses another data key, so that
// no conversion profits from the wait of an earlier one.
func inCode(s *stalled) error {
	sealed := sealedElsewhere(s.t, "fake://a")
	panicked, err := inWorkflow(s.t, codec.NewDataConverter(s.codec, testNamespace, nil), func(dc converter.DataConverter) error {
		return dc.FromPayload(sealed, new(string))
	})
	if held, ok := heldIn(panicked); ok {
		return held
	}
	return err
}

// markerOf converts like the SDK does for a version marker, and for other values beside
// workflow code: the converter knows only the workflow's ID.
func markerOf(workflowID string) conversion {
	return func(s *stalled) error {
		_, err := converter.WithDataConverterSerializationContext(codec.NewDataConverter(s.codec, testNamespace, nil), beside(workflowID)).ToPayload("CANARY")
		return err
	}
}

// failing converts the failure of a workflow, likewise.
func failing(s *stalled) error {
	fc := codec.NewFailureConverter(codec.NewDataConverter(s.codec, testNamespace, nil))
	failure := converter.WithFailureConverterSerializationContext(fc, beside(testWorkflow)).ErrorToFailure(errors.New("CANARY"))
	if !strings.Contains(failure.GetMessage(), "could not be sealed (unavailable)") {
		s.t.Errorf("the message of the failure is %q", failure.GetMessage())
	}
	return nil
}

// inClient converts for a client, which has a context.
func inClient(s *stalled) error {
	dc := codec.NewDataConverter(s.codec, testNamespace, nil).(workflow.ContextAware).WithContext(s.t.Context())
	_, err := converter.WithDataConverterSerializationContext(dc, beside(testWorkflow)).ToPayload("CANARY")
	return err
}

func beside(workflowID string) converter.SerializationContext {
	return converter.WorkflowSerializationContext{Namespace: testNamespace, WorkflowID: workflowID}
}

// convert returns how long conversions take, one after the other.
func (s *stalled) convert(all ...conversion) (took []time.Duration) {
	s.t.Helper()
	for _, convert := range all {
		start := time.Now()
		err := convert(s)
		took = append(took, time.Since(start))
		if late := "no answer within " + took[len(took)-1].String(); err != nil && (kms.ClassOf(err) != kms.Unavailable || !strings.Contains(err.Error(), late)) {
			s.t.Errorf("%v, want %q", err, late)
		}
	}
	return took
}

// How long conversions may take if their KMS hangs, of the 10 s that a task has: the first one
// in a task, each later one, and one outside tasks.
const (
	firstWait = 3 * time.Second
	nextWait  = 250 * time.Millisecond
	callWait  = 5 * time.Second
)

// TestOneTaskWaitsOnce: conversions of one run meet a KMS that hangs. Their waits add up, in
// workflow code and beside it, until the run has another task.
func TestOneTaskWaitsOnce(t *testing.T) {
	marker := markerOf(testWorkflow)
	for _, tc := range []struct {
		name string
		all  []conversion
	}{
		{"two in workflow code", []conversion{inCode, inCode}},
		{"three in workflow code", []conversion{inCode, inCode, inCode}},
		{"a version marker, and the failure", []conversion{marker, failing}},
		{"two markers, and the failure", []conversion{marker, marker, failing}},
		{"workflow code, and what is beside it", []conversion{inCode, marker, failing}},
		{"a marker, and workflow code", []conversion{marker, inCode, inCode}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStalled(t)
				want := append([]time.Duration{firstWait}, slices.Repeat([]time.Duration{nextWait}, len(tc.all)-1)...)
				for _, token := range []string{"task", "next task"} {
					s.give(token, testWorkflow, testRun, false)
					if took := s.convert(tc.all...); !slices.Equal(took, want) {
						t.Errorf("in the %s they took %v, want %v", token, took, want)
					}
				}
			})
		})
	}
}

// TestOthersWaitForThemselves: no other run loses time to it. A conversion in no task, or in an
// unknown one, has the time of any call.
func TestOthersWaitForThemselves(t *testing.T) {
	marker, other := markerOf(testWorkflow), markerOf("other")
	for _, tc := range []struct {
		name string
		give func(s *stalled)
		all  []conversion
		want []time.Duration
	}{
		{"another run", func(s *stalled) {
			s.give("task", testWorkflow, testRun, false)
			s.give("other", "other", "other run", false)
		}, []conversion{inCode, marker, other, other}, []time.Duration{firstWait, nextWait, firstWait, nextWait}},
		{"another run comes first", func(s *stalled) {
			s.give("task", testWorkflow, testRun, false)
			s.give("other", "other", "other run", false)
		}, []conversion{other, inCode}, []time.Duration{firstWait, firstWait}},
		{"a query beside the task", func(s *stalled) {
			s.give("task", testWorkflow, testRun, false)
			s.give("query", testWorkflow, testRun, true)
		}, []conversion{marker, inCode}, []time.Duration{firstWait, nextWait}},
		{"a query of an earlier run beside the task", func(s *stalled) {
			s.give("task", testWorkflow, testRun, false)
			s.give("query", testWorkflow, "earlier run", true)
		}, []conversion{marker, inCode}, []time.Duration{callWait, firstWait}},
		{"no task", func(*stalled) {}, []conversion{marker, inCode}, []time.Duration{callWait, firstWait}},
		{"a task of another workflow", func(s *stalled) {
			s.give("other", "other", "other run", false)
		}, []conversion{marker, other}, []time.Duration{callWait, firstWait}},
		{"a client", func(s *stalled) {
			s.give("task", testWorkflow, testRun, false)
		}, []conversion{inClient, inCode}, []time.Duration{callWait, firstWait}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStalled(t)
				tc.give(s)
				if took := s.convert(tc.all...); !slices.Equal(took, tc.want) {
					t.Errorf("they took %v, want %v", took, tc.want)
				}
			})
		})
	}
}
