// Package kms is the portable face of a key management service: a Key wraps
// and unwraps data keys, a Registry opens keys by URI, and every failure
// carries a Class that alone decides what happens next.
//
// Backends live in subpackages (awskms, gcpkms, vaultkms, localkms) and are
// named explicitly by the program that wants them; nothing registers itself.
// Package envelope is the main caller. This package performs no I/O, holds no
// credentials and never logs.
package kms
