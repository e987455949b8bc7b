package erase

import "runtime"

// deadStack is how much of the stack below its caller Call clears, in bytes: more than HMAC and AES-GCM use.
const deadStack = 4 << 10

// Call calls f once, and then clears vector registers (on amd64 and arm64) and deadStack bytes of the stack that f
// used. If f panics, Call clears too and panics with the same value. If f ends the goroutine, Call clears only the
// stack below the functions that f was in. Goroutines that f starts have stacks of their own. f should not need more
// than deadStack while it holds a key: a stack that grows leaves its old copy behind.
//
// It does not clear what f allocates, nor registers that a signal saves while f runs. Use it in place of Do for calls
// that allocate much, or objects that live long, as clients of a KMS do: the runtime tracks each allocation in Do until
// it is freed, which slows down thousands of calls.
//
//go:noinline
func Call(f func()) {
	clearStack(false) // the stack grows now, while it holds no key
	ends := true      // f ends the goroutine; else the deferred call clears nothing
	defer func() { clearStack(ends) }()
	panicked := panicOf(f)
	ends = false
	clearStack(true)
	if panicked != nil {
		panic(panicked) //nolint:forbidigo // that of f, once more
	}
}

// panicOf calls f and returns what it panicked with, or nil. A deferred function of Call
// would run while f is still on the stack, and so clear too little.
//
//go:noinline
func panicOf(f func()) (panicked any) {
	defer func() { panicked = recover() }()
	f()
	return nil
}

// clearStack takes deadStack bytes of stack, and clears them if really.
//
//go:noinline
func clearStack(really bool) {
	if really {
		var dead [deadStack]byte
		clear(dead[:])
		runtime.KeepAlive(&dead) // else the compiler removes it all
		clearRegisters()
	}
}
