// Package inspect reads what envelopes say without any key, for the command line.
//
// It promises nothing about the truth of what it reads: nothing of it is proven without a key, so Verified is always false.
// It calls no KMS, opens nothing, and performs no I/O but Write.
package inspect
