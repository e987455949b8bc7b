package keyset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

const (
	// maxTemplateKeys bounds how many keys of {namespace} templates are kept open.
	maxTemplateKeys = 10_000
	// openTimeout bounds the opening of one key.
	openTimeout = 5 * time.Second
)

// Set holds the configured KEKs. It opens keys with a template for a URI when a namespace first needs them, and
// likewise those of a KMS that was out at the start. It is safe for concurrent use.
type Set struct {
	policy   *policy.Policy
	registry *kms.Registry
	observer Observer
	names    []string          // all names, sorted: a stable order to look in
	fixed    map[string]*Key   // by name
	byID     map[string][]*Key // fixed, in the order of names
	late     []string          // names of those that are not in fixed, in order

	opening singleflight.Group
	closing context.Context // ends when Close is called, and with it each opening
	cancel  context.CancelFunc
	work    sync.WaitGroup // openings and closings under way; it grows only under mu and before closed

	next atomic.Pointer[Set] // what replaced it

	mu     sync.Mutex
	perURI *simplelru.LRU[string, *Key]
	failed *simplelru.LRU[string, failedOpen] // by URI
	places *simplelru.LRU[string, keyPlace]   // of keys that were opened late, by ID
	closed bool
}

// New opens the keys of a policy that have fixed URIs. An error lists what is wrong with
// each key; the Class is that of the first one.
func New(ctx context.Context, p *policy.Policy, registry *kms.Registry, o Observer) (*Set, error) {
	k := &Set{
		policy: p, registry: registry, observer: o,
		fixed: make(map[string]*Key), byID: make(map[string][]*Key), names: slices.Sorted(maps.Keys(p.Keys)),
	}
	// They fail only for a size below one.
	k.perURI, _ = simplelru.NewLRU(maxTemplateKeys, k.evict)
	k.failed, _ = simplelru.NewLRU[string, failedOpen](maxTemplateKeys, nil)
	k.places, _ = simplelru.NewLRU[string, keyPlace](maxTemplateKeys, nil)
	k.closing, k.cancel = context.WithCancel(context.Background())
	problems := k.openFixed(ctx)
	problems = append(problems, k.duplicateKeys()...)
	if err := errors.Join(problems...); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// duplicateKeys returns what is wrong with rules that list one KEK under two names, such
// as an alias and its target: the second one would look like a backup and be none.
func (k *Set) duplicateKeys() []error {
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
func (k *Set) openURI(ctx context.Context, name, uri string) (opened *Key, err error) {
	defer kms.Recover("open key", "", &err)
	key, err := k.registry.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	return decorate(key, uri, k.policy.Keys[name], k.observer)
}

// evict is called, with the mutex held, for a key that leaves the table. Closing a key may
// wait for its KMS, so that happens elsewhere.
func (k *Set) evict(_ string, key *Key) {
	switch {
	case !key.evict():
	case k.closed: // Close waits
		closeKey(key)
	default:
		k.work.Go(func() { closeKey(key) })
	}
}

// Named returns the KEK of that name for a namespace, and opens it if need be. The error
// is Denied if the key has no URI for the namespace, else the backend's.
func (k *Set) Named(ctx context.Context, name, namespace string) (kms.Key, error) {
	if key, ok := k.fixed[name]; ok {
		return key, nil
	}
	uri, err := k.policy.Keys[name].Expand(namespace)
	if err != nil {
		var h interface{ Hint() string }
		advice := ""
		if errors.As(err, &h) {
			advice = h.Hint()
		}
		return nil, &kms.Error{Class: kms.Denied, Op: "open key", Detail: fmt.Sprintf("key %q has no URI for this namespace", name), Advice: advice, Err: err}
	}
	return k.tenant(ctx, name, uri)
}

// IfOpen returns the KEK of that name for a namespace, if it is open.
func (k *Set) IfOpen(name, namespace string) (*Key, bool) {
	if key, ok := k.fixed[name]; ok {
		return key, true
	}
	uri, err := k.policy.Keys[name].Expand(namespace)
	if err != nil {
		return nil, false
	}
	return k.opened(uri)
}

// WithID returns the KEK with that ID, if it is open.
func (k *Set) WithID(id string) (*Key, bool) {
	if keys := k.byID[id]; len(keys) > 0 {
		return keys[0], true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.perURI.Values() {
		if key.ID() == id {
			return key, true
		}
	}
	return nil, false
}

// opened returns the key of a URI that was made from a template, if it is open.
func (k *Set) opened(uri string) (*Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.perURI.Get(uri)
}

// tenant returns the key of a URI that was made from the template of that name.
func (k *Set) tenant(ctx context.Context, name, uri string) (kms.Key, error) {
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

// open opens a key of a template and keeps it. Its deadline is its own, not its first caller's.
func (k *Set) open(ctx context.Context, name, uri string) (kms.Key, error) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, Closed("open key")
	}
	k.work.Add(1)
	k.mu.Unlock()
	defer k.work.Done()
	ctx, cancel := kms.WithLimit(context.WithoutCancel(ctx), openTimeout)
	defer cancel()
	defer context.AfterFunc(k.closing, cancel)()
	key, err := k.openURI(ctx, name, uri)
	if err != nil {
		if kms.ClassOf(err) == kms.Canceled && kms.Late(ctx) != nil {
			return nil, NoAnswer(name, openTimeout, err)
		}
		return nil, fmt.Errorf("key %q: %w", name, err) // the backend's text may not name it
	}
	if err := k.checkPlace(key); err != nil {
		closeKey(key)
		return nil, err
	}
	key.reopen = func(ctx context.Context) (kms.Key, error) {
		if k.next.Load() != nil {
			return k.successor("call KMS", key.ID())
		}
		return k.tenant(ctx, name, uri)
	}
	kept, err := k.keep(uri, key)
	if kept != key {
		closeKey(key)
	}
	if err != nil {
		return nil, err
	}
	return kept, nil
}

// keep puts key in the table and returns it, or the one that is there already.
func (k *Set) keep(uri string, key *Key) (*Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, Closed("open key")
	}
	if other, ok := k.perURI.Get(uri); ok {
		return other, nil
	}
	k.perURI.Add(uri, key)
	return key, nil
}

// ReplacedBy says which set stands in for this one. A call that holds a key of this set
// after Close goes to the key with the same ID there.
func (k *Set) ReplacedBy(next *Set) { k.next.Store(next) }

// successor returns the key with an ID in the sets that replaced this one.
func (k *Set) successor(op, id string) (kms.Key, error) {
	for next := k.next.Load(); next != nil; next = next.next.Load() {
		if key, ok := next.WithID(id); ok && next.next.Load() == nil {
			return key, nil
		}
	}
	return nil, Closed(op)
}

// Closed returns the error of a call after Close, of Class Internal.
func Closed(op string) error {
	return &kms.Error{Op: op, Detail: "the codec is closed", Advice: "this is a bug in the calling program: it uses a codec after Close"}
}

// NoAnswer says that the key of that name could not be opened in a time.
func NoAnswer(name string, d time.Duration, cause error) error {
	e := kms.NoAnswer("open key", "", d, cause)
	e.Detail = fmt.Sprintf("key %q: %s", name, e.Detail)
	return e
}

// Close cancels openings, waits for them and closes every key.
func (k *Set) Close() {
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
		if key.evict() {
			closeKey(key)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.perURI.Purge()
}
