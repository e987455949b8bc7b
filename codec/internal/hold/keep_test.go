package hold

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/policy"
)

// fakeKEK is a KEK with an availability and a probe that a test sets.
type fakeKEK struct {
	state  atomic.Uint32
	probes atomic.Int32
	answer func(context.Context)
}

func (k *fakeKEK) Availability() keyset.Availability { return keyset.Availability(k.state.Load()) }

func (k *fakeKEK) set(s keyset.Availability) { k.state.Store(uint32(s)) }

func (k *fakeKEK) Probe(ctx context.Context) {
	k.probes.Add(1)
	if k.answer != nil {
		k.answer(ctx)
	}
}

func kekThatIs(s keyset.Availability) *fakeKEK {
	k := new(fakeKEK)
	k.set(s)
	return k
}

// TestKeptWhileBreakersAreOpen: a task with KEKs that are all blocked by breakers is reported
// when one of them is worth a call, or before the task times out.
func TestKeptWhileBreakersAreOpen(t *testing.T) {
	const timeout = 30 * time.Second
	for _, tc := range []struct {
		name  string
		keks  int
		query bool
		final bool
		back  time.Duration // when one of them is available
		want  time.Duration // when the failure is reported
	}{
		{"no KEK is known", 0, false, true, 0, 5 * time.Second},
		{"back at once", 1, false, true, 0, recheck},
		{"back before the delay is over", 1, false, true, 2200 * time.Millisecond, 2500 * time.Millisecond},
		{"back after a while", 1, false, true, 11200 * time.Millisecond, 11500 * time.Millisecond},
		{"one of two is back", 2, false, true, 11200 * time.Millisecond, 11500 * time.Millisecond},
		{"not back in time", 1, false, true, time.Hour, timeout - reportMargin},
		{"a query", 1, true, true, time.Hour, 5 * time.Second},
		{"one that may be completed", 1, false, false, time.Hour, 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var all []KEK
				for range tc.keks {
					all = append(all, kekThatIs(keyset.Down))
				}
				if tc.keks > 0 {
					time.AfterFunc(tc.back, func() { all[tc.keks-1].(*fakeKEK).set(keyset.Up) })
				}
				ts := NewTasks()
				defer ts.Close()
				why := errors.New("x")
				ts.KEKsOf = func(facts policy.Facts, err error) []KEK {
					if facts.WorkflowType != "Order" || !errors.Is(err, why) {
						t.Errorf("KEKsOf called for %+v, %v", facts, err)
					}
					return all
				}
				reported := make(chan time.Duration, 2)
				one := &Task{Facts: policy.Facts{WorkflowType: "Order"}, Token: []byte("t"), Attempt: 9, Query: tc.query, Until: begin.Add(timeout), Report: func(error) error {
					reported <- time.Since(begin)
					return nil
				}}
				ts.Begin(one)
				ts.Hold(one, why, one.Delay(), tc.final)
				ts.Hold(one, errors.New("a later reason"), one.Delay(), false)
				if got := <-reported; got != tc.want {
					t.Errorf("reported after %v, want %v", got, tc.want)
				}
				time.Sleep(timeout) //nolint:forbidigo // the clock is the test's
				if len(reported) > 0 {
					t.Error("reported twice")
				}
			})
		})
	}
	t.Run("a worker that stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ts := NewTasks()
			defer ts.Close()
			ts.KEKsOf = func(policy.Facts, error) []KEK { return []KEK{kekThatIs(keyset.Down)} }
			reported := false
			one := &Task{Token: []byte("t"), Attempt: 9, Until: time.Now().Add(timeout), Report: func(error) error { reported = true; return nil }}
			ts.Begin(one)
			ts.Hold(one, errors.New("x"), one.Delay(), true)
			ts.ReleaseAll("")
			if !reported {
				t.Error("nothing was reported")
			}
		})
	})
}

// TestProbes: when a KEK's breaker is due, its KMS is probed, once at a time. No held task is
// released before it answers.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var back atomic.Bool
		var probing atomic.Int32
		a, b := kekThatIs(keyset.Down), kekThatIs(keyset.Down)
		a.answer = func(ctx context.Context) {
			if probing.Add(1) > 1 {
				t.Error("two probes at one time")
			}
			a.set(keyset.Down)
			timer := time.NewTimer(2 * time.Second) // it hangs
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			probing.Add(-1)
			if back.Load() {
				a.set(keyset.Up)
				return
			}
			time.AfterFunc(5*time.Second, func() { a.set(keyset.ProbeDue) })
		}
		ts := NewTasks()
		ts.KEKsOf = func(facts policy.Facts, _ error) []KEK {
			if facts.WorkflowID == "other" {
				return []KEK{b}
			}
			return []KEK{a}
		}
		var reported atomic.Int32
		add := func(id string) {
			one := &Task{Facts: policy.Facts{WorkflowID: id}, Token: []byte(id), Attempt: 9, Until: begin.Add(10 * time.Minute), Report: func(error) error {
				reported.Add(1)
				return nil
			}}
			ts.Begin(one)
			ts.Hold(one, errors.New("x"), one.Delay(), true)
		}
		const tasks = 100
		for i := range tasks {
			add(fmt.Sprint(i))
		}
		add("other")
		time.Sleep(10 * time.Second) //nolint:forbidigo // the clock is the test's
		if a.probes.Load() != 0 {
			t.Error("probed while the breaker is open")
		}
		a.set(keyset.ProbeDue)
		time.Sleep(68 * time.Second) //nolint:forbidigo // likewise
		// Every 7 s, and up to half a second later.
		if n := a.probes.Load(); n < 9 || n > 10 {
			t.Errorf("probed %d times in 68 s", n)
		}
		if n := reported.Load(); n != 0 {
			t.Errorf("%d tasks were released during the outage", n)
		}
		back.Store(true)
		time.Sleep(9 * time.Second) //nolint:forbidigo // likewise
		if n := reported.Load(); n != tasks {
			t.Errorf("%d tasks were released, want %d", n, tasks)
		}
		if b.probes.Load() != 0 {
			t.Error("another KEK was probed")
		}
		// Closing ends the probe under way, and does not wait for an answer.
		back.Store(false)
		a.set(keyset.ProbeDue)
		add("late")
		time.Sleep(time.Second) //nolint:forbidigo // likewise
		if probing.Load() != 1 {
			t.Fatal("no probe is under way")
		}
		closing := time.Now()
		ts.Close()
		if took := time.Since(closing); took > 0 {
			t.Errorf("closing took %v", took)
		}
	})
}

// TestTimeouts: the last scheduled event of a task states its timeout. That event is on the
// last page of a history. For a first page the result is the least that the server gives for
// the attempt, and never a value from an earlier outage.
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
		{"no timeout is stated", 5, false, nil, 10 * s, 10 * s},
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

// TestTriesInAnOutage: a lone workflow uses few attempts, so that the server does not wait long
// for a worker that is killed. The server hands a task out again at once, with more time for
// each attempt.
func TestTriesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := kekThatIs(keyset.ProbeDue)
		a.answer = func(context.Context) {
			a.set(keyset.Down)
			time.AfterFunc(5*time.Second, func() { a.set(keyset.ProbeDue) })
		}
		ts := NewTasks()
		defer ts.Close()
		ts.KEKsOf = func(policy.Facts, error) []KEK { return []KEK{a} }
		var tries atomic.Int32
		var give func()
		give = func() {
			attempt := tries.Add(1)
			one := &Task{Token: fmt.Append(nil, attempt), Attempt: attempt, Until: time.Now().Add(usualTaskTimeout + retryTime(attempt)*5/4), Report: func(error) error {
				time.AfterFunc(time.Millisecond, give)
				return nil
			}}
			ts.Begin(one)
			ts.Fail(one, errors.New("x"))
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
			t.Errorf("%d tries: nothing was reported before the task timed out", tries.Load())
		}
	})
}
