package resilience

import (
	"context"

	"github.com/waxseal/waxseal/kms"
)

// items collects answers that come one by one, kms.Unwrapped or kms.Rewrapped, and retries
// only those that are missing.
type items[T any] struct {
	op string
	// ask calls the key behind.
	ask func(ctx context.Context, wrapped []kms.Wrapped) ([]T, error)
	// errOf points to an answer's error; wipe destroys what secret it holds.
	errOf func(*T) *error
	wipe  func(*T)
}

// of returns one answer for each of wrapped, or an error and nothing if not one
// of them was answered and the same thing failed them all.
func (it items[T]) of(ctx context.Context, k *Key, wrapped []kms.Wrapped) ([]T, error) {
	if len(wrapped) == 0 {
		return it.from(ctx, k, wrapped)
	}
	out := make([]T, len(wrapped))
	whole := make([]error, (len(wrapped)+k.cfg.MaxBatch-1)/k.cfg.MaxBatch)
	_ = k.inParts(ctx, len(wrapped), false, func(ctx context.Context, from, to int) error {
		whole[from/k.cfg.MaxBatch] = it.part(ctx, k, wrapped[from:to], out[from:to])
		return nil // the others go on
	})
	for _, err := range whole {
		if err == nil {
			return out, nil
		}
	}
	return nil, whole[0]
}

// part fills out with the answers to wrapped, at most MaxBatch. It returns the
// error that failed them all, if one did; it is then every answer's too.
func (it items[T]) part(ctx context.Context, k *Key, wrapped []kms.Wrapped, out []T) error {
	left := make([]int, len(wrapped)) // those without an answer that stands
	for i := range left {
		left[i] = i
	}
	var whole error // that of the last attempt, as long as no item was answered
	stopped := k.call(ctx, it.op, func(ctx context.Context, explain func(error) error) (o outcome) {
		asked := wrapped
		if len(left) < len(wrapped) {
			asked = make([]kms.Wrapped, len(left))
			for n, i := range left {
				asked[n] = wrapped[i]
			}
		}
		got, err := it.from(ctx, k, asked)
		if err = explain(err); err != nil {
			whole = err
			for _, i := range left {
				*it.errOf(&out[i]) = err
			}
			o.add(err)
			return o
		}
		still := left[:0]
		for n, i := range left {
			out[i] = got[n]
			e := it.errOf(&out[i])
			if *e != nil {
				it.wipe(&out[i])
				*e = explain(*e)
			}
			o.add(*e)
			if *e != nil && !ruleFor(*e).answers() {
				still = append(still, i)
			}
		}
		whole, left = nil, still
		return o
	})
	if stopped == nil {
		stopped = whole
	}
	if stopped != nil {
		for _, i := range left {
			*it.errOf(&out[i]) = stopped
		}
	}
	if len(left) < len(wrapped) {
		return nil
	}
	return stopped
}

// from calls the key behind.
func (it items[T]) from(ctx context.Context, k *Key, wrapped []kms.Wrapped) ([]T, error) {
	return ask(k, it.op, len(wrapped), it.wipe, func() ([]T, error) { return it.ask(ctx, wrapped) })
}

// Unwrap implements kms.Key. Items keep their answers, good or bad; only those that failed
// as Unavailable or Throttled are retried.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	return items[kms.Unwrapped]{
		op: opUnwrap,
		ask: func(ctx context.Context, wrapped []kms.Wrapped) ([]kms.Unwrapped, error) {
			return k.behind.Unwrap(ctx, wrapped, ec)
		},
		errOf: func(u *kms.Unwrapped) *error { return &u.Err },
		wipe: func(u *kms.Unwrapped) {
			clear(u.DataKey)
			u.DataKey = nil
		},
	}.of(ctx, k, wrapped)
}

// rewrapper is a Key in front of a kms.Rewrapper.
type rewrapper struct {
	*Key
	behind kms.Rewrapper
}

// RewrapsFrom implements kms.Rewrapper.
func (r rewrapper) RewrapsFrom(source kms.Key) bool { return r.behind.RewrapsFrom(undecorated(source)) }

// Rewrap implements kms.Rewrapper, and retries as Unwrap does. Attempts, queue and breaker
// are this key's, not source's.
func (r rewrapper) Rewrap(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
	source = undecorated(source)
	return items[kms.Rewrapped]{
		op: opRewrap,
		ask: func(ctx context.Context, wrapped []kms.Wrapped) ([]kms.Rewrapped, error) {
			return r.behind.Rewrap(ctx, source, wrapped, ec)
		},
		errOf: func(w *kms.Rewrapped) *error { return &w.Err },
		wipe:  func(w *kms.Rewrapped) { w.Wrapped = kms.Wrapped{} },
	}.of(ctx, r.Key, wrapped)
}

// undecorated returns the key that talks to the KMS: a backend knows its own keys
// by their type.
func undecorated(key kms.Key) kms.Key {
	for {
		d, ok := key.(kms.Decorator)
		if !ok {
			return key
		}
		key = d.Decorated()
	}
}
