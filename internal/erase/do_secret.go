//go:build goexperiment.runtimesecret

package erase

import "runtime/secret"

// Runtime says whether the Go runtime erases, in this build, what is used in Do.
const Runtime = true

// Do calls f, once, with runtime/secret: on Linux on amd64 and arm64, registers and
// stack are cleared when it returns, panics or ends the goroutine, and what f
// allocated when the garbage collector frees it. Goroutines that f starts are not
// covered. What f returns is best allocated by the caller.
func Do(f func()) { secret.Do(f) }
