package keyset

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/policy"
)

// Observer learns what happens to the keys. key is the name that the policy gives a key.
// Its methods are called in the goroutines of callers, many at once, and must not block.
type Observer interface {
	// KMSCall: a call of op ("wrap", "unwrap") ended after took; err is nil if it succeeded.
	KMSCall(key, op string, err error, took time.Duration)
	// KMSRetry: op is about to be tried again.
	KMSRetry(key, op string)
	// KMSRejected: the KMS was not called.
	KMSRejected(key, op string, why resilience.Reason)
	// Breaker: the breaker of a key changed its state.
	Breaker(key string, from, to resilience.State)
}

// Availability is what is known of a KEK's KMS.
type Availability uint8

const (
	// Up means that no breaker says otherwise.
	Up Availability = iota
	// ProbeDue means that the breaker lets one call through to find out.
	ProbeDue
	// Down means that the breaker lets no call through, or that one call is under way.
	Down
)

// Key is an open KEK behind its resilience. There can be more keys of templates than are
// kept open: an evicted one is closed when its last call has ended, and calls made after
// that go to the key that is open in its place. It is safe for concurrent use.
type Key struct {
	kms.Key
	name, uri string
	observer  Observer
	// reopen returns the key that stands in for this one once it is evicted.
	reopen func(ctx context.Context) (kms.Key, error)

	mu      sync.Mutex
	calls   int
	evicted bool
	breaker resilience.State
	closed  bool
}

var (
	_ kms.Decorator = (*Key)(nil)
	_ kms.Closer    = (*Key)(nil)
	_ kms.Locator   = (*Key)(nil)
)

// decorate puts a key behind the resilience of its policy, and closes it if that fails.
func decorate(key kms.Key, uri string, of policy.Key, o Observer) (*Key, error) {
	k := &Key{name: of.Name, uri: uri, observer: o}
	r := of.Resilience
	var err error
	k.Key, err = resilience.New(key, resilience.Config{
		Timeout: r.Timeout, Attempts: r.Attempts, RetryBudget: r.RetryBudget,
		Concurrency: r.Concurrency, Queue: r.Queue,
		BreakerFailures: r.Breaker.Failures, BreakerOpenFor: r.Breaker.OpenFor,
		Hooks: resilience.Hooks{
			Attempt:  func(op string, err error, took time.Duration) { o.KMSCall(of.Name, op, err, took) },
			Retry:    func(op string, _ time.Duration) { o.KMSRetry(of.Name, op) },
			Rejected: func(op string, why resilience.Reason) { o.KMSRejected(of.Name, op, why) },
			Breaker:  func(to resilience.State) { k.changed(to, false) },
		},
	})
	if err != nil {
		closeKey(key)
		return nil, err
	}
	return k, nil
}

// Decorated implements kms.Decorator.
func (k *Key) Decorated() kms.Key { return k.Key }

// Location implements kms.Locator. If the backend's keys state none, it is the URI: two URIs are two keys then.
func (k *Key) Location() string {
	if l, ok := kms.As[kms.Locator](k.Key); ok {
		return l.Location()
	}
	return k.uri
}

// Wrap implements kms.Key.
func (k *Key) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	key, done, err := k.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return key.Wrap(ctx, dataKeys, ec)
}

// Unwrap implements kms.Key.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	key, done, err := k.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return key.Unwrap(ctx, wrapped, ec)
}

// enter returns the key that a call is to use, and done, which ends the call.
func (k *Key) enter(ctx context.Context) (key kms.Key, done func(), err error) {
	k.mu.Lock()
	if !k.evicted {
		defer k.mu.Unlock()
		k.calls++
		return k.Key, k.leave, nil
	}
	k.mu.Unlock()
	key, err = k.reopen(ctx)
	return key, func() {}, err
}

func (k *Key) leave() {
	k.mu.Lock()
	k.calls--
	last := k.evicted && k.calls == 0
	k.mu.Unlock()
	if last {
		closeKey(k)
	}
}

// evict lets no more calls begin. It reports whether the caller, or else the last call, closes the key.
func (k *Key) evict() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := !k.evicted
	k.evicted = true
	return first && k.calls == 0
}

// Close implements kms.Closer. It reports a breaker that is open as closed.
func (k *Key) Close() error {
	closeKey(k.Key)
	k.changed(resilience.Closed, true)
	return nil
}

// changed notes a state of the breaker and reports a change. last is set when the key is closed.
func (k *Key) changed(to resilience.State, last bool) {
	k.mu.Lock()
	from := k.breaker
	ignored := k.closed || from == to
	if !k.closed {
		k.breaker, k.closed = to, last
	}
	k.mu.Unlock()
	if !ignored {
		k.observer.Breaker(k.name, from, to)
	}
}

// Availability says whether the key's breaker lets calls through.
func (k *Key) Availability() Availability {
	if a, ok := kms.As[kms.Availability](k.Key); ok && !a.Available() {
		return Down
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.breaker != resilience.Closed {
		return ProbeDue
	}
	return Up
}

// Probe calls the KMS, so that the breaker learns whether it answers: it wraps random
// bytes that encrypt nothing. A refusal is an answer too.
func (k *Key) Probe(ctx context.Context) {
	probe := make([]byte, kms.DataKeySize)
	rand.Read(probe)                                                     // never fails: crypto/rand ends the process instead
	_, _ = k.Wrap(ctx, [][]byte{probe}, kms.Context{"waxseal": "probe"}) // the breaker has the outcome
}

func closeKey(key kms.Key) {
	if c, ok := key.(kms.Closer); ok {
		_ = c.Close() // no call is under way, and nothing could act on the error
	}
}
