package kmstest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

// sample is a set of data keys, and what key made of them under ec.
type sample struct {
	key      kms.Key
	ec       kms.Context
	dataKeys [][]byte
	wrapped  []kms.Wrapped // in the order of dataKeys
}

// sampleOf wraps n new data keys with key, under testContext.
func sampleOf(t testing.TB, key kms.Key, n int) sample {
	t.Helper()
	return sampleUnder(t, key, n, testContext())
}

// sampleUnder wraps n new data keys with key, under ec.
func sampleUnder(t testing.TB, key kms.Key, n int, ec kms.Context) sample {
	t.Helper()
	dataKeys := newDataKeys(n)
	return sample{key: key, ec: ec, dataKeys: dataKeys, wrapped: mustWrap(t, key, dataKeys, ec)}
}

// on returns the sample with another key to try it on.
func (s sample) on(key kms.Key) sample {
	s.key = key
	return s
}

// part returns items from to to-1.
func (s sample) part(from, to int) sample {
	s.dataKeys, s.wrapped = s.dataKeys[from:to], s.wrapped[from:to]
	return s
}

// and returns the items of both samples, for one batch.
func (s sample) and(other sample) sample {
	s.dataKeys, s.wrapped = slices.Concat(s.dataKeys, other.dataKeys), slices.Concat(s.wrapped, other.wrapped)
	return s
}

// altered returns blobs in place of the sample's own, all of the version of its first.
func (s sample) altered(blobs ...[]byte) sample {
	version := s.wrapped[0].Version
	s.wrapped = nil
	for _, b := range blobs {
		s.wrapped = append(s.wrapped, kms.Wrapped{Version: version, Blob: b})
	}
	return s
}

// secrets returns what no error may show.
func (s sample) secrets() [][]byte {
	out := slices.Clone(s.dataKeys)
	for _, w := range s.wrapped {
		out = append(out, w.Blob)
	}
	return out
}

// opens wants every key to unwrap the sample; without keys, its own.
func (s sample) opens(t testing.TB, keys ...kms.Key) {
	t.Helper()
	if len(keys) == 0 {
		keys = []kms.Key{s.key}
	}
	for _, key := range keys {
		mustUnwrap(t, key, s.wrapped, s.ec, s.dataKeys)
	}
}

// refused wants the key to refuse every item under ec, with one of classes.
func (s sample) refused(t testing.TB, ec kms.Context, classes ...kms.Class) {
	t.Helper()
	mustRefuse(t, s.key, s.wrapped, ec, classes, s.dataKeys...)
}

// off wants the key neither to wrap nor to unwrap.
func (s sample) off(t testing.TB, classes ...kms.Class) {
	t.Helper()
	s.wrapCall().fails(t.Context(), t, s, classes...)
	s.refused(t, s.ec, classes...)
}

// call is an operation of a key, for cases that look only at how it fails.
type call struct {
	name string // as in Go
	op   string // as in a kms.Error
	// do reports whether there was an answer, whole or in part.
	do func(ctx context.Context) (answered bool, err error)
}

// anyOp stands for the name of an operation that the backend chooses.
const anyOp = ""

func (s sample) wrapCall() call {
	return call{"Wrap", string(OpWrap), func(ctx context.Context) (bool, error) {
		got, err := s.key.Wrap(ctx, s.dataKeys, s.ec)
		return got != nil, err
	}}
}

func (s sample) unwrapCall() call {
	return call{"Unwrap", string(OpUnwrap), func(ctx context.Context) (bool, error) {
		got, err := s.key.Unwrap(ctx, s.wrapped, s.ec)
		return got != nil, err
	}}
}

func (s sample) rewrapCall(t testing.TB) call {
	return call{"Rewrap", string(OpRewrap), func(ctx context.Context) (bool, error) {
		got, err := powerOf[kms.Rewrapper](t, s.key).Rewrap(ctx, s.key, s.wrapped, s.ec)
		return got != nil, err
	}}
}

// callOf is an operation that gives no list.
func callOf[T any](name string, do func(ctx context.Context) (T, error)) call {
	return call{name, anyOp, func(ctx context.Context) (bool, error) {
		_, err := do(ctx)
		return false, err
	}}
}

// failure makes the call and wants it to fail as a whole. It returns the error, nil if
// it did not.
func (c call) failure(ctx context.Context, t testing.TB) error {
	t.Helper()
	answered, err := c.do(ctx)
	if err == nil || answered {
		t.Errorf("%s: answered, or answered in part (error %v)", c.name, err)
		return nil
	}
	return err
}

// fails wants the call to fail as a whole, with one of classes.
func (c call) fails(ctx context.Context, t testing.TB, s sample, classes ...kms.Class) {
	t.Helper()
	if err := c.failure(ctx, t); err != nil {
		checkError(t, c.name, s.key, c.op, err, classes, s.secrets()...)
	}
}

// canceled wants the call to fail because ctx ends with cause.
func (c call) canceled(ctx context.Context, t testing.TB, s sample, cause error, secrets ...[]byte) {
	t.Helper()
	err := c.failure(ctx, t)
	if err == nil {
		return
	}
	checkError(t, c.name, s.key, c.op, err, []kms.Class{kms.Canceled}, slices.Concat(s.secrets(), secrets)...)
	if !errors.Is(err, cause) {
		t.Errorf("%s: errors.Is(err, %q) is false", c.name, cause)
	}
}

// failEnded wants each call to give Canceled under contexts that have ended.
func (s sample) failEnded(t testing.TB, calls ...call) {
	t.Helper()
	for cause, ctx := range ended(t) {
		for _, c := range calls {
			c.canceled(ctx, t, s, cause)
		}
	}
}

// powerOf returns a power of the key's, which the harness says it has.
func powerOf[T any](t testing.TB, key kms.Key) T {
	t.Helper()
	power, ok := kms.As[T](key)
	if !ok {
		t.Fatalf("%T is no %v, but another key of the harness is", key, reflect.TypeFor[T]())
	}
	return power
}

// itemsOf checks the shape of what a call about n items gave. An error that failed
// the whole call becomes that of each item: failed.
func itemsOf[T any](t testing.TB, what string, n int, got []T, err error, failed T) []T {
	t.Helper()
	if err != nil {
		if got != nil {
			t.Errorf("%s gave both an error and an answer", what)
		}
		return slices.Repeat([]T{failed}, n)
	}
	if len(got) != n {
		t.Fatalf("%s of %d gave %d answers", what, n, len(got))
	}
	return got
}

// unwrapEach unwraps each item. An error that failed the whole call counts as that
// of each item: a case about one item does not distinguish them.
func unwrapEach(t testing.TB, key kms.Key, wrapped []kms.Wrapped, ec kms.Context) []kms.Unwrapped {
	t.Helper()
	var all []kms.Unwrapped
	for part := range slices.Chunk(wrapped, batchSize) {
		got, err := key.Unwrap(t.Context(), part, ec)
		all = append(all, itemsOf(t, "Unwrap", len(part), got, err, kms.Unwrapped{Err: err})...)
	}
	return all
}
