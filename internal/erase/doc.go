// Package erase clears the traces of keys in memory that clearing one's own copy does not reach: in the standard
// library's ciphers, on the stack and, in one kind of build, everywhere else.
//
// envelope/format uses payload keys inside Do and zeroes its ciphers with Crypto; envelope makes and copies data keys
// inside Do, and calls backends inside Call. In a build with GOEXPERIMENT=runtimesecret, Do is that of runtime/secret.
// docs/threat-model.md says what remains with and without it.
//
// Nothing here depends on a key or returns an error. It never touches memory that its caller does not hand over.
package erase
