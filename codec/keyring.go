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
	mu      sync.Mutex
	perURI  *simplelru.LRU[string, kms.Key]
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
	opened := k.opening.DoChan(uri, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), DefaultCallTimeout)
		defer cancel()
		key, err := k.registry.Open(ctx, uri)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		k.perURI.Add(uri, key)
		k.mu.Unlock()
		return key, nil
	})
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

func (k *keyring) close() {
	closeKey := func(key kms.Key) {
		if c, ok := key.(kms.Closer); ok {
			_ = c.Close() // nothing is in flight any more, and nobody could act on the error
		}
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
