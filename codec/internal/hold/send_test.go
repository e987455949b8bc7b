package hold

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// TestRefusedWhenSentAgain: the SDK sends an answer again that the server did not accept. If
// the guard refuses it then, the failure is reported, whatever the attempt.
func TestRefusedWhenSentAgain(t *testing.T) {
	for _, attempt := range []int32{1, 2, 9} {
		synctest.Test(t, func(t *testing.T) {
			ts := NewTasks()
			defer ts.Close()
			reported := make(chan string, 2)
			one := taskIn("t", reported)
			one.Attempt = attempt
			ts.Begin(one)
			req := &workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("t")}
			if _, err := ts.BeforeSending(t.Context(), Sending{Namespace: "n", Request: req}); err != nil {
				t.Fatal(err)
			}
			if _, err := ts.BeforeSending(t.Context(), Sending{Namespace: "n", Request: req, Refused: status.Error(codes.Unavailable, "sealing failed")}); err == nil {
				t.Error("it was sent")
			}
			time.Sleep(5 * time.Second) //nolint:forbidigo // the clock is the test's
			synctest.Wait()
			if len(reported) != 1 {
				t.Errorf("attempt %d: reported %d times", attempt, len(reported))
			}
		})
	}
}

// TestRefusedIsKept: an answer that the guard refuses because of a KMS outage waits for that
// KMS, as an error in workflow code does.
func TestRefusedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTasks()
		defer ts.Close()
		reported := make(chan string, 2)
		one := taskIn("t", reported)
		one.Attempt, one.Until = 9, time.Now().Add(time.Minute)
		ts.Begin(one)
		out := kekThatIs(keyset.Down)
		ts.KEKsOf = func(_ policy.Facts, why error) []KEK {
			if e, ok := errors.AsType[*kms.Error](why); !ok || e.KeyID != "fake://a" {
				t.Errorf("the task waits for %v", why)
			}
			return []KEK{out}
		}
		refused := fmt.Errorf("sealing failed: %w", &kms.Error{Class: kms.Unavailable, Op: "wrap", KeyID: "fake://a"})
		req := &workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("t")}
		if _, err := ts.BeforeSending(t.Context(), Sending{Namespace: "n", Request: req, Refused: refused}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "fake://a") {
			t.Errorf("the SDK receives %v", err)
		}
		time.Sleep(30 * time.Second) //nolint:forbidigo // the clock is the test's
		if len(reported) != 0 {
			t.Error("it was not kept")
		}
		out.set(keyset.Up)
		time.Sleep(500 * time.Millisecond) //nolint:forbidigo // likewise
		synctest.Wait()
		if len(reported) != 1 || !strings.Contains(<-reported, "fake://a") {
			t.Error("it was not released, or the report gives no reason")
		}
	})
}
