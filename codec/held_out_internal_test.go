package codec

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// fakeKEK is a KEK whose standing a test sets.
type fakeKEK struct{ atomic.Uint32 }

func (k *fakeKEK) standing() standing { return standing(k.Load()) }

func (k *fakeKEK) set(s standing) { k.Store(uint32(s)) }

func kekThatIs(s standing) *fakeKEK {
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
					all = append(all, kekThatIs(out))
				}
				if tc.keks > 0 {
					time.AfterFunc(tc.back, func() { all[tc.keks-1].(*fakeKEK).set(answering) })
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
			ts.keksOf = func(policy.Facts, error) keks { return keks{kekThatIs(out)} }
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

// TestScouts: while nobody knows whether a KEK is back, tasks are let go one by one,
// of those that wait for it the one with the fewest tries behind it first.
func TestScouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		a, b, c := kekThatIs(out), kekThatIs(out), kekThatIs(out)
		ts := newTasks()
		defer ts.close()
		waits := map[string]keks{}
		ts.keksOf = func(facts policy.Facts, _ error) keks { return waits[facts.WorkflowID] }
		type told struct {
			id string
			at time.Duration
		}
		heard := make(chan told, 100)
		add := func(id string, attempt int32, all ...kek) {
			waits[id] = all
			one := &task{facts: policy.Facts{WorkflowID: id}, token: []byte(id), attempt: attempt, until: begin.Add(10 * time.Minute), tell: func(error) error {
				heard <- told{id, time.Since(begin)}
				return nil
			}}
			ts.begin(one)
			ts.hold(one, errors.New("x"), one.delay(), true)
		}
		add("many tries", 30, a)
		add("some tries", 20, a)
		add("few tries", 10, a)
		add("of another", 2, b)
		add("of both", 15, a, c)
		want := func(from time.Duration, ids ...string) {
			t.Helper()
			time.Sleep(time.Until(begin.Add(from + recheck))) //nolint:forbidigo // the clock is the test's
			synctest.Wait()
			var got []string
			for len(heard) > 0 {
				one := <-heard
				if one.at < from || one.at > from+recheck {
					t.Errorf("%s: told after %v", one.id, one.at)
				}
				got = append(got, one.id)
			}
			slices.Sort(got)
			if !slices.Equal(got, ids) {
				t.Errorf("from %v on these were let go: %q, want %q", from, got, ids)
			}
		}
		set := func(at time.Duration, k *fakeKEK, s standing) {
			time.AfterFunc(time.Until(begin.Add(at)), func() { k.set(s) })
		}
		set(30250*time.Millisecond, a, due)
		set(30900*time.Millisecond, a, out) // the first scout asks, and is refused
		want(30*time.Second+250*time.Millisecond, "few tries")
		want(31 * time.Second)
		set(40250*time.Millisecond, a, due)
		set(41250*time.Millisecond, a, out)
		want(40*time.Second+250*time.Millisecond, "of both")
		want(40*time.Second+751*time.Millisecond, "some tries") // the one before has not asked
		set(50250*time.Millisecond, a, answering)
		want(50*time.Second+250*time.Millisecond, "many tries")
		set(60250*time.Millisecond, b, due)
		want(60*time.Second+250*time.Millisecond, "of another")
	})
}

// TestStanding follows a KEK through an outage.
func TestStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("a")
		key, err := decorate(fake, policy.Key{Name: "a", Resilience: policy.Resilience{Attempts: 1, Breaker: policy.Breaker{Failures: 2, OpenFor: time.Second}}}, new(watchers))
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		want := func(when string, want standing) {
			t.Helper()
			if is := key.standing(); is != want {
				t.Errorf("%s: %d, want %d", when, is, want)
			}
		}
		ask := func() {
			t.Helper()
			_, _ = key.Wrap(t.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil) // what it tells the breaker is looked at
		}
		want("at first", answering)
		fake.Always(kmstest.Fail(kms.Unavailable))
		ask()
		want("after one failure", answering)
		ask()
		want("after two", out)
		time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		want("after a while", due)
		ask()
		want("tried in vain", out)
		time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		fake.Heal()
		want("after another while", due)
		ask()
		want("back", answering)
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
			if is := got.standing(); is != answering {
				t.Errorf("they are %d", is)
			}
		})
	}
}
