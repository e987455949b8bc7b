package codec_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// watchedBackend opens keys that record which of them are open, and calls after Close.
type watchedBackend struct {
	fakes *kmstest.Backend

	mu     sync.Mutex
	open   map[string]int // by ID
	misuse []string
}

func (*watchedBackend) Scheme() string { return "fake" }

func (b *watchedBackend) Open(ctx context.Context, u *url.URL) (kms.Key, error) {
	key, err := b.fakes.Open(ctx, u)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[key.ID()]++
	return &watchedKey{Key: key, backend: b}, nil
}

func (b *watchedBackend) isOpen(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open[id] > 0
}

type watchedKey struct {
	kms.Key
	backend *watchedBackend
	closed  atomic.Bool
}

func (k *watchedKey) check(op string) {
	if k.closed.Load() {
		k.backend.mu.Lock()
		defer k.backend.mu.Unlock()
		k.backend.misuse = append(k.backend.misuse, op+" of "+k.ID()+" after Close")
	}
}

func (k *watchedKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	k.check("wrap")
	defer k.check("wrap that ends")
	return k.Key.Wrap(ctx, dataKeys, ec)
}

func (k *watchedKey) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	k.check("unwrap")
	defer k.check("unwrap that ends")
	return k.Key.Unwrap(ctx, wrapped, ec)
}

func (k *watchedKey) Close() error {
	if !k.closed.CompareAndSwap(false, true) {
		k.check("second close")
	}
	k.backend.mu.Lock()
	defer k.backend.mu.Unlock()
	k.backend.open[k.ID()]--
	return nil
}

// underKey is a policy with one key for sealing, and another for opening older payloads.
func underKey(t *testing.T, key, other string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("test.yaml", fmt.Appendf(nil, `{keys: {k: {uri: "fake://%s"}, o: {uri: "fake://%s"}}, seal: [{match: {namespace: "*"}, keys: [k]}]}`, key, other))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newWatched(t *testing.T, p *policy.Policy) (*codec.Codec, *watchedBackend) {
	t.Helper()
	b := &watchedBackend{fakes: kmstest.NewBackend(), open: make(map[string]int)}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(b)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, b
}

// Policies are replaced while payloads are sealed and opened: no call fails, each call
// sees one policy, and no key is used after it is closed.
func TestReloadUnderLoad(t *testing.T) {
	a, b := underKey(t, "a", "b"), underKey(t, "b", "a")
	c, backend := newWatched(t, a)
	stop, reloads := make(chan struct{}), 0
	var calls, failed atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				calls.Add(1)
				namespace := fmt.Sprint("n", i)
				in := []*commonpb.Payload{payload(t, 1), payload(t, 2)}
				out, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: namespace}, in)
				if err != nil {
					failed.Add(1)
					t.Errorf("encode: %v", err)
					continue
				}
				if first, second := codec.KeyIDs(out[0]), codec.KeyIDs(out[1]); !slices.Equal(first, second) {
					t.Errorf("one call sealed under %q and %q", first, second)
				}
				for _, d := range c.Decode(t.Context(), codec.DecodeOptions{Namespace: namespace}, out) {
					if d.Err != nil {
						failed.Add(1)
						t.Errorf("decode: %v", d.Err)
					}
				}
			}
		})
	}
	for calls.Load() < 4000 && failed.Load() == 0 {
		next := a
		if reloads%2 == 0 {
			next = b
		}
		if err := c.Reload(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		reloads++
	}
	close(stop)
	wg.Wait()
	c.Close()
	t.Logf("%d reloads, %d calls", reloads, calls.Load())
	backend.mu.Lock()
	defer backend.mu.Unlock()
	for id, n := range backend.open {
		if n != 0 {
			t.Errorf("%s is open %d times in the end", id, n)
		}
	}
	if len(backend.misuse) > 0 || reloads < 2 {
		t.Errorf("%d reloads; %q", reloads, backend.misuse)
	}
}

// A key that the policy no longer names is neither used nor open, whatever the cache holds.
func TestReloadDropsAKey(t *testing.T) {
	c, backend := newWatched(t, underKey(t, "a", "b"))
	before := encode(t, c, "n", payload(t, "x"))[0]
	if err := c.Reload(t.Context(), underKey(t, "c", "d")); err != nil {
		t.Fatal(err)
	}
	if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{before})[0]; !errors.Is(d.Err, envelope.ErrNotConfigured) {
		t.Errorf("an envelope of a removed key: %v", d.Err)
	}
	if ids := codec.KeyIDs(encode(t, c, "n", payload(t, "x"))[0]); !slices.Equal(ids, []string{"fake://c@1"}) {
		t.Errorf("sealed under %q", ids)
	}
	c.Close()
	for _, id := range []string{"fake://a", "fake://b", "fake://c", "fake://d"} {
		if backend.isOpen(id) {
			t.Errorf("%s is open", id)
		}
	}
}

// An invalid policy changes nothing.
func TestReloadThatFails(t *testing.T) {
	c, backend := newWatched(t, underKey(t, "a", "b"))
	backend.fakes.FailOpen(kmstest.Err(kms.Denied))
	for name, p := range map[string]*policy.Policy{"no policy": nil, "a key that does not open": underKey(t, "c", "d")} {
		if err := c.Reload(t.Context(), p); err == nil || strings.Contains(err.Error(), "panic") {
			t.Errorf("%s: %v", name, err)
		}
	}
	backend.fakes.FailOpen(nil)
	if ids := codec.KeyIDs(encode(t, c, "n", payload(t, "x"))[0]); !slices.Equal(ids, []string{"fake://a@1"}) {
		t.Errorf("sealed under %q", ids)
	}
	c.Close()
	if err := c.Reload(t.Context(), underKey(t, "c", "d")); err == nil || backend.isOpen("fake://c") {
		t.Errorf("a codec that is closed: %v", err)
	}
}

// A call that is under way ends with the key that it began with.
func TestReloadWaitsForCalls(t *testing.T) {
	c, backend := newWatched(t, underKey(t, "a", "b"))
	called, gate := make(chan struct{}), make(chan struct{})
	backend.fakes.Fake("a").Always(kmstest.Fault{Hook: func(context.Context) error {
		select {
		case called <- struct{}{}:
		default:
		}
		<-gate
		return nil
	}})
	done := make(chan error)
	go func() {
		_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, "x")})
		done <- err
	}()
	<-called
	if err := c.Reload(t.Context(), underKey(t, "c", "d")); err != nil {
		t.Fatal(err)
	}
	if !backend.isOpen("fake://a") {
		t.Error("the key is closed while a call uses it")
	}
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.Close()
	if backend.isOpen("fake://a") || len(backend.misuse) > 0 {
		t.Errorf("the key is open: %v; %q", backend.isOpen("fake://a"), backend.misuse)
	}
}

// After Drain the next payload is sealed under a new data key.
func TestDrain(t *testing.T) {
	c, backend := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], dataKey: {maxPayloads: 1000}}]}`)
	encode(t, c, "n", payload(t, "x"))
	wraps := func() int { return backend.Fake("a").Counts().Wraps }
	before := wraps()
	encode(t, c, "n", payload(t, "x"))
	if got := wraps(); got != before {
		t.Errorf("%d wraps without Drain", got-before)
	}
	c.Drain()
	encode(t, c, "n", payload(t, "x"))
	if got := wraps(); got == before {
		t.Error("the data key from before Drain is used")
	}
}

// Accept is called before a KMS is, and Room before anything is decrypted.
func TestAcceptAndRoom(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	envelopes := encode(t, c, "n", payload(t, "x"))
	c2, _ := newCodec(t, onePolicy)
	_ = backend
	refused := errors.New("not for this caller")
	var called []string
	d := c2.Decode(t.Context(), codec.DecodeOptions{Accept: func(claims envelope.Claims) error {
		called = append(called, claims.Namespace)
		return refused
	}}, envelopes)[0]
	if !errors.Is(d.Err, refused) || d.Payload != envelopes[0] || !slices.Equal(called, []string{"n"}) {
		t.Errorf("refused with %v after %q", d.Err, called)
	}
	d = c.Decode(t.Context(), codec.DecodeOptions{Namespace: "other", Accept: func(envelope.Claims) error {
		t.Error("called for an envelope that the policy refuses")
		return nil
	}}, envelopes)[0]
	if kms.ClassOf(d.Err) != kms.Denied {
		t.Errorf("another namespace: %v", d.Err)
	}
	sizes := 0
	room := func(size int) bool { sizes += size; return false }
	if d := c.Decode(t.Context(), codec.DecodeOptions{Room: room}, envelopes)[0]; !errors.Is(d.Err, envelope.ErrNoRoom) || sizes == 0 {
		t.Errorf("without room: %v, %d bytes", d.Err, sizes)
	}
	if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n", Room: room}, envelopes); !errors.Is(err, envelope.ErrNoRoom) {
		t.Errorf("an already sealed payload, without room: %v", err)
	}
}
