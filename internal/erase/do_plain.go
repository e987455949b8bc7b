//go:build !goexperiment.runtimesecret

package erase

// Runtime says whether this build's runtime erases what Do uses.
const Runtime = false

// Do is Call in this build.
func Do(f func()) { Call(f) }
