// Package envelope seals bytes under data keys that a KMS wraps, and opens
// them again. A Sealer makes data keys, keeps a few wrapped ahead of need and
// enforces how far each may be shared; an Opener unwraps them through a cache,
// many at a time.
//
// Package codec calls it for Temporal payloads; it knows nothing of Temporal
// itself and serves files or database columns just as well. It never asks a
// KMS about a key that its caller did not configure, never returns plaintext
// whose envelope did not prove its data key, and never writes a key or a
// plaintext anywhere.
package envelope
