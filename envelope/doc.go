// Package envelope seals bytes under data keys that a KMS wraps, and opens them
// again. A Sealer makes data keys, prepares a few in advance, and enforces how far each
// may be shared. An Opener unwraps them through a cache, many at a time.
//
// Package codec calls it for Temporal payloads; it knows nothing of Temporal and serves files or database columns just
// as well. It never calls a KMS for a key that its caller did not configure, never returns plaintext of an envelope
// that does not commit to its data key, and never writes a key or a plaintext anywhere.
package envelope
