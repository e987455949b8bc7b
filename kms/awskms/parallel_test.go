package awskms_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// parallel is how many requests a call has in flight.
const parallel = 50

// gate lets requests through in rounds: each round is answered when all that the
// client sends at one time are there.
type gate struct {
	next  http.Handler
	round int

	mu      sync.Mutex
	left    int
	waiting []chan struct{}
	rounds  int
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), "DescribeKey") {
		g.mu.Lock()
		g.left--
		wait := make(chan struct{})
		g.waiting = append(g.waiting, wait)
		if len(g.waiting) == g.round || g.left == 0 {
			g.rounds++
			for _, w := range g.waiting {
				close(w)
			}
			g.waiting = nil
		}
		g.mu.Unlock()
		select {
		case <-wait:
		case <-r.Context().Done():
			return
		}
	}
	g.next.ServeHTTP(w, r)
}

// 100 data keys take two round trips, each way and to another key. Were fewer
// sent at a time, a round would never be full.
func TestParallel(t *testing.T) {
	s := startServer(t)
	made, other := createKey(t, s, awsserver.KeySpec{}), createKey(t, s, awsserver.KeySpec{})
	g := &gate{next: s, round: parallel}
	front := httptest.NewServer(g)
	defer front.Close()
	key := open(t, s, awskms.Config{Key: made.ARN(), Endpoint: front.URL})
	to := open(t, s, awskms.Config{Key: other.ARN(), Endpoint: front.URL})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wrapped []kms.Wrapped
	for name, do := range map[string]func() error{
		"Wrap": func() (err error) { wrapped, err = key.Wrap(ctx, dataKeys(100), nil); return err },
	} {
		g.left, g.rounds = 100, 0
		if err := do(); err != nil || g.rounds != 100/parallel {
			t.Fatalf("%s: %d rounds, %v", name, g.rounds, err)
		}
	}
	for name, do := range map[string]func() error{
		"Unwrap": func() error { _, err := key.Unwrap(ctx, wrapped, nil); return err },
		"Rewrap": func() error { _, err := to.Rewrap(ctx, key, wrapped, nil); return err },
	} {
		g.left, g.rounds = 100, 0
		if err := do(); err != nil || g.rounds != 100/parallel {
			t.Errorf("%s: %d rounds, %v", name, g.rounds, err)
		}
	}
}

// If one request of a batch is unlucky and another is refused, the rest get the refusal.
func TestRefusalCountsMoreThanBadLuck(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	one := mustWrap(t, key, dataKeys(1), nil)[0]
	wrapped := make([]kms.Wrapped, 100)
	for i := range wrapped {
		wrapped[i] = one
	}
	s.Script("Decrypt", awsserver.Outage())
	s.SetFault("Decrypt", awsserver.Fault{Code: "AccessDeniedException"})
	got, err := key.Unwrap(t.Context(), wrapped, nil)
	wantError(t, err, kms.Denied, "kms:Decrypt")
	if got != nil {
		t.Errorf("%d answers", len(got))
	}
}

// A custom key store that is disconnected is an outage; a key that was switched
// off is not. AWS KMS has one error code for both.
func TestCustomKeyStore(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{CustomKeyStore: true})
	key := open(t, s, awskms.Config{Key: made.ARN()})
	plain := dataKeys(1)
	wrapped := mustWrap(t, key, plain, nil)
	for state, want := range map[string]kms.Class{
		awsserver.Unavailable: kms.Unavailable, awsserver.PendingDeletion: kms.Disabled, awsserver.Disabled: kms.Disabled,
	} {
		made.SetState(state)
		wantError(t, unwrapError(t, key, wrapped[0]), want, "aws kms ")
		_, err := key.Wrap(t.Context(), plain, nil)
		wantError(t, err, want, "aws kms ")
	}
	// Without the right to describe the key, nothing is left open.
	made.SetState(awsserver.Unavailable)
	s.Deny("kms:DescribeKey", made)
	wantError(t, unwrapError(t, key, wrapped[0]), kms.Disabled, "describe-key")
	// A key that is in no store is not described.
	ordinary, of := newKey(t, s)
	w := mustWrap(t, ordinary, plain, nil)[0]
	of.SetState(awsserver.Unavailable)
	s.ResetRequests()
	wantError(t, unwrapError(t, ordinary, w), kms.Disabled, "describe-key")
	wantRequests(t, s, map[string]int{"Decrypt": 1})
}

// A context beyond all bounds is not sent.
func TestOversizedContext(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	s.ResetRequests()
	for size, asked := range map[int]int{9000: 1, 32 << 10: 1, 32<<10 + 1: 0, 1 << 20: 0} {
		ec := kms.Context{"n": strings.Repeat("x", size-1)}
		_, err := key.Wrap(t.Context(), dataKeys(1), ec)
		wantError(t, err, kms.Internal, "")
		_, err = key.Unwrap(t.Context(), []kms.Wrapped{w}, ec)
		if kms.ClassOf(err) != kms.Internal && asked == 0 {
			t.Errorf("%d bytes: %v", size, err)
		}
		want := map[string]int{}
		if asked > 0 {
			want = map[string]int{"Encrypt": 1, "Decrypt": 1}
		}
		wantRequests(t, s, want)
	}
}
