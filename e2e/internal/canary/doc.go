// Package canary makes strings that stand for secrets, and finds them again in
// whatever bytes a test can get hold of.
//
// The end-to-end tests put a canary of its own into everything that a Temporal
// program can say, and then look for canaries where only ciphertext belongs.
// Finding none means something only because the same search, over the same
// places, finds all of them when nothing is encrypted. The search looks through
// the usual disguises: base64, hexadecimal, UTF-16, upper and lower case, gzip,
// zlib, zstd and snappy, also nested. It promises nothing about deliberate
// hiding.
package canary
