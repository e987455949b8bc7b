package resilience

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go/bulkhead"

	"github.com/waxseal/waxseal/kms"
)

// The operations in errors and hooks.
const (
	opWrap   = "wrap"
	opUnwrap = "unwrap"
	opRewrap = "rewrap"
)

// Key is a kms.Key behind a timeout, retries, a queue and a breaker. It is safe
// for concurrent use, and prints as its ID. It is also a kms.Availability, a
// kms.Decorator and a kms.Closer.
type Key struct {
	behind kms.Key
	cfg    Config

	budget   *budget
	breaker  *breaker
	bulkhead bulkhead.Bulkhead[any]
	waiting  atomic.Int64 // for the bulkhead

	close  func() error // once
	closed chan struct{}
}

var (
	_ kms.Key          = (*Key)(nil)
	_ kms.Availability = (*Key)(nil)
	_ kms.Decorator    = (*Key)(nil)
	_ kms.Closer       = (*Key)(nil)
	_ kms.Rewrapper    = rewrapper{}
)

// New returns key decorated, or an error that lists everything wrong with cfg. The result
// is a kms.Availability, and a kms.Rewrapper if key or a key behind it is one. kms.As finds
// other powers (kms.Rotator, kms.Retirer, kms.Prober) behind it, undecorated: the
// management of keys is not retried.
//
// Errors keep Class, Op, KeyID and Hint. Those made here are Unavailable for a timeout and
// an open breaker, Throttled for a full queue (kms.ErrNotAsked is in the chain of the last
// two), Canceled if the caller gave up, and Internal for a backend that panicked or broke
// the promises of kms.Key.
func New(key kms.Key, cfg Config) (kms.Key, error) {
	problems := cfg.Validate()
	if key == nil {
		problems = errors.Join(errors.New("the key is nil"), problems)
	}
	if problems != nil {
		return nil, fmt.Errorf("resilience: decorate key: %w", problems)
	}
	cfg = cfg.WithDefaults()
	k := &Key{
		behind:   key,
		cfg:      cfg,
		budget:   newBudget(cfg.RetryBudget),
		breaker:  newBreaker(cfg.BreakerFailures, cfg.BreakerOpenFor, cfg.Hooks.Breaker),
		bulkhead: bulkhead.New[any](uint(cfg.Concurrency)),
		closed:   make(chan struct{}),
	}
	k.close = sync.OnceValue(func() error {
		close(k.closed)
		if c, ok := kms.As[kms.Closer](k.behind); ok {
			return c.Close()
		}
		return nil
	})
	if r, ok := kms.As[kms.Rewrapper](key); ok {
		return rewrapper{Key: k, behind: r}, nil
	}
	return k, nil
}

// ID implements kms.Key: that of the key behind.
func (k *Key) ID() string { return k.behind.ID() }

// String returns the ID.
func (k *Key) String() string { return k.ID() }

// GoString returns the ID.
func (k *Key) GoString() string { return k.ID() }

// Decorated implements kms.Decorator.
func (k *Key) Decorated() kms.Key { return k.behind }

// Available implements kms.Availability: false while the KMS is left alone, and
// while the one attempt that decides about that is under way.
func (k *Key) Available() bool { return k.breaker.check() == nil }

// Close implements kms.Closer: waits for another attempt end, and
// the key behind is closed. Closing again does nothing and returns the same.
func (k *Key) Close() error { return k.close() }

// Wrap implements kms.Key. It is all or nothing over all its parts too: when one
// part fails, the others are canceled.
func (k *Key) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if len(dataKeys) == 0 {
		return k.askWrap(ctx, dataKeys, ec)
	}
	out := make([]kms.Wrapped, len(dataKeys))
	err := k.inParts(ctx, len(dataKeys), true, func(ctx context.Context, from, to int) error {
		return k.wrapPart(ctx, dataKeys[from:to], ec, out[from:to])
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// wrapPart fills out with the answers to dataKeys, at most MaxBatch.
func (k *Key) wrapPart(ctx context.Context, dataKeys [][]byte, ec kms.Context, out []kms.Wrapped) error {
	var failed error
	stopped := k.call(ctx, opWrap, func(ctx context.Context, explain func(error) error) (o outcome) {
		got, err := k.askWrap(ctx, dataKeys, ec)
		failed = explain(err)
		copy(out, got)
		o.add(failed)
		return o
	})
	if stopped != nil {
		return stopped
	}
	return failed
}

// askWrap calls the key behind.
func (k *Key) askWrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	return ask(k, opWrap, len(dataKeys), func(*kms.Wrapped) {}, func() ([]kms.Wrapped, error) {
		return k.behind.Wrap(ctx, dataKeys, ec)
	})
}
