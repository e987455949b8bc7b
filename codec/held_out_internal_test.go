package codec

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

type availability struct{ atomic.Bool }

func (a *availability) Available() bool { return a.Load() }

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
					all = append(all, new(availability))
				}
				if tc.keks > 0 {
					time.AfterFunc(tc.back, func() { all[tc.keks-1].(*availability).Store(true) })
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
			ts.keksOf = func(policy.Facts, error) keks { return keks{new(availability)} }
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

// TestWhatATaskWaitsFor: only for the KEKs of its workflow's rule, all of them, and
// if the failure is about one of them.
func TestWhatATaskWaitsFor(t *testing.T) {
	const text = `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}, each: {uri: "fake://{namespace}"}}
seal:
  - {match: {namespace: "one"}, keys: [a]}
  - {match: {namespace: "two"}, keys: [a, b], recipients: primary}
  - {match: {namespace: "tenant-*"}, keys: [each]}
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
	if _, err := c.keys.named(t.Context(), "each", "tenant-1"); err != nil {
		t.Fatal(err)
	}
	about := func(id string) error { return fmt.Errorf("x: %w", &HeldError{Err: &kms.Error{KeyID: id}}) }
	for _, tc := range []struct {
		name, namespace string
		err             error
		want            int
	}{
		{"its KEK", "one", about("fake://a"), 1},
		{"one of two", "two", about("fake://b"), 2},
		{"a tenant's", "tenant-1", about("fake://tenant-1"), 1},
		{"a tenant's that is not open", "tenant-2", about("fake://tenant-2"), 0},
		{"a KEK of another rule", "one", about("fake://b"), 0},
		{"no KEK", "one", about(""), 0},
		{"no failure of a KMS", "one", errors.New("x"), 0},
		{"no rule", "none", about("fake://a"), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := c.keksOf(policy.Facts{Namespace: tc.namespace}, tc.err)
			if len(got) != tc.want {
				t.Errorf("waits for %d KEKs, want %d", len(got), tc.want)
			}
			if got.out() {
				t.Error("they are out")
			}
		})
	}
}
