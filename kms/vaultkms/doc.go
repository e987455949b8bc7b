// Package vaultkms wraps data keys with keys of HashiCorp Vault's transit
// engine, or of OpenBao's, which speaks the same API.
//
// A program names Backend to kms.NewRegistry and opens keys by URI
// (hashivault://mount/key), or calls New with a Config. Data keys are made by the
// caller and sent to Vault's encrypt and decrypt endpoints in batches, with the
// encryption context as associated data; one request serves up to 200 of them.
//
// The package never creates a key, never follows Vault to a place that is less
// protected than the address it was given, never retries (package kms has a
// decorator for that) and never logs. No token, data key or answer of Vault's is
// in the text of its errors. Buffers that held data keys are wiped; copies in
// net/http, crypto/tls and the kernel are out of its reach.
package vaultkms
