package cache

import "sync/atomic"

// Ref is a reader's hold on a value: the value is not wiped before Release, even if its entry leaves the cache. Hold it
// for one operation only: a Ref that is never released keeps its secret in memory for good.
type Ref[V any] struct {
	held atomic.Pointer[box[V]]
}

// Value returns the value, which belongs to the cache: read it, do not change
// it, and do not keep it past Release, which may wipe it.
//
// Value panics after Release. The zero value instead could pass for a real key.
func (r *Ref[V]) Value() V {
	b := r.held.Load()
	if b == nil {
		panic("cache: Ref.Value called after Release") //nolint:forbidigo // a bug in the caller, which would otherwise read a wiped secret
	}
	return b.value
}

// Release ends the hold, and wipes the value if it has left the cache and this was the last hold. Any goroutine may
// call it, but not while another one uses the value. Only the first call on a Ref does anything, and none on a nil Ref:
// `defer ref.Release()` is right even before the error is checked.
func (r *Ref[V]) Release() {
	if r == nil {
		return
	}
	if b := r.held.Swap(nil); b != nil {
		b.drop()
	}
}

// box is a value and the number of its holds: one for each Ref that is not released,
// and one for the cache as long as the entry is in it.
//
// The count is atomic so that Release needs no lock. It rises only while the cache has its hold, under its lock. So
// once it reaches zero it stays there, and the wipe happens exactly once and never under a reader.
type box[V any] struct {
	value V
	holds atomic.Int64
	wipe  func(V)
}

func (b *box[V]) hold(n int) { b.holds.Add(int64(n)) }

func (b *box[V]) drop() {
	if b.holds.Add(-1) == 0 {
		b.wipe(b.value)
		var zero V
		b.value = zero
	}
}
