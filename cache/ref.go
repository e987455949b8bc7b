package cache

import "sync/atomic"

// Ref is a reader's hold on a value: as long as it is held the value is not
// wiped, whatever becomes of the entry. Hold it for one operation, not for
// longer: a Ref that is never released keeps its secret in memory for good.
//
// Release may be called from any goroutine and any number of times. Releasing
// while another goroutine still uses the value is a bug in the caller.
type Ref[V any] struct {
	held atomic.Pointer[box[V]]
}

// Value returns the value, which belongs to the cache: read it, do not change
// it, and do not keep it past Release, which may wipe it.
//
// Value panics after Release. Returning the zero value instead would let a bug in
// the caller pass off an empty key as a real one.
func (r *Ref[V]) Value() V {
	b := r.held.Load()
	if b == nil {
		panic("cache: Ref.Value called after Release") //nolint:forbidigo // a bug in the caller, which would otherwise read a wiped secret
	}
	return b.value
}

// Release lets go of the value and wipes it if it has left the cache and this
// was the last hold on it. Only the first call on a Ref does anything, and so
// does none on a nil Ref: `defer ref.Release()` is right even before the error
// is checked.
func (r *Ref[V]) Release() {
	if r == nil {
		return
	}
	if b := r.held.Swap(nil); b != nil {
		b.drop()
	}
}

// box is a value and the number of those who hold it: one for each Ref that is
// not released, and one for the cache itself as long as the entry is in it.
//
// The count is atomic so that Release needs no lock. It only ever rises while
// somebody is known to hold the box (the cache, under its lock), so once it
// reaches zero it stays there: that is what makes the wipe happen exactly once
// and never under a reader.
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
