// Package driver is what the backends of kms repeat: the error that a refusal
// becomes, the operations that it names, requests for many data keys with a bound on
// those in flight, sessions that keys share, bodies that are wiped, the second attempt
// after an idle connection was closed, addresses, and Retry-After.
//
// The packages awskms, gcpkms, vaultkms and localkms call it, and nothing else does.
// Only Send performs I/O, with the caller's HTTP client. No text of its errors quotes an
// address, a secret, or an answer of a KMS.
package driver
