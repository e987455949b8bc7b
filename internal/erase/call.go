package erase

import "runtime"

// deadStack is how much of the stack below its caller Call clears, in bytes: more
// than HMAC and AES-GCM use.
const deadStack = 4 << 10

// Call calls f, once, and then clears vector registers (on amd64 and arm64) and the
// stack that f used, as far as deadStack reaches. If f panics it does so too, and then
// panics with the same value, as from Call itself. If f ends the goroutine, what is
// cleared is below the functions that f was in, and theirs is not. Goroutines that f
// starts are on stacks of their own. f should not need more than deadStack while it
// holds a key: a stack that grows leaves its old place behind as it was.
//
// It does not clear what f allocates, nor what a signal that comes while f runs saves
// of the registers. It is Do for calls that allocate much, or what lives for long, as
// clients of a KMS do: the runtime keeps account of each allocation in Do until it is
// freed, and that makes thousands of calls slow, not only this one.
//
//go:noinline
func Call(f func()) {
	clearStack(false) // makes the stack grow now, when there is no key on it
	ends := true      // the goroutine; else what is deferred clears nothing
	defer func() { clearStack(ends) }()
	panicked := panicOf(f)
	ends = false
	clearStack(true)
	if panicked != nil {
		panic(panicked) //nolint:forbidigo // that of f, once more
	}
}

// panicOf calls f and returns what it panicked with, nil if it did not. What Call
// deferred would run while f is still on the stack, and so clear too little.
//
//go:noinline
func panicOf(f func()) (panicked any) {
	defer func() { panicked = recover() }()
	f()
	return nil
}

// clearStack has room on the stack for deadStack bytes, and clears them if really.
//
//go:noinline
func clearStack(really bool) {
	if really {
		var dead [deadStack]byte
		clear(dead[:])
		runtime.KeepAlive(&dead) // else the compiler would leave it all out
		clearRegisters()
	}
}
