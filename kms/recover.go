package kms

import "fmt"

// Recover is deferred around a call into a backend. It turns a panic into an error of
// Class Internal that does not quote it: what a panic says may be a secret.
func Recover(op, keyID string, err *error) {
	if v := recover(); v != nil {
		*err = &Error{
			Op: op, KeyID: keyID, Detail: fmt.Sprintf("the backend panicked with a %T", v),
			Advice: "this is a bug in the backend: please report it",
		}
	}
}
