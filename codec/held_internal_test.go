package codec

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// usualTaskTimeout is the server's default timeout of a workflow task.
const usualTaskTimeout = 10 * time.Second

// taskIn is a task of workflow w in namespace n that notes each report, and why it was made.
func taskIn(token string, reports chan<- string) *hold.Task {
	return &hold.Task{
		Facts: policy.Facts{Namespace: "n", WorkflowID: "w"}, Token: []byte(token), Attempt: 9,
		Until: time.Now().Add(time.Minute), Base: time.Minute,
		Report: func(why error) error { reports <- why.Error(); return nil },
	}
}

// fakeKEK is a KEK with an availability and a probe that a test sets.
type fakeKEK struct {
	state  atomic.Uint32
	answer func(context.Context)
}

func (k *fakeKEK) Availability() keyset.Availability { return keyset.Availability(k.state.Load()) }

func (k *fakeKEK) set(s keyset.Availability) { k.state.Store(uint32(s)) }

func (k *fakeKEK) Probe(ctx context.Context) {
	if k.answer != nil {
		k.answer(ctx)
	}
}

func kekThatIs(s keyset.Availability) *fakeKEK {
	k := new(fakeKEK)
	k.set(s)
	return k
}

// TestRefusedWhenSentAgain: the SDK sends an answer again that the server did not take.
// If the guard refuses it by then, the server is told, whatever the attempt.
func TestRefusedWhenSentAgain(t *testing.T) {
	for _, attempt := range []int32{1, 2, 9} {
		synctest.Test(t, func(t *testing.T) {
			ts := hold.NewTasks()
			defer ts.Close()
			told := make(chan string, 2)
			one := taskIn("t", told)
			one.Attempt = attempt
			ts.Begin(one)
			g := &guard{codec: &Codec{tasks: ts}, namespace: "n"}
			req := &workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("t")}
			if _, err := g.answer(t.Context(), req, nil, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := g.answer(t.Context(), req, status.Error(codes.Unavailable, "sealing failed"), nil); err == nil {
				t.Error("it was sent")
			}
			time.Sleep(5 * time.Second) //nolint:forbidigo // the clock is the test's
			synctest.Wait()
			if len(told) != 1 {
				t.Errorf("attempt %d: told %d times", attempt, len(told))
			}
		})
	}
}

// TestRefusedIsKept: what the guard refuses to send because a KMS is out waits for
// that KMS, as what workflow code met does.
func TestRefusedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := hold.NewTasks()
		defer ts.Close()
		told := make(chan string, 2)
		one := taskIn("t", told)
		one.Attempt, one.Until = 9, time.Now().Add(time.Minute)
		ts.Begin(one)
		out := kekThatIs(keyset.Down)
		ts.KEKsOf = func(_ policy.Facts, why error) []hold.KEK {
			if e, ok := errors.AsType[*kms.Error](why); !ok || e.KeyID != "fake://a" {
				t.Errorf("the task waits for %v", why)
			}
			return []hold.KEK{out}
		}
		g := &guard{codec: &Codec{tasks: ts}, namespace: "n"}
		refused := onTheWire(fmt.Errorf("codec: seal headers: %w", &kms.Error{Class: kms.Unavailable, Op: "wrap", KeyID: "fake://a"}))
		req := &workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("t")}
		if _, err := g.answer(t.Context(), req, refused, nil); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "fake://a") {
			t.Errorf("the SDK is told %v", err)
		}
		time.Sleep(30 * time.Second) //nolint:forbidigo // the clock is the test's
		if len(told) != 0 {
			t.Error("it was not kept")
		}
		out.set(keyset.Up)
		time.Sleep(500 * time.Millisecond) //nolint:forbidigo // likewise
		synctest.Wait()
		if len(told) != 1 || !strings.Contains(<-told, "fake://a") {
			t.Error("it was not released, or the report gives no reason")
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
	if c.tasks.KEKsOf == nil {
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

func TestLateIsUnavailable(t *testing.T) {
	ctx, done := hold.NewWaits(time.Nanosecond).Bound(t.Context(), hold.RunKey{ID: "run"})
	defer done()
	<-ctx.Done()
	err := new(Codec).timedOut(ctx, "open payload", ctx.Err())
	if kms.ClassOf(err) != kms.Unavailable {
		t.Errorf("got %v", err)
	}
}
