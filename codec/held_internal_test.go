package codec

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// usualTaskTimeout is the server's default timeout of a workflow task.
const usualTaskTimeout = 10 * time.Second

// TestWhatATaskWaitsFor: a task waits for the KEK that failed. The other KEKs of its workflow's
// rule can replace it for opening, and for sealing for the primary recipient only.
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
		t.Error("the tasks do not call keksOf")
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
