package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

func TestConfigIsRefused(t *testing.T) {
	bad := resilience.Config{
		Timeout: time.Millisecond, Attempts: 11, RetryBudget: 1.1, Concurrency: -1, Queue: -1,
		BreakerFailures: -1, BreakerOpenFor: 2 * time.Hour, MaxBatch: 10_001,
	}
	k, err := resilience.New(nil, bad)
	if err == nil || k != nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"the key is nil", "Timeout is 1ms, want 10ms to 1m0s", "Attempts is 11, want 1 to 10", "RetryBudget is 1.1, want more than 0 and up to 1",
		"Concurrency is -1, want 1 to 10000", "Queue is -1, want 1 to 100000", "BreakerFailures is -1, want 1 to 10000",
		"BreakerOpenFor is 2h0m0s, want up to 1h0m0s", "MaxBatch is 10001, want 1 to 10000",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if err := (resilience.Config{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (resilience.Config{RetryBudget: -0.1}).Validate(); err == nil {
		t.Error("a negative budget is accepted")
	}
}

// powerful is a key with every power.
type powerful struct {
	kms.Key
	kms.Rotator
	kms.Prober
	rewrap  func(n int) ([]kms.Rewrapped, error)
	sources []kms.Key
	closed  int
}

func (p *powerful) Close() error {
	p.closed++
	return errors.New("closed badly")
}

func (p *powerful) RewrapsFrom(source kms.Key) bool {
	p.sources = append(p.sources, source)
	_, ok := source.(*powerful)
	return ok
}

func (p *powerful) Rewrap(_ context.Context, source kms.Key, wrapped []kms.Wrapped, _ kms.Context) ([]kms.Rewrapped, error) {
	p.sources = append(p.sources, source)
	return p.rewrap(len(wrapped))
}

func TestPowers(t *testing.T) {
	behind := &powerful{Key: kmstest.NewFake("k")}
	k := decorate(t, behind, resilience.Config{})
	if k.ID() != "fake://k" || fmt.Sprint(k) != "fake://k" || fmt.Sprintf("%#v", k) != "fake://k" {
		t.Errorf("ID %s, prints %v, %#v", k.ID(), k, k)
	}
	if d, ok := k.(kms.Decorator); !ok || d.Decorated() != kms.Key(behind) {
		t.Error("the key behind is not told")
	}
	if r, ok := kms.As[kms.Rotator](k); !ok || r != kms.Rotator(behind) {
		t.Error("kms.As does not find the Rotator behind")
	}
	if p, ok := kms.As[kms.Prober](k); !ok || p != kms.Prober(behind) {
		t.Error("kms.As does not find the Prober behind")
	}
	if r, ok := kms.As[kms.Rewrapper](k); !ok || r == kms.Rewrapper(behind) {
		t.Error("the Rewrapper is not decorated")
	}
	c, ok := k.(kms.Closer)
	if !ok {
		t.Fatal("no Closer")
	}
	for range 2 {
		if err := c.Close(); err == nil || err.Error() != "closed badly" {
			t.Errorf("Close says %v", err)
		}
	}
	if behind.closed != 1 {
		t.Errorf("closed %d times", behind.closed)
	}

	plain := decorate(t, kmstest.NewFake("plain"), resilience.Config{})
	if _, ok := kms.As[kms.Rewrapper](plain); ok {
		t.Error("a key without powers is a Rewrapper once decorated")
	}
	if _, ok := kms.As[kms.Rotator](plain); ok {
		t.Error("a key without powers is a Rotator once decorated")
	}
	if err := plain.(kms.Closer).Close(); err != nil {
		t.Error(err)
	}
}

func TestRewrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behind := &powerful{Key: kmstest.NewFake("k")}
		other := decorate(t, &powerful{Key: kmstest.NewFake("other")}, resilience.Config{})
		strange := decorate(t, kmstest.NewFake("strange"), resilience.Config{})
		var s seen
		k := decorate(t, behind, resilience.Config{MaxBatch: 3, Hooks: s.hooks()})
		r, ok := kms.As[kms.Rewrapper](k)
		if !ok {
			t.Fatal("no Rewrapper")
		}
		for source, want := range map[kms.Key]bool{k: true, other: true, strange: false, behind: true} {
			if r.RewrapsFrom(source) != want {
				t.Errorf("RewrapsFrom(%s) is %v", source.ID(), !want)
			}
		}
		asked := 0
		behind.rewrap = func(n int) ([]kms.Rewrapped, error) {
			out := make([]kms.Rewrapped, n)
			for i := range out {
				out[i].Wrapped.Blob = []byte{1}
			}
			if asked++; asked == 1 {
				out[n-1] = kms.Rewrapped{Wrapped: kms.Wrapped{Blob: []byte{2}}, Err: classErr(kms.Throttled)}
			}
			return out, nil
		}
		got, err := r.Rewrap(t.Context(), other, make([]kms.Wrapped, 3), nil)
		if err != nil || len(got) != 3 || asked != 2 {
			t.Fatal(got, err, asked)
		}
		for i, w := range got {
			if w.Err != nil || len(w.Wrapped.Blob) != 1 || w.Wrapped.Blob[0] != 1 {
				t.Errorf("item %d: %v", i, w)
			}
		}
		if behind.sources[len(behind.sources)-1] != other.(kms.Decorator).Decorated() {
			t.Error("the backend is handed a source that it cannot know")
		}
		if !slices.Equal(s.ops, []string{"rewrap", "rewrap"}) {
			t.Errorf("attempts of %v", s.ops)
		}

		behind.rewrap = func(n int) ([]kms.Rewrapped, error) {
			return []kms.Rewrapped{{Wrapped: kms.Wrapped{Blob: []byte{1}}, Err: classErr(kms.Corrupt)}}, nil
		}
		got, err = r.Rewrap(t.Context(), k, make([]kms.Wrapped, 1), nil)
		if err != nil || kms.ClassOf(got[0].Err) != kms.Corrupt || got[0].Wrapped.Blob != nil {
			t.Error(got, err)
		}
		_, err = r.Rewrap(t.Context(), k, make([]kms.Wrapped, 2), nil)
		wantError(t, err, kms.Internal, "rewrap", "1 answers for 2 data keys")
		behind.rewrap = func(int) ([]kms.Rewrapped, error) { panic("secret") }
		_, err = r.Rewrap(t.Context(), k, make([]kms.Wrapped, 1), nil)
		wantError(t, err, kms.Internal, "rewrap", "the backend panicked with a string")
	})
}

// TestArgumentsAreKept: neither changed nor retained, and the context reaches the
// key behind.
func TestArgumentsAreKept(t *testing.T) {
	fake := kmstest.NewFake("k")
	keys, ec := dataKeys(3), kms.Context{"namespace": "payments"}
	var seen kms.Context
	fake.Each(func(c kmstest.Call) kmstest.Fault {
		seen = c.Context
		return kmstest.Healthy()
	})
	k := decorate(t, fake, resilience.Config{})
	wrapped, err := k.Wrap(t.Context(), keys, ec)
	if err != nil || seen["namespace"] != "payments" {
		t.Fatal(err, seen)
	}
	for i, d := range dataKeys(3) {
		if !slices.Equal(d, keys[i]) {
			t.Errorf("data key %d was changed", i)
		}
	}
	if _, err := k.Unwrap(t.Context(), wrapped, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Unwrap(t.Context(), wrapped, ec); err != nil || got[2].Err != nil {
		t.Error(got, err)
	}
}
