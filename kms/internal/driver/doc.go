// Package driver is what the backends of kms repeat: the error that a refusal
// becomes, requests for many data keys with a bound on those in flight, sessions
// that keys share, bodies that are wiped, addresses, and Retry-After.
//
// The packages awskms, gcpkms, vaultkms and localkms call it, and nothing else does.
// It performs no I/O of its own, and no text of its errors quotes an address, a
// secret, or an answer of a KMS.
package driver
