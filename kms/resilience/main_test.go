package resilience_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func decorate(t testing.TB, key kms.Key, cfg resilience.Config) kms.Key {
	t.Helper()
	k, err := resilience.New(key, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// script is a kms.Key that does what a kms.Key may do, on command.
type script struct {
	wrap   func(ctx context.Context, dataKeys [][]byte) ([]kms.Wrapped, error)
	unwrap func(ctx context.Context, wrapped []kms.Wrapped) ([]kms.Unwrapped, error)
}

func (s *script) ID() string { return "script://k" }

func (s *script) Wrap(ctx context.Context, dataKeys [][]byte, _ kms.Context) ([]kms.Wrapped, error) {
	return s.wrap(ctx, dataKeys)
}

func (s *script) Unwrap(ctx context.Context, wrapped []kms.Wrapped, _ kms.Context) ([]kms.Unwrapped, error) {
	return s.unwrap(ctx, wrapped)
}

// wraps returns a key with a Wrap that fails with what next returns, nil for an answer.
func wraps(next func(ctx context.Context) error) *script {
	return &script{wrap: func(ctx context.Context, dataKeys [][]byte) ([]kms.Wrapped, error) {
		if err := next(ctx); err != nil {
			return nil, err
		}
		return make([]kms.Wrapped, len(dataKeys)), nil
	}}
}

func classErr(class kms.Class) *kms.Error {
	return &kms.Error{Class: class, Op: "wrap", KeyID: "script://k", Detail: "scripted", Advice: "none"}
}

// seen is what the hooks reported.
type seen struct {
	mu       sync.Mutex
	attempts []error
	took     []time.Duration
	ops      []string
	waits    []time.Duration
	rejected []resilience.Reason
	states   []resilience.State
}

func (s *seen) hooks() resilience.Hooks {
	return resilience.Hooks{
		Attempt: func(op string, err error, took time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ops, s.attempts, s.took = append(s.ops, op), append(s.attempts, err), append(s.took, took)
		},
		Retry: func(_ string, wait time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waits = append(s.waits, wait)
		},
		Rejected: func(_ string, why resilience.Reason) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rejected = append(s.rejected, why)
		},
		Breaker: func(state resilience.State) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.states = append(s.states, state)
		},
	}
}

func dataKeys(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = slices.Repeat([]byte{byte(i), byte(i >> 8)}, kms.DataKeySize/2)
	}
	return out
}

// wrapOn makes n data keys and wraps them straight at f.
func wrapOn(t testing.TB, f *kmstest.Fake, n int) ([][]byte, []kms.Wrapped) {
	t.Helper()
	keys := dataKeys(n)
	wrapped, err := f.Reopen().Wrap(t.Context(), keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys, wrapped
}

func wrapOnce(ctx context.Context, k kms.Key) error {
	_, err := k.Wrap(ctx, dataKeys(1), nil)
	return err
}

func wantClass(t testing.TB, err error, want kms.Class) {
	t.Helper()
	if err == nil || kms.ClassOf(err) != want {
		t.Errorf("error %v of class %v, want %v", err, kms.ClassOf(err), want)
	}
}

// wantError checks what a person needs of an error that leaves the decorator.
func wantError(t testing.TB, err error, class kms.Class, op, text string) {
	t.Helper()
	wantClass(t, err, class)
	e, ok := errors.AsType[*kms.Error](err)
	if !ok || err == nil || e.Op != op || e.KeyID == "" {
		t.Errorf("error %#v does not name %s and the key", err, op)
		return
	}
	if class != kms.Canceled && e.Hint() == "" {
		t.Errorf("%v: no hint", err)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error %q does not say %q", err, text)
	}
}

// pass lets d go by on the clock of a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

func within(t testing.TB, ctx context.Context, d time.Duration) context.Context { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}
