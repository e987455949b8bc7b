//go:build goexperiment.runtimesecret

package erase

import "runtime/secret"

// Runtime says whether this build's runtime erases what Do uses.
const Runtime = true

// Do calls f once with runtime/secret: on Linux on amd64 and arm64 the runtime clears registers and stack when f
// returns, panics or ends the goroutine, and what f allocated when the garbage collector frees it. It does not cover
// goroutines that f starts. The caller should allocate what f returns.
func Do(f func()) { secret.Do(f) }
