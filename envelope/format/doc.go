// Package format is the wire format of a Waxseal envelope, version 1, on bytes and nothing else: Seal writes one, Parse
// reads one strictly, Envelope.Open decrypts it and Rewrap replaces its recipients without touching the rest.
//
// It promises that every envelope has exactly one encoding, that Parse accepts what Seal writes and nothing else (one
// validator serves both), that hostile input costs no more memory than its own length, and that no plaintext leaves
// Open unless the data key commits to the envelope and every authenticated byte is as it was sealed.
//
// Package envelope calls it, and so do tools that look at envelopes without a key. It never performs I/O, never calls a
// KMS, never stores a data key, never compresses or decompresses, and never puts content into an error: errors name a
// field, an offset and a rule. All of it is safe for concurrent use as long as the byte slices it was given do not
// change.
//
// The schema is envelope.proto, the specification docs/format.md, and the proof testdata/vectors.
package format
