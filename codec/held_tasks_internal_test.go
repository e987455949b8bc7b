package codec

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/policy"
)

// TestTasksAreBounded: what is remembered, and what is to be told.
func TestTasksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTasks()
		var told atomic.Int64
		for i := range maxReleases + 10 {
			one := &task{facts: policy.Facts{Namespace: "n", WorkflowID: fmt.Sprint("w", i)}, token: fmt.Append(nil, i), attempt: 2, until: time.Now().Add(time.Minute), tell: func(error) { told.Add(1) }}
			ts.begin(one)
			ts.hold(one, errors.New("x"), time.Second, true)
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
		if got := told.Load(); got != maxReleases {
			t.Errorf("told of %d", got)
		}
		if _, runs, due := count(); due > 0 || runs > 10 {
			t.Errorf("%d are due still, of %d runs something is open", due, runs)
		}
	})
}

// TestQueriesThatNobodyAnswers do not pile up.
func TestQueriesThatNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTasks()
		for i := range 100 {
			ts.begin(&task{facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, token: fmt.Append(nil, i), query: true, until: time.Now().Add(usualTaskTimeout)})
			time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		}
		if got := len(ts.of("n", "w")); got > 11 {
			t.Errorf("%d are open", got)
		}
	})
}

// TestClosedTasks: nobody is told of anything once the codec is closed.
func TestClosedTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTasks()
		one := &task{token: []byte("t"), until: time.Now().Add(time.Minute), tell: func(error) { t.Error("told") }}
		ts.begin(one)
		ts.close()
		ts.hold(one, errors.New("x"), time.Second, true)
		ts.releaseAll()
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
	})
}

// TestCloseWaitsForWhatIsBeingTold.
func TestCloseWaitsForWhatIsBeingTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTasks()
		done := false
		one := &task{token: []byte("t"), until: time.Now().Add(time.Minute), tell: func(error) {
			time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
			done = true
		}}
		ts.begin(one)
		ts.hold(one, errors.New("x"), time.Second, true)
		time.Sleep(time.Second + time.Millisecond) //nolint:forbidigo // the clock is the test's
		ts.close()
		if !done {
			t.Error("it is being told still")
		}
	})
}
