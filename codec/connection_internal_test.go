package codec

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/policy"
)

// Two clusters use the same names for all that they can.
func TestConnectionsShareNothing(t *testing.T) {
	one, two := new(connection), new(connection)
	derived := &connection{shares: one}
	ts := newTasks()
	of := func(via *connection) *task {
		return &task{
			via: via, facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, run: "run", token: []byte("token"),
			until: time.Now().Add(time.Minute), tell: func(error) error { return nil },
		}
	}
	first, second := of(one), of(two)
	for _, t := range []*task{first, second} {
		ts.begin(t)
		ts.remember(byPage, []byte("page"), t)
	}
	if !ts.isOpen(first) {
		t.Fatal("a task of another cluster ended it")
	}
	for via, want := range map[*connection][]*task{one: {first}, two: {second}, derived: {first}, nil: {first, second}} {
		for _, got := range [][]*task{ts.of(via, "n", "w"), ts.all(via, "n")} {
			if len(got) != len(want) {
				t.Errorf("%d tasks, want %d", len(got), len(want))
			}
			for _, task := range want {
				if !slices.Contains(got, task) {
					t.Errorf("a task is missing")
				}
			}
		}
	}
	for _, kind := range []string{byTask, byPage} {
		token := map[string][]byte{byTask: []byte("token"), byPage: []byte("page")}[kind]
		for via, want := range map[*connection]*task{one: first, two: second} {
			if got, ok := ts.recall(via, kind, token); !ok || got != want {
				t.Errorf("%s: another's", kind)
			}
		}
	}
	ts.hold(first, errors.New("x"), time.Minute, true)
	if final, _ := ts.reason(first); !final {
		t.Error("another cluster's task lets it be completed")
	}
	ts.answer(two, []byte("token"))
	if !ts.isOpen(first) || ts.isOpen(second) {
		t.Error("the answer went to another cluster's task")
	}
	ts.close()

	w := newWaits(time.Second)
	w.spend(first.runKey(), time.Now().Add(-time.Second))
	if left := w.left(second.runKey()); left != time.Second {
		t.Errorf("another cluster's run has %v left", left)
	}
	if w.left(first.runKey()) == time.Second {
		t.Error("nothing is counted")
	}
}
