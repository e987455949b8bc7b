package keyset

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// newTenants returns a set that keeps size keys of templates open.
func newTenants(t *testing.T, size int, o Observer) (*Set, *closingBackend) {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(perTenant))
	if err != nil {
		t.Fatal(err)
	}
	b := &closingBackend{fakes: kmstest.NewBackend()}
	k, err := New(t.Context(), p, kms.NewRegistry(b), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.perURI.Resize(size)
	return k, b
}

// unobserved is an Observer that ignores everything.
type unobserved struct{}

func (unobserved) KMSCall(string, string, error, time.Duration)       {}
func (unobserved) KMSRetry(string, string)                            {}
func (unobserved) KMSRejected(string, string, resilience.Reason)      {}
func (unobserved) Breaker(string, resilience.State, resilience.State) {}

// named returns the key of a namespace.
func named(t *testing.T, k *Set, namespace string) kms.Key {
	t.Helper()
	key, err := k.Named(t.Context(), "a", namespace)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// wrap wraps a data key, and unwraps it.
func wrap(ctx context.Context, key kms.Key) error {
	wrapped, err := key.Wrap(ctx, [][]byte{bytes.Repeat([]byte{1}, kms.DataKeySize)}, nil)
	if err != nil {
		return err
	}
	unwrapped, err := key.Unwrap(ctx, wrapped, nil)
	if err != nil {
		return err
	}
	return unwrapped[0].Err
}

// Keys beyond those that are kept are closed, and work again when they are needed, also
// for a caller that holds the one that was closed.
func TestEvictedKeysAreClosed(t *testing.T) {
	k, b := newTenants(t, 2, unobserved{})
	held := make(map[string]kms.Key)
	for range 3 {
		for _, n := range []string{"a", "b", "c", "d"} {
			if held[n] == nil {
				held[n] = named(t, k, n)
			}
			if err := wrap(t.Context(), held[n]); err != nil {
				t.Error(err)
			}
		}
	}
	k.Close()
	open, opened, misuse := b.state()
	if len(open) != 0 || len(misuse) != 0 || opened < 12 {
		t.Errorf("%d opened, open at the end: %v; %v", opened, open, misuse)
	}
}

func TestEvictedKeyInUseIsClosedAfterIt(t *testing.T) {
	k, b := newTenants(t, 1, unobserved{})
	busy := named(t, k, "busy")
	fake := b.fakes.Fake("busy")
	called, gate := make(chan struct{}), make(chan struct{})
	fake.Always(kmstest.Fault{Hook: func(context.Context) error {
		close(called)
		<-gate
		return nil
	}})
	done := make(chan error)
	go func() {
		_, err := busy.Wrap(t.Context(), [][]byte{bytes.Repeat([]byte{1}, kms.DataKeySize)}, nil)
		done <- err
	}()
	<-called
	named(t, k, "other")
	if open, _, _ := b.state(); !slices.Contains(open, "busy") {
		t.Error("closed while it is in use")
	}
	fake.Heal()
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
	k.Close()
	if open, _, misuse := b.state(); len(open) != 0 || len(misuse) != 0 {
		t.Errorf("open at the end: %v; %v", open, misuse)
	}
}

func TestEvictionUnderLoad(t *testing.T) {
	k, b := newTenants(t, 2, unobserved{})
	var wg sync.WaitGroup
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		for range 4 {
			wg.Go(func() {
				key := named(t, k, n)
				for range 50 {
					if err := wrap(t.Context(), key); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	k.Close()
	if open, opened, misuse := b.state(); len(open) != 0 || len(misuse) != 0 {
		t.Errorf("%d opened; open at the end: %v; %v", opened, open, misuse)
	}
}

// A key that was evicted and cannot be opened again says so.
func TestEvictedKeyThatCannotBeOpenedAgain(t *testing.T) {
	k, b := newTenants(t, 1, unobserved{})
	key := named(t, k, "x")
	named(t, k, "y")
	wrapped, err := key.Wrap(t.Context(), [][]byte{bytes.Repeat([]byte{1}, kms.DataKeySize)}, nil)
	if err != nil {
		t.Errorf("evicted, and not opened again: %v", err)
	}
	named(t, k, "y")
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

// changes are the changes of breakers that are observed.
type changes struct {
	unobserved
	mu  sync.Mutex
	all []string
}

func (c *changes) Breaker(key string, from, to resilience.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, key+" "+from.String()+" "+to.String())
}

// A breaker that is open when its key is closed does not stay open in the metrics.
func TestBreakerOfAClosedKey(t *testing.T) {
	o := new(changes)
	k, b := newTenants(t, 10, o)
	key := named(t, k, "x")
	b.fakes.Fake("x").Always(kmstest.Fail(kms.Unavailable))
	for range 10 {
		_ = wrap(t.Context(), key)
	}
	k.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.all, []string{"a closed open", "a open closed"}) {
		t.Errorf("changes %q", o.all)
	}
}

func TestDecorateRefuses(t *testing.T) {
	b := &closingBackend{fakes: kmstest.NewBackend()}
	key, err := kms.NewRegistry(b).Open(t.Context(), "fake://a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decorate(key, "fake://a", policy.Key{Name: "a", Resilience: policy.Resilience{Attempts: -1}}, unobserved{}); err == nil {
		t.Error("no error")
	}
	if open, _, _ := b.state(); len(open) != 0 {
		t.Error("the key stays open")
	}
}

// TestAvailability follows a KEK through an outage.
func TestAvailability(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("a")
		key, err := decorate(fake, "fake://a", policy.Key{Name: "a", Resilience: policy.Resilience{Attempts: 1, Breaker: policy.Breaker{Failures: 2, OpenFor: time.Second}}}, unobserved{})
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		want := func(when string, want Availability) {
			t.Helper()
			if is := key.Availability(); is != want {
				t.Errorf("%s: %d, want %d", when, is, want)
			}
		}
		probe := func() { key.Probe(t.Context()) }
		want("at first", Up)
		fake.Always(kmstest.Fail(kms.Unavailable))
		probe()
		want("after one failure", Up)
		probe()
		want("after two", Down)
		time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		want("after a while", ProbeDue)
		probe()
		want("tried in vain", Down)
		time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		fake.Heal()
		want("after another while", ProbeDue)
		probe()
		want("back", Up)

		fake.Always(kmstest.Fail(kms.Unavailable))
		probe()
		probe()
		time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		fake.Always(kmstest.Fail(kms.Denied))
		probe()
		want("back, and it denies", Up)
	})
}
