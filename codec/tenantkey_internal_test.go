package codec

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/policy"
)

// closingBackend opens keys that note when they are closed, and when they are
// called after that.
type closingBackend struct {
	fakes *kmstest.Backend

	mu     sync.Mutex
	open   []string // URIs of keys that are open
	opened int
	misuse []string
}

func (*closingBackend) Scheme() string { return "fake" }

func (b *closingBackend) Open(ctx context.Context, u *url.URL) (kms.Key, error) {
	key, err := b.fakes.Open(ctx, u)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = append(b.open, u.Host)
	b.opened++
	return &closingKey{Key: key, backend: b, host: u.Host}, nil
}

func (b *closingBackend) state() (open []string, opened int, misuse []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(slices.Values(b.open)), b.opened, b.misuse
}

type closingKey struct {
	kms.Key
	backend *closingBackend
	host    string
	closed  bool // guarded by the backend
}

func (k *closingKey) use() {
	k.backend.mu.Lock()
	defer k.backend.mu.Unlock()
	if k.closed {
		k.backend.misuse = append(k.backend.misuse, "used after close: "+k.host)
	}
}

func (k *closingKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	k.use()
	defer k.use()
	return k.Key.Wrap(ctx, dataKeys, ec)
}

func (k *closingKey) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	k.use()
	defer k.use()
	return k.Key.Unwrap(ctx, wrapped, ec)
}

func (k *closingKey) Close() error {
	k.backend.mu.Lock()
	defer k.backend.mu.Unlock()
	if k.closed {
		k.backend.misuse = append(k.backend.misuse, "closed twice: "+k.host)
	}
	k.closed = true
	if i := slices.Index(k.backend.open, k.host); i >= 0 {
		k.backend.open = slices.Delete(k.backend.open, i, i+1)
	}
	return errors.New("closing fails: nobody could do anything about it")
}

const perTenant = `{keys: {a: {uri: "fake://{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`

// newTenantCodec returns a codec that keeps size keys made from templates open.
func newTenantCodec(t *testing.T, size int, hooks Hooks) (*Codec, *closingBackend) {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(perTenant))
	if err != nil {
		t.Fatal(err)
	}
	b := &closingBackend{fakes: kmstest.NewBackend()}
	c, err := New(t.Context(), Config{Policy: p, Registry: kms.NewRegistry(b), Hooks: hooks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.keys.perURI.Resize(size)
	return c, b
}

func sealFor(t *testing.T, c *Codec, namespace string) *commonpb.Payload {
	t.Helper()
	out, err := c.Encode(t.Context(), namespace, []*commonpb.Payload{{Data: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// Keys beyond those that are kept are closed, and work again when they are
// needed, also for a Sealer that has hold of the one that was closed.
func TestTenantKeysAreClosed(t *testing.T) {
	c, b := newTenantCodec(t, 2, Hooks{})
	tenants := []string{"a", "b", "c", "d"}
	for range 3 {
		for _, n := range tenants {
			sealFor(t, c, n)
		}
	}
	c.sealers.close() // no wrapping ahead
	c.Close()
	open, opened, misuse := b.state()
	if len(open) != 0 || len(misuse) != 0 || opened < 4 {
		t.Errorf("%d opened, open at the end: %v; %v", opened, open, misuse)
	}
}

func TestTenantKeyInUseIsClosedAfterIt(t *testing.T) {
	c, b := newTenantCodec(t, 1, Hooks{})
	sealFor(t, c, "busy")
	fake := b.fakes.Fake("busy")
	asked, gate := make(chan struct{}), make(chan struct{})
	fake.Always(kmstest.Fault{Hook: func(context.Context) error {
		close(asked)
		<-gate
		return nil
	}})
	done := make(chan error)
	go func() {
		_, err := c.Encode(t.Context(), "busy", []*commonpb.Payload{{}})
		done <- err
	}()
	<-asked
	sealFor(t, c, "other")
	if open, _, _ := b.state(); !slices.Contains(open, "busy") {
		t.Error("closed while it is in use")
	}
	fake.Heal()
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.Close()
	if open, _, misuse := b.state(); len(open) != 0 || len(misuse) != 0 {
		t.Errorf("open at the end: %v; %v", open, misuse)
	}
}

func TestTenantKeysUnderLoad(t *testing.T) {
	c, b := newTenantCodec(t, 2, Hooks{})
	var wg sync.WaitGroup
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		for range 4 {
			wg.Go(func() {
				for range 50 {
					sealed := sealFor(t, c, n)
					if d := c.Decode(t.Context(), n, []*commonpb.Payload{sealed})[0]; d.Err != nil {
						t.Error(d.Err)
					}
				}
			})
		}
	}
	wg.Wait()
	c.Close()
	if open, opened, misuse := b.state(); len(open) != 0 || len(misuse) != 0 {
		t.Errorf("%d opened; open at the end: %v; %v", opened, open, misuse)
	}
}

// A key that was put out and cannot be opened again says so.
func TestTenantKeyThatCannotBeOpenedAgain(t *testing.T) {
	c, b := newTenantCodec(t, 1, Hooks{})
	key, err := c.keys.named(t.Context(), "a", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.keys.named(t.Context(), "a", "y"); err != nil {
		t.Fatal(err)
	}
	wrapped, err := key.Wrap(t.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil)
	if err != nil {
		t.Errorf("put out, and not opened again: %v", err)
	}
	if _, err := c.keys.named(t.Context(), "a", "y"); err != nil {
		t.Fatal(err)
	}
	b.fakes.FailOpen(kmstest.Err(kms.Denied))
	if _, err := key.Wrap(t.Context(), nil, nil); kms.ClassOf(err) != kms.Denied {
		t.Errorf("Wrap: %v", err)
	}
	if _, err := key.Unwrap(t.Context(), wrapped, nil); kms.ClassOf(err) != kms.Denied {
		t.Errorf("Unwrap: %v", err)
	}
	if _, ok := kms.As[kms.Availability](key); !ok {
		t.Error("its breaker cannot be seen")
	}
}

// A breaker that is open when its key is closed does not stay open in the metrics.
func TestBreakerOfAClosedKey(t *testing.T) {
	var mu sync.Mutex
	var changes []string
	c, b := newTenantCodec(t, 10, Hooks{Breaker: func(key string, from, to resilience.State) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, key+" "+from.String()+" "+to.String())
	}})
	sealed := sealFor(t, c, "x")
	b.fakes.Fake("x").Always(kmstest.Fail(kms.Unavailable))
	cold, err := New(t.Context(), Config{Policy: c.policy, Registry: kms.NewRegistry(b), Hooks: c.watchers.config})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_ = cold.Decode(t.Context(), "x", []*commonpb.Payload{sealed})
		_, _ = cold.Encode(t.Context(), "x", []*commonpb.Payload{{}})
	}
	cold.Close()
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(changes, []string{"a closed open", "a open closed"}) {
		t.Errorf("changes %q", changes)
	}
}

func TestDecorateRefuses(t *testing.T) {
	b := &closingBackend{fakes: kmstest.NewBackend()}
	key, err := kms.NewRegistry(b).Open(t.Context(), "fake://a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decorate(key, policy.Key{Name: "a", Resilience: policy.Resilience{Attempts: -1}}, &watchers{}); err == nil {
		t.Error("no error")
	}
	if open, _, _ := b.state(); len(open) != 0 {
		t.Error("the key stays open")
	}
}

// A data key's Sealer is made once for a rule, and anew only where it says so.
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
	first, err := c.sealers.forRule(t.Context(), rule, "n")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.sealers.forRule(t.Context(), rule, "n"); err != nil || again != first {
		t.Errorf("another Sealer while the first is good: %v", err)
	}
	c.sealers.mu.Lock()
	c.sealers.byRule.Add(sealerID{rule: 0, namespace: "n"}, madeSealer{Sealer: first, until: time.Now().Add(-time.Second)})
	c.sealers.mu.Unlock()
	b.FailOpen(nil)
	second, err := c.sealers.forRule(t.Context(), rule, "n")
	if err != nil || second == first {
		t.Fatalf("the same Sealer past its time: %v", err)
	}
	c.sealers.ending.Wait()
	if ids := second.KeyIDs(); !slices.Equal(ids, []string{"fake://a", "fake://b-n"}) {
		t.Errorf("key IDs %v", ids)
	}
}
