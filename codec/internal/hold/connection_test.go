package hold

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/policy"
)

// Two clusters use the same names wherever possible.
func TestConnectionsShareNothing(t *testing.T) {
	one, two := new(Connection), new(Connection)
	derived := &Connection{Shares: one}
	ts := NewTasks()
	of := func(via *Connection) *Task {
		return &Task{
			Via: via, Facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, Run: "run", Token: []byte("token"),
			Until: time.Now().Add(time.Minute), Report: func(error) error { return nil },
		}
	}
	first, second := of(one), of(two)
	for _, t := range []*Task{first, second} {
		ts.Begin(t)
		ts.remember(byPage, []byte("page"), t)
	}
	if !ts.IsOpen(first) {
		t.Fatal("a task of another cluster ended it")
	}
	for via, want := range map[*Connection][]*Task{one: {first}, two: {second}, derived: {first}, nil: {first, second}} {
		for _, got := range [][]*Task{ts.Of(via, "n", "w"), ts.All(via, "n")} {
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
		for via, want := range map[*Connection]*Task{one: first, two: second} {
			if got, ok := ts.recall(via, kind, token); !ok || got != want {
				t.Errorf("%s: another's", kind)
			}
		}
	}
	ts.Hold(first, errors.New("x"), time.Minute, true)
	if final, _ := ts.Reason(first); !final {
		t.Error("another cluster's task lets it be completed")
	}
	ts.answer(two, []byte("token"))
	if !ts.IsOpen(first) || ts.IsOpen(second) {
		t.Error("the answer went to another cluster's task")
	}
	ts.Close()

	w := NewWaits(time.Second)
	w.spend(first.RunKey(), time.Now().Add(-time.Second))
	if left := w.Left(second.RunKey()); left != time.Second {
		t.Errorf("another cluster's run has %v left", left)
	}
	if w.Left(first.RunKey()) == time.Second {
		t.Error("the wait is not counted")
	}
}
