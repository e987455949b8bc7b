package codec

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// hangingKey does not answer, even when the context ends, until the gate opens.
type hangingKey struct {
	*kmstest.Fake
	called, gate chan struct{}
}

func (k hangingKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	close(k.called)
	<-k.gate
	return k.Fake.Wrap(ctx, dataKeys, ec)
}

type hangingBackend struct{ hanging hangingKey }

func (hangingBackend) Scheme() string { return "fake" }

func (b hangingBackend) Open(_ context.Context, u *url.URL) (kms.Key, error) {
	if u.Host == "hanging" {
		return b.hanging, nil
	}
	return kmstest.NewFake(u.Host), nil
}

// A Sealer is evicted by another namespace's while its KMS hangs. That must not block the
// others.
func TestSealerEvictedWhileItsKMSHangs(t *testing.T) {
	p, err := policy.Parse("test.yaml", []byte(`{keys: {a: {uri: "fake://{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	hanging := hangingKey{Fake: kmstest.NewFake("hanging"), called: make(chan struct{}), gate: make(chan struct{})}
	c, err := New(t.Context(), Config{Policy: p, Registry: kms.NewRegistry(hangingBackend{hanging})})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer close(hanging.gate)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan struct{})
	go func() {
		defer close(first)
		_, _ = c.Encode(ctx, EncodeOptions{Namespace: "hanging"}, []*commonpb.Payload{{}})
	}()
	<-hanging.called
	cancel()
	<-first
	for i := range maxSealers + 1 {
		if _, err := c.Encode(t.Context(), EncodeOptions{Namespace: fmt.Sprintf("n%d", i)}, []*commonpb.Payload{{}}); err != nil {
			t.Fatal(err)
		}
	}
}

// A rule's Sealer is made once. It is replaced only if it lacks a key.
func TestSealerThatLacksAKeyIsClosed(t *testing.T) {
	p, err := policy.Parse("test.yaml", []byte(`
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b-{namespace}"}}
seal: [{match: {namespace: "*"}, keys: [a, b], recipients: primary}]
`))
	if err != nil {
		t.Fatal(err)
	}
	b := kmstest.NewBackend()
	c, err := New(t.Context(), Config{Policy: p, Registry: kms.NewRegistry(b)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.FailOpen(kmstest.Err(kms.Unavailable))
	rule := &p.Seal[0]
	first, err := c.now.Load().sealers.forRule(t.Context(), rule, "n")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.now.Load().sealers.forRule(t.Context(), rule, "n"); err != nil || again != first {
		t.Errorf("another Sealer while the first is good: %v", err)
	}
	c.now.Load().sealers.mu.Lock()
	c.now.Load().sealers.byRule.Add(sealerID{rule: 0, namespace: "n"}, madeSealer{Sealer: first, until: time.Now().Add(-time.Second)})
	c.now.Load().sealers.mu.Unlock()
	b.FailOpen(nil)
	second, err := c.now.Load().sealers.forRule(t.Context(), rule, "n")
	if err != nil || second == first {
		t.Fatalf("the same Sealer past its time: %v", err)
	}
	c.now.Load().sealers.ending.Wait()
	if ids := second.KeyIDs(); !slices.Equal(ids, []string{"fake://a", "fake://b-n"}) {
		t.Errorf("key IDs %v", ids)
	}
}
