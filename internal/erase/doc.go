// Package erase takes out of memory what the use of a key leaves there, where
// clearing our own copy does not reach: in the standard library's ciphers, on the
// stack and, in one kind of build, everywhere else.
//
// envelope/format works with payload keys inside Do and zeroes its ciphers with
// Crypto; envelope makes and copies data keys inside Do, and calls backends inside
// Call. In a build with GOEXPERIMENT=runtimesecret Do is that of runtime/secret.
// docs/threat-model.md says what is left then, and without.
//
// Nothing here depends on a key or reports an error: where there is nothing to
// erase, nothing happens. It never touches memory that its caller does not hand
// over.
package erase
