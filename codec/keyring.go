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
// opened for a namespace when they are first needed, and so are those whose
// KMS was out at the start.
type keyring struct {
	policy   *policy.Policy
	registry *kms.Registry
	watchers *watchers
	names    []string                 // all names, sorted: a stable order to look in
	fixed    map[string]kms.Key       // by name
	byID     map[string][]*guardedKey // fixed, in the order of names
	late     []string                 // names of those that are not in fixed, in order

	opening singleflight.Group
	closing context.Context // ends when close is called, and with it every open under way
	cancel  context.CancelFunc
	work    sync.WaitGroup // opening and closing under way; it grows only under mu and before closed

	mu     sync.Mutex
	perURI *simplelru.LRU[string, *tenantKey]
	failed *simplelru.LRU[string, failedOpen] // by URI
	places *simplelru.LRU[string, keyPlace]   // of keys that were opened late, by ID
	closed bool
}

func newKeyring(ctx context.Context, p *policy.Policy, registry *kms.Registry, w *watchers) (*keyring, error) {
	k := &keyring{
		policy: p, registry: registry, watchers: w,
		fixed: make(map[string]kms.Key), byID: make(map[string][]*guardedKey), names: slices.Sorted(maps.Keys(p.Keys)),
	}
	var err1, err2, err3 error
	k.perURI, err1 = simplelru.NewLRU(maxTemplateKeys, k.putOut)
	k.failed, err2 = simplelru.NewLRU[string, failedOpen](maxTemplateKeys, nil)
	k.places, err3 = simplelru.NewLRU[string, keyPlace](maxTemplateKeys, nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("codec: keyring: %w", err)
	}
	k.closing, k.cancel = context.WithCancel(context.Background())
	problems := k.openFixed(ctx)
	problems = append(problems, k.twice()...)
	if err := errors.Join(problems...); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// twice returns what is wrong with rules that name one KEK by two names, an alias
// and what it stands for: they look like they had a second way to recover. Left
// to the first payload, it would be the first workflow that fails.
func (k *keyring) twice() []error {
	var problems []error
	for _, rule := range k.policy.Seal {
		names := make(map[string]string) // by ID
		for _, name := range rule.Keys {
			key, ok := k.fixed[name]
			if !ok {
				continue
			}
			if other, ok := names[key.ID()]; ok {
				problems = append(problems, &kms.Error{
					Op: "open key", KeyID: key.ID(), Detail: fmt.Sprintf("rule %d names it twice, as %q and as %q", rule.Index+1, other, name),
					Advice: "name another key, or leave one of the two out",
				})
			}
			names[key.ID()] = name
		}
	}
	return problems
}

// openURI opens a key and decorates it.
func (k *keyring) openURI(ctx context.Context, name, uri string) (guarded *guardedKey, err error) {
	defer func() {
		if v := recover(); v != nil {
			guarded, err = nil, &kms.Error{Op: "open key", Detail: fmt.Sprintf("key %q: the backend panicked with a %T", name, v), Advice: "this is a bug in the backend: please report it"}
		}
	}()
	key, err := k.registry.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	if guarded, err = decorate(key, k.policy.Keys[name], k.watchers); err == nil {
		guarded.uri = uri
	}
	return guarded, err
}

// putOut is called, with the mutex held, for a key that leaves the table. Closing
// one may wait for its KMS, which must not happen under the mutex.
func (k *keyring) putOut(_ string, key *tenantKey) {
	switch {
	case !key.putOut():
	case k.closed: // close waits for us
		closeKey(key.guardedKey)
	default:
		k.work.Go(func() { closeKey(key.guardedKey) })
	}
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
	return k.tenant(ctx, name, uri)
}

// opened returns the key of a URI that was made from a template, if it is open.
func (k *keyring) opened(uri string) (kms.Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.perURI.Get(uri)
	return key, ok
}

// tenant returns the key of a URI that was made from the template of that name.
func (k *keyring) tenant(ctx context.Context, name, uri string) (kms.Key, error) {
	if key, ok := k.opened(uri); ok {
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
		return nil, gaveUpOpening(ctx, uri)
	}
}

// gaveUpOpening says that the caller did not wait for a key to be opened.
func gaveUpOpening(ctx context.Context, uri string) error {
	var shown string
	if u, err := kms.ParseURI(uri); err == nil {
		shown = kms.Redact(u)
	}
	return &kms.Error{Class: kms.Canceled, Op: "open key", KeyID: shown, Detail: "the caller gave up", Err: context.Cause(ctx)}
}

// open opens a key made from a template and keeps it. It is on a time of its
// own: the caller who began it may give up while others wait for it.
func (k *keyring) open(ctx context.Context, name, uri string) (kms.Key, error) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, errClosed("open key")
	}
	k.work.Add(1)
	k.mu.Unlock()
	defer k.work.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), DefaultCallTimeout)
	defer cancel()
	defer context.AfterFunc(k.closing, cancel)()
	guarded, err := k.openURI(ctx, name, uri)
	if err != nil {
		if kms.ClassOf(err) == kms.Canceled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, &kms.Error{
				Class: kms.Unavailable, Op: "open key", Detail: fmt.Sprintf("key %q: no answer within %s", name, DefaultCallTimeout),
				Advice: "check that the KMS is up and reachable from here", Err: err,
			}
		}
		return nil, fmt.Errorf("key %q: %w", name, err) // what the backend says may not name it
	}
	if err := k.checkPlace(guarded); err != nil {
		closeKey(guarded)
		return nil, err
	}
	t := &tenantKey{guardedKey: guarded}
	t.again = func(ctx context.Context) (kms.Key, error) { return k.tenant(ctx, name, uri) }
	kept, err := k.keep(uri, t)
	if kept != t {
		closeKey(guarded)
	}
	if err != nil {
		return nil, err
	}
	return kept, nil
}

// keep puts key in the table and returns it, or the one that is there already.
func (k *keyring) keep(uri string, key *tenantKey) (*tenantKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errClosed("open key")
	}
	if other, ok := k.perURI.Get(uri); ok {
		return other, nil
	}
	k.perURI.Add(uri, key)
	return key, nil
}

func errClosed(op string) error {
	return &kms.Error{Op: op, Detail: "the codec is closed", Advice: "this is a bug in the calling program: it uses a codec after Close"}
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
	for _, key := range k.fixed {
		closeKey(key)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.perURI.Purge()
}

func closeKey(key kms.Key) {
	if c, ok := key.(kms.Closer); ok {
		_ = c.Close() // nothing is in flight any more, and nobody could act on the error
	}
}
