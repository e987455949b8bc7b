// Package gcpkms wraps data keys with symmetric keys of Google Cloud KMS, be they
// software, HSM or external ones.
//
// A program names Backend to kms.NewRegistry and opens keys by URI
// (gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k), or calls New with a
// Config. Data keys are made by the caller and sent to Cloud KMS's Encrypt and
// Decrypt over gRPC, one in a request, with the encryption context as additional
// authenticated data and a CRC32C checksum of everything in both directions.
//
// The package never creates or changes a key, never retries (package kms has a
// decorator for that), never logs, and keeps Google's client library from logging
// requests. No data key, token or answer of Cloud KMS's is in the text of its
// errors. Answers that held data keys are wiped; copies in the gRPC library,
// crypto/tls and the kernel are out of its reach.
package gcpkms
