package codec

import (
	"context"
	"sync"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/policy"
)

// decorate puts a key, just opened, behind the resilience that the policy has for
// the name, and has the watchers told. The key is closed if that cannot be done.
func decorate(key kms.Key, of policy.Key, w *watchers) (*guardedKey, error) {
	g := &guardedKey{name: of.Name, watchers: w}
	r := of.Resilience
	var err error
	g.Key, err = resilience.New(key, resilience.Config{
		Timeout: r.Timeout, Attempts: r.Attempts, RetryBudget: r.RetryBudget,
		Concurrency: r.Concurrency, Queue: r.Queue,
		BreakerFailures: r.Breaker.Failures, BreakerOpenFor: r.Breaker.OpenFor,
		Hooks: w.resilience(of.Name, &g.breaker),
	})
	if err != nil {
		closeKey(key)
		return nil, err
	}
	return g, nil
}

// guardedKey is an open key behind its resilience.
type guardedKey struct {
	kms.Key
	name     string
	uri      string
	watchers *watchers
	breaker  breakerState
}

var (
	_ kms.Decorator = (*guardedKey)(nil)
	_ kms.Closer    = (*guardedKey)(nil)
	_ kms.Locator   = (*guardedKey)(nil)
)

// Decorated implements kms.Decorator.
func (g *guardedKey) Decorated() kms.Key { return g.Key }

// Location implements kms.Locator. Of a backend whose keys do not say where they are,
// two URIs are two keys.
func (g *guardedKey) Location() string {
	if l, ok := kms.As[kms.Locator](g.Key); ok {
		return l.Location()
	}
	return g.uri
}

// Close implements kms.Closer. A breaker that is open is so no longer.
func (g *guardedKey) Close() error {
	closeKey(g.Key)
	if from, changed := g.breaker.end(); changed {
		g.watchers.breaker(g.name, from, resilience.Closed)
	}
	return nil
}

// breakerState is where a breaker was last.
type breakerState struct {
	mu    sync.Mutex
	state resilience.State
	ended bool
}

func (b *breakerState) change(to resilience.State) (from resilience.State, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from = b.state
	if b.ended || from == to {
		return from, false
	}
	b.state = to
	return from, true
}

func (b *breakerState) now() resilience.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// end is the last change.
func (b *breakerState) end() (from resilience.State, changed bool) {
	from, changed = b.change(resilience.Closed)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	return from, changed
}

// tenantKey is a key made from a template. There can be more of them than are
// kept open: one that is put out is closed when its last call has ended, and
// whoever still has hold of it then uses the one that was opened in its place.
type tenantKey struct {
	*guardedKey
	// again returns the key that is open for the same URI.
	again func(ctx context.Context) (kms.Key, error)

	mu    sync.Mutex
	calls int
	out   bool
}

// Wrap implements kms.Key.
func (t *tenantKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if !t.enter() {
		key, err := t.again(ctx)
		if err != nil {
			return nil, err
		}
		return key.Wrap(ctx, dataKeys, ec)
	}
	defer t.leave()
	return t.guardedKey.Wrap(ctx, dataKeys, ec)
}

// Unwrap implements kms.Key.
func (t *tenantKey) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if !t.enter() {
		key, err := t.again(ctx)
		if err != nil {
			return nil, err
		}
		return key.Unwrap(ctx, wrapped, ec)
	}
	defer t.leave()
	return t.guardedKey.Unwrap(ctx, wrapped, ec)
}

// Decorated implements kms.Decorator.
func (t *tenantKey) Decorated() kms.Key { return t.guardedKey }

func (t *tenantKey) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out {
		return false
	}
	t.calls++
	return true
}

func (t *tenantKey) leave() {
	t.mu.Lock()
	t.calls--
	last := t.out && t.calls == 0
	t.mu.Unlock()
	if last {
		closeKey(t.guardedKey)
	}
}

// putOut lets no more calls begin, and reports whether the key is to be closed
// now: if not, the last call does it.
func (t *tenantKey) putOut() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := !t.out
	t.out = true
	return first && t.calls == 0
}
