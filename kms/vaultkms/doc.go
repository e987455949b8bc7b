// Package vaultkms wraps data keys with keys of HashiCorp Vault's transit
// engine, or of OpenBao's, which speaks the same API.
//
// A program names Backend, or NewBackend's, to kms.NewRegistry and opens keys by URI
// (hashivault://mount/key), or calls New with a Config. Data keys are made by the caller
// and sent to Vault's encrypt and decrypt endpoints in batches, bound to the encryption
// context by associated data or, where a key is derived, by a derivation context; one
// request serves up to 160 of them. The package logs in as Auth says, and renews and
// replaces tokens while a Key is in use. Keys manage their versions (kms.Rotator,
// kms.Retirer) and report on themselves (kms.Prober).
//
// The package never creates a key, never follows Vault to a place that is less
// protected than the address it was given, and never logs. It leaves retries to
// package kms's decorator: a request goes out again only with a new token, to a
// node that was behind, or over a new connection. No token, data key or answer of
// Vault's is in the text of its errors. Buffers that held data keys are wiped;
// copies in net/http, crypto/tls and the kernel are out of its reach, and tokens
// are strings. Close ends a Key's timer and the request that it may have under way.
package vaultkms
