package hold

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/policy"
)

// TestTasksAreBounded: the registry bounds the tasks that it remembers, and those to be
// reported.
func TestTasksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		var reported atomic.Int64
		for i := range maxDue + 10 {
			one := &Task{Facts: policy.Facts{Namespace: "n", WorkflowID: fmt.Sprint("w", i)}, Token: fmt.Append(nil, i), Attempt: 2, Until: time.Now().Add(time.Minute), Report: func(error) error { reported.Add(1); return nil }}
			ts.Begin(one)
			ts.Hold(one, errors.New("x"), time.Second, true)
		}
		count := func() (known, runs, due int) {
			ts.mu.Lock()
			defer ts.mu.Unlock()
			return ts.known.Len(), ts.open.Len(), len(ts.due)
		}
		if known, runs, _ := count(); known > maxTasks || runs > maxTasks {
			t.Errorf("%d tasks of %d runs are remembered", known, runs)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
		synctest.Wait()
		if got := reported.Load(); got != maxDue {
			t.Errorf("reported %d", got)
		}
		if _, runs, due := count(); due > 0 || runs > 10 {
			t.Errorf("%d tasks are still due, %d runs have open tasks", due, runs)
		}
	})
}

// TestUnansweredQueriesAreBounded: queries without an answer do not pile up.
func TestUnansweredQueriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		for i := range 100 {
			ts.Begin(&Task{Facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, Token: fmt.Append(nil, i), Query: true, Until: time.Now().Add(usualTaskTimeout)})
			time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		}
		if got := len(ts.Of(nil, "n", "w")); got > 11 {
			t.Errorf("%d are open", got)
		}
	})
}

// TestClosedTasks: nothing is reported after Close.
func TestClosedTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		one := &Task{Token: []byte("t"), Until: time.Now().Add(time.Minute), Report: func(error) error { t.Error("reported"); return nil }}
		ts.Begin(one)
		ts.Close()
		ts.Hold(one, errors.New("x"), time.Second, true)
		ts.ReleaseAll("")
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
	})
}

// TestCloseWaitsForReports: Close returns after the reports under way.
func TestCloseWaitsForReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		done := false
		one := &Task{Token: []byte("t"), Until: time.Now().Add(time.Minute), Report: func(error) error {
			time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
			done = true
			return nil
		}}
		ts.Begin(one)
		ts.Hold(one, errors.New("x"), time.Second, true)
		time.Sleep(time.Second + time.Millisecond) //nolint:forbidigo // the clock is the test's
		ts.Close()
		if !done {
			t.Error("a report is still under way")
		}
	})
}

// TestReportIsRetried: a report is repeated until the server accepts it, or the task is over.
func TestReportIsRetried(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		always bool
		want   int64 // tries
	}{
		{"taken", nil, false, 1},
		{"a limit, once", status.Error(codes.ResourceExhausted, "x"), false, 2},
		{"over already", status.Error(codes.NotFound, "x"), true, 1},
		{"closed", status.Error(codes.Canceled, "x"), true, 1},
		{"down", status.Error(codes.Unavailable, "x"), true, 6}, // after 0, 0.25, 0.75, 1.75, 3.75, 5.75 s
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts := NewTasks()
				var tries atomic.Int64
				one := &Task{Token: []byte("t"), Until: time.Now().Add(7 * time.Second), Report: func(error) error {
					if tries.Add(1) > 1 && !tc.always {
						return nil
					}
					return tc.err
				}}
				ts.Begin(one)
				ts.FailNow(one, errors.New("x"))
				time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
				synctest.Wait()
				if got := tries.Load(); got != tc.want {
					t.Errorf("%d tries, want %d", got, tc.want)
				}
				ts.Close()
			})
		})
	}
	t.Run("closed meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ts := NewTasks()
			var tries atomic.Int64
			one := &Task{Token: []byte("t"), Until: time.Now().Add(time.Minute), Report: func(error) error {
				tries.Add(1)
				return status.Error(codes.Unavailable, "x")
			}}
			ts.FailNow(one, errors.New("x"))
			ts.Close()
			ts.Close()
			two := *one
			two.reported = false
			ts.FailNow(&two, errors.New("x"))
			time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
			if got := tries.Load(); got != 2 {
				t.Errorf("%d tries", got)
			}
		})
	})
}
