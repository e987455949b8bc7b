// Package gcpkms wraps data keys with symmetric keys of Google Cloud KMS, be they
// software, HSM or external ones, and manages the versions of those keys.
//
// A program names Backend, or NewBackend() if it opens many keys, to
// kms.NewRegistry and opens keys by URI
// (gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k), or calls New with a
// Config. Data keys are made by the caller and sent to Cloud KMS's Encrypt and
// Decrypt over gRPC, one in a request, with the encryption context as additional
// authenticated data and a CRC32C checksum of everything in both directions.
//
// A Key is a kms.Rotator and a kms.Prober; Cloud KMS has nothing that a
// kms.Rewrapper could use. Nothing of a key is changed but by the methods of Rotator
// and MakePrimary. The package never makes or deletes a key, never retries (package
// kms/resilience does), never logs, and keeps Google's client library from logging
// requests. No data key, token or answer of Cloud KMS's is in the text of its
// errors. Answers that held data keys are wiped; copies in the gRPC library,
// crypto/tls and the kernel are out of its reach.
package gcpkms
