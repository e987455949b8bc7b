package codec

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// fakeKEK is a KEK whose availability a test sets, and what probing it does.
type fakeKEK struct {
	state  atomic.Uint32
	asked  atomic.Int32
	answer func(context.Context)
}

func (k *fakeKEK) Availability() keyset.Availability { return keyset.Availability(k.state.Load()) }

func (k *fakeKEK) set(s keyset.Availability) { k.state.Store(uint32(s)) }

func (k *fakeKEK) Probe(ctx context.Context) {
	k.asked.Add(1)
	if k.answer != nil {
		k.answer(ctx)
	}
}

func kekThatIs(s keyset.Availability) *fakeKEK {
	k := new(fakeKEK)
	k.set(s)
	return k
}

// TestKeptWhileTheKMSIsLeftAlone: a task whose KEKs are all being left alone is told
// of when one of them is worth asking, or before it times out.
func TestKeptWhileTheKMSIsLeftAlone(t *testing.T) {
	const timeout = 30 * time.Second
	for _, tc := range []struct {
		name  string
		keks  int
		query bool
		final bool
		back  time.Duration // when one of them is available
		want  time.Duration // when the server is told
	}{
		{"no KEK is known", 0, false, true, 0, 5 * time.Second},
		{"back at once", 1, false, true, 0, 5 * time.Second},
		{"back after a while", 1, false, true, 11200 * time.Millisecond, 11500 * time.Millisecond},
		{"one of two is back", 2, false, true, 11200 * time.Millisecond, 11500 * time.Millisecond},
		{"not back in time", 1, false, true, time.Hour, timeout - tellMargin},
		{"a query", 1, true, true, time.Hour, 5 * time.Second},
		{"one that may be completed", 1, false, false, time.Hour, 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var all keks
				for range tc.keks {
					all = append(all, kekThatIs(keyset.Down))
				}
				if tc.keks > 0 {
					time.AfterFunc(tc.back, func() { all[tc.keks-1].(*fakeKEK).set(keyset.Up) })
				}
				ts := newTasks()
				defer ts.close()
				why := errors.New("x")
				ts.keksOf = func(facts policy.Facts, err error) keks {
					if facts.WorkflowType != "Order" || !errors.Is(err, why) {
						t.Errorf("asked for the KEKs of %+v, %v", facts, err)
					}
					return all
				}
				told := make(chan time.Duration, 2)
				one := &task{facts: policy.Facts{WorkflowType: "Order"}, token: []byte("t"), attempt: 9, query: tc.query, until: begin.Add(timeout), tell: func(error) error {
					told <- time.Since(begin)
					return nil
				}}
				ts.begin(one)
				ts.hold(one, why, one.delay(), tc.final)
				ts.hold(one, errors.New("a later reason"), one.delay(), false)
				if got := <-told; got != tc.want {
					t.Errorf("told after %v, want %v", got, tc.want)
				}
				time.Sleep(timeout) //nolint:forbidigo // the clock is the test's
				if len(told) > 0 {
					t.Error("told twice")
				}
			})
		})
	}
	t.Run("a worker that stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ts := newTasks()
			defer ts.close()
			ts.keksOf = func(policy.Facts, error) keks { return keks{kekThatIs(keyset.Down)} }
			told := false
			one := &task{token: []byte("t"), attempt: 9, until: time.Now().Add(timeout), tell: func(error) error { told = true; return nil }}
			ts.begin(one)
			ts.hold(one, errors.New("x"), one.delay(), true)
			ts.releaseAll("")
			if !told {
				t.Error("nobody was told")
			}
		})
	})
}

// TestProbes: when a KEK is due it is asked, once at a time, and no held task is let
// go before it answers.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var back atomic.Bool
		var asking atomic.Int32
		a, b := kekThatIs(keyset.Down), kekThatIs(keyset.Down)
		a.answer = func(ctx context.Context) {
			if asking.Add(1) > 1 {
				t.Error("asked twice at one time")
			}
			a.set(keyset.Down)
			timer := time.NewTimer(2 * time.Second) // it hangs
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			asking.Add(-1)
			if back.Load() {
				a.set(keyset.Up)
				return
			}
			time.AfterFunc(5*time.Second, func() { a.set(keyset.ProbeDue) })
		}
		ts := newTasks()
		ts.keksOf = func(facts policy.Facts, _ error) keks {
			if facts.WorkflowID == "other" {
				return keks{b}
			}
			return keks{a}
		}
		var told atomic.Int32
		add := func(id string) {
			one := &task{facts: policy.Facts{WorkflowID: id}, token: []byte(id), attempt: 9, until: begin.Add(10 * time.Minute), tell: func(error) error {
				told.Add(1)
				return nil
			}}
			ts.begin(one)
			ts.hold(one, errors.New("x"), one.delay(), true)
		}
		const tasks = 100
		for i := range tasks {
			add(fmt.Sprint(i))
		}
		add("other")
		time.Sleep(10 * time.Second) //nolint:forbidigo // the clock is the test's
		if a.asked.Load() != 0 {
			t.Error("asked while it is left alone")
		}
		a.set(keyset.ProbeDue)
		time.Sleep(68 * time.Second) //nolint:forbidigo // likewise
		// Every 7 s, and up to half a second later.
		if n := a.asked.Load(); n < 9 || n > 10 {
			t.Errorf("asked %d times in 68 s", n)
		}
		if n := told.Load(); n != 0 {
			t.Errorf("%d tasks were let go while it was out", n)
		}
		back.Store(true)
		time.Sleep(9 * time.Second) //nolint:forbidigo // likewise
		if n := told.Load(); n != tasks {
			t.Errorf("%d tasks were let go, want %d", n, tasks)
		}
		if b.asked.Load() != 0 {
			t.Error("another KEK was asked")
		}
		// Closing ends what is under way, and does not wait for an answer.
		back.Store(false)
		a.set(keyset.ProbeDue)
		add("late")
		time.Sleep(6 * time.Second) //nolint:forbidigo // likewise
		if asking.Load() != 1 {
			t.Fatal("it is not being asked")
		}
		closing := time.Now()
		ts.close()
		if took := time.Since(closing); took > 0 {
			t.Errorf("closing took %v", took)
		}
	})
}

// TestWhatATaskWaitsFor: for the KEK that failed. Those of its workflow's rule may
// stand in for it to open, and to seal for the primary recipient alone.
func TestWhatATaskWaitsFor(t *testing.T) {
	const text = `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}, each: {uri: "fake://t/{namespace}"}}
seal:
  - {match: {namespace: "one"}, keys: [a]}
  - {match: {namespace: "two"}, keys: [a, b]}
  - {match: {namespace: "primary"}, keys: [a, b], recipients: primary}
  - {match: {namespace: "tenant-*"}, keys: [each]}
  - {match: {namespace: "mixed-*"}, keys: [each, a]}
`
	p, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	backend := kmstest.NewBackend()
	c, err := New(t.Context(), Config{Policy: p, Registry: kms.NewRegistry(backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if c.tasks.keksOf == nil {
		t.Error("the tasks do not ask")
	}
	for _, namespace := range []string{"tenant-1", "mixed-1"} {
		if _, err := c.now.Load().keys.Named(t.Context(), "each", namespace); err != nil {
			t.Fatal(err)
		}
	}
	about := func(op, id string) error {
		return fmt.Errorf("x: %w", &HeldError{Err: &kms.Error{Op: op, KeyID: id}})
	}
	for _, tc := range []struct {
		name, namespace string
		err             error
		want            []string
	}{
		{"its KEK", "one", about("unwrap", "fake://a"), []string{"fake://a"}},
		{"either opens", "two", about("unwrap", "fake://b"), []string{"fake://a", "fake://b"}},
		{"both have to seal", "two", about("wrap", "fake://b"), []string{"fake://b"}},
		{"both have to seal, and the wait was over", "two", about("seal payload", "fake://b"), []string{"fake://b"}},
		{"either seals", "primary", about("wrap", "fake://b"), []string{"fake://a", "fake://b"}},
		{"a tenant's", "tenant-1", about("unwrap", "fake://t/tenant-1"), []string{"fake://t/tenant-1"}},
		{"a tenant's that is not open", "tenant-2", about("unwrap", "fake://t/tenant-2"), nil},
		{"one of which is not open", "mixed-2", about("unwrap", "fake://a"), nil},
		{"a tenant's and another", "mixed-1", about("unwrap", "fake://a"), []string{"fake://t/mixed-1", "fake://a"}},
		{"what was sealed under the KEK of another rule", "one", about("unwrap", "fake://b"), []string{"fake://b"}},
		{"no KEK", "one", about("unwrap", ""), nil},
		{"no failure of a KMS", "one", errors.New("x"), nil},
		{"no rule", "none", about("unwrap", "fake://a"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, k := range c.keksOf(policy.Facts{Namespace: tc.namespace}, tc.err) {
				if k.Availability() != keyset.Up {
					t.Error("one of them is out")
				}
				got = append(got, k.(*keyset.Key).ID())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTimeouts: a task has the time that its last scheduled event says. That is on
// the last page of a history, so that of a first page it is the least that the server
// gives for the attempt, and never what an event of an earlier outage says.
func TestTimeouts(t *testing.T) {
	started := func(timeout time.Duration) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
			WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{WorkflowTaskTimeout: durationpb.New(timeout)},
		}}
	}
	scheduled := func(timeout time.Duration) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{
			WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{StartToCloseTimeout: durationpb.New(timeout)},
		}}
	}
	const s = time.Second
	for _, tc := range []struct {
		name          string
		attempt       int32
		paged         bool
		events        []*historypb.HistoryEvent
		timeout, base time.Duration
	}{
		{"nothing is said", 5, false, nil, 10 * s, 10 * s},
		{"all of a history", 5, false, []*historypb.HistoryEvent{started(20 * s), scheduled(20 * s), scheduled(28 * s)}, 28 * s, 20 * s},
		{"the end of one", 5, false, []*historypb.HistoryEvent{scheduled(18 * s)}, 18 * s, 18 * s},
		{"a first page", 3, true, []*historypb.HistoryEvent{started(20 * s), scheduled(600 * s)}, 20 * s, 20 * s},
		{"of a fourth try", 4, true, []*historypb.HistoryEvent{started(20 * s), scheduled(20 * s)}, 24 * s, 20 * s},
		{"of a ninth", 9, true, []*historypb.HistoryEvent{started(10 * s)}, 138 * s, 10 * s},
		{"of a thousandth", 1000, true, nil, 490 * s, 10 * s},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := &workflowservice.PollWorkflowTaskQueueResponse{Attempt: tc.attempt, History: &historypb.History{Events: tc.events}}
			if tc.paged {
				in.NextPageToken = []byte("more")
			}
			if timeout, base := timeoutsOf(in); timeout != tc.timeout || base != tc.base {
				t.Errorf("%v and %v, want %v and %v", timeout, base, tc.timeout, tc.base)
			}
		})
	}
}

// TestTriesInAnOutage: a lone workflow uses up few tries, so that the server does not
// wait long for a worker that is killed. The server gives a task out again at once, and
// each try more time.
func TestTriesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := kekThatIs(keyset.ProbeDue)
		a.answer = func(context.Context) {
			a.set(keyset.Down)
			time.AfterFunc(5*time.Second, func() { a.set(keyset.ProbeDue) })
		}
		ts := newTasks()
		defer ts.close()
		ts.keksOf = func(policy.Facts, error) keks { return keks{a} }
		var tries atomic.Int32
		var give func()
		give = func() {
			attempt := tries.Add(1)
			one := &task{token: fmt.Append(nil, attempt), attempt: attempt, until: time.Now().Add(usualTaskTimeout + retryTime(attempt)*5/4), tell: func(error) error {
				time.AfterFunc(time.Millisecond, give)
				return nil
			}}
			ts.begin(one)
			(&guard{codec: &Codec{tasks: ts}}).failTask(one, errors.New("x"))
		}
		give()
		for i, want := range []struct {
			time  time.Duration
			tries int32
		}{{2 * time.Minute, 7}, {28 * time.Minute, 12}} {
			time.Sleep(want.time) //nolint:forbidigo // the clock is the test's
			if got := tries.Load(); got > want.tries {
				t.Errorf("wait %d: %d tries, want %d at most", i, got, want.tries)
			}
		}
		if tries.Load() < 6 {
			t.Errorf("%d tries: nobody was told before its task timed out", tries.Load())
		}
	})
}
