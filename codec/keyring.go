package codec

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// maxTemplateKeys bounds how many keys made from {namespace} templates are
// kept open; beyond it the least recently used is opened again when needed.
const maxTemplateKeys = 10_000

// keyring holds the configured KEKs, opened. Keys whose URI is a template are
// opened for a namespace when they are first asked for.
type keyring struct {
	policy   *policy.Policy
	registry *kms.Registry
	fixed    map[string]kms.Key // by name
	names    []string           // all names, sorted: a stable order to look in
	template bool               // whether any key is a template
	flat     []kms.Key          // fixed, in the order of names

	opening singleflight.Group
	closing context.Context // ends when close is called, and with it every open under way
	cancel  context.CancelFunc
	work    sync.WaitGroup // opens under way; it grows only under mu and before closed

	mu     sync.Mutex
	perURI *simplelru.LRU[string, kms.Key]
	closed bool
}

func newKeyring(ctx context.Context, p *policy.Policy, registry *kms.Registry) (*keyring, error) {
	perURI, err := simplelru.NewLRU[string, kms.Key](maxTemplateKeys, nil)
	if err != nil {
		return nil, fmt.Errorf("codec: keyring: %w", err)
	}
	k := &keyring{
		policy: p, registry: registry, perURI: perURI,
		fixed: make(map[string]kms.Key), names: slices.Sorted(maps.Keys(p.Keys)),
	}
	k.closing, k.cancel = context.WithCancel(context.Background())
	var problems []error
	for _, name := range k.names {
		if p.Keys[name].Templated() {
			k.template = true
			continue
		}
		key, err := registry.Open(ctx, p.Keys[name].URI)
		if err != nil {
			problems = append(problems, fmt.Errorf("key %q: %w", name, err))
			continue
		}
		k.fixed[name] = key
		k.flat = append(k.flat, key)
	}
	if err := errors.Join(problems...); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// named returns the KEK of that name for a namespace.
func (k *keyring) named(ctx context.Context, name, namespace string) (kms.Key, error) {
	if key, ok := k.fixed[name]; ok {
		return key, nil
	}
	uri, err := k.policy.Keys[name].Expand(namespace)
	if err != nil {
		return nil, &kms.Error{Class: kms.Denied, Op: "open key", Detail: fmt.Sprintf("key %q has no URI for this namespace", name), Advice: hintOf(err), Err: err}
	}
	k.mu.Lock()
	key, ok := k.perURI.Get(uri)
	k.mu.Unlock()
	if ok {
		return key, nil
	}
	opened := k.opening.DoChan(uri, func() (any, error) { return k.open(ctx, name, uri) })
	select {
	case r := <-opened:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(kms.Key), nil
	case <-ctx.Done():
		return nil, &kms.Error{Class: kms.Canceled, Op: "open key", Detail: "the caller gave up", Err: context.Cause(ctx)}
	}
}

// open opens a key made from a template and keeps it. It is on a time of its
// own: the caller who began it may give up while others wait for it.
func (k *keyring) open(ctx context.Context, name, uri string) (key kms.Key, err error) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, errClosed("open key")
	}
	k.work.Add(1)
	k.mu.Unlock()
	defer k.work.Done()
	defer func() {
		if v := recover(); v != nil {
			key, err = nil, &kms.Error{Op: "open key", Detail: fmt.Sprintf("key %q: the backend panicked with a %T", name, v), Advice: "this is a bug in the backend: please report it"}
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), DefaultCallTimeout)
	defer cancel()
	defer context.AfterFunc(k.closing, cancel)()
	if key, err = k.registry.Open(ctx, uri); err != nil {
		if kms.ClassOf(err) == kms.Canceled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, &kms.Error{
				Class: kms.Unavailable, Op: "open key", Detail: fmt.Sprintf("key %q: no answer within %s", name, DefaultCallTimeout),
				Advice: "check that the KMS is up and reachable from here", Err: err,
			}
		}
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		closeKey(key)
		return nil, errClosed("open key")
	}
	k.perURI.Add(uri, key)
	return key, nil
}

func errClosed(op string) error {
	return &kms.Error{Op: op, Detail: "the codec is closed", Advice: "this is a bug in the calling program: it uses a codec after Close"}
}

// all returns every configured KEK that may be asked about envelopes of a
// namespace. A namespace that cannot stand in a template is simply not among
// those that templates make keys for.
func (k *keyring) all(ctx context.Context, namespace string) ([]kms.Key, error) {
	if !k.template {
		return k.flat, nil
	}
	keys := slices.Clone(k.flat)
	for _, name := range k.names {
		if !k.policy.Keys[name].Templated() {
			continue
		}
		if _, err := k.policy.Keys[name].Expand(namespace); err != nil {
			continue
		}
		key, err := k.named(ctx, name, namespace)
		switch {
		case err == nil:
			keys = append(keys, key)
		case kms.ClassOf(err).Transient() || kms.ClassOf(err) == kms.Canceled:
			return nil, err // whether that key is the one cannot be told now
		}
	}
	return keys, nil
}

// close cancels opens under way, waits for them and closes every key.
func (k *keyring) close() {
	k.mu.Lock()
	first := !k.closed
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.work.Wait()
	if !first {
		return
	}
	for _, key := range k.flat {
		closeKey(key)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.perURI.Values() {
		closeKey(key)
	}
	k.perURI.Purge()
}

func closeKey(key kms.Key) {
	if c, ok := key.(kms.Closer); ok {
		_ = c.Close() // nothing is in flight any more, and nobody could act on the error
	}
}
