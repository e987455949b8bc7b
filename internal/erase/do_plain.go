//go:build !goexperiment.runtimesecret

package erase

// Runtime says whether the Go runtime erases, in this build, what is used in Do.
const Runtime = false

// Do is Call in this build.
func Do(f func()) { Call(f) }
