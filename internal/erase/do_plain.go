//go:build !goexperiment.runtimesecret

package erase

// Runtime says whether the Go runtime erases, in this build, what is used in Do.
const Runtime = false

// Do calls f, once, and then clears what Call does.
func Do(f func()) { Call(f) }
