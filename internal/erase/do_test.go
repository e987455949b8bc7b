package erase

import (
	"bytes"
	"runtime"
	"testing"
	"unsafe"
)

// dirtied is how much of the stack the tests dirty, in bytes.
const dirtied = 3 << 10

// dirty leaves its mark all over a stretch of the stack and returns where.
//
//go:noinline
func dirty() (where uintptr) {
	var frame [dirtied]byte
	for i := range frame {
		frame[i] = 0xA7
	}
	where = uintptr(unsafe.Pointer(&frame)) //nolint:gosec // only marks looks there
	runtime.KeepAlive(&frame)
	return where
}

// dirtyAndPanic is dirty, and panics before it returns: so does a backend that
// works with a key just then.
//
//go:noinline
func dirtyAndPanic(where *uintptr) {
	var frame [dirtied]byte
	for i := range frame {
		frame[i] = 0xA7
	}
	*where = uintptr(unsafe.Pointer(&frame)) //nolint:gosec // only marks looks there
	if frame[0] == 0xA7 {
		panic("on purpose")
	}
	runtime.KeepAlive(&frame)
}

// marks counts the marks in what is a dead part of the stack.
//
//go:noinline
func marks(where uintptr) int {
	// A pointer that vet would not have made from an integer, and should not: the
	// stack stays where it is as long as nothing makes it grow.
	p := *(*unsafe.Pointer)(unsafe.Pointer(&where)) //nolint:gosec // see above
	n := 0
	for i := range uintptr(dirtied) {
		if *(*byte)(unsafe.Add(p, i)) == 0xA7 {
			n++
		}
	}
	return n
}

func TestDoClearsTheStack(t *testing.T) {
	Call(func() {}) // the stack has grown as far as it will
	if n := marks(dirty()); n < dirtied/2 {
		t.Fatalf("without Do %d of %d marks are left: the test does not see the stack", n, dirtied)
	}
	for _, tc := range []struct {
		name string
		do   func(f func())
	}{
		{"Do", Do},
		{"Call", Call},
		{"Do that panics", func(f func()) {
			defer func() {
				if v := recover(); v != "on purpose" {
					t.Errorf("Do panicked with %v", v)
				}
			}()
			Do(func() { f(); panic("on purpose") })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.do(func() {})
			var where uintptr
			calls := 0
			tc.do(func() { where, calls = dirty(), calls+1 })
			if n := marks(where); n > 64 || calls != 1 {
				t.Errorf("%d marks are left after %d calls", n, calls)
			}
		})
	}
}

// TestDoClearsWhatAPanicLeaves is about the functions that f was in when it panicked:
// what is deferred runs below them on the stack, and would clear nothing of theirs.
func TestDoClearsWhatAPanicLeaves(t *testing.T) {
	caught := func(do func(f func()), f func()) {
		defer func() {
			if v := recover(); v != "on purpose" {
				t.Errorf("panicked with %v", v)
			}
		}()
		do(f)
	}
	for _, tc := range []struct {
		name string
		do   func(f func())
	}{{"Do", Do}, {"Call", Call}} {
		t.Run(tc.name, func(t *testing.T) {
			var where uintptr
			for range 2 { // the first time for the stack to grow
				caught(tc.do, func() { dirtyAndPanic(&where) })
			}
			if n := marks(where); n > 64 {
				t.Errorf("%d marks are left", n)
			}
		})
	}
}

// TestDoOfAGoroutineThatEnds is about what stands behind Do and in a defer.
func TestDoOfAGoroutineThatEnds(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		Do(runtime.Goexit)
		t.Error("Do returned")
	}()
	<-done
}

// TestDoNested is what a backend within a caller within a test does.
func TestDoNested(t *testing.T) {
	var got []byte
	Do(func() { Do(func() { got = bytes.Repeat([]byte{1}, 40) }) })
	runtime.GC()
	if !bytes.Equal(got, bytes.Repeat([]byte{1}, 40)) {
		t.Errorf("what f returned is %x", got)
	}
}

func BenchmarkDo(b *testing.B) {
	for b.Loop() {
		Do(func() {})
	}
}
