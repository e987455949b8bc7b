// Package atomicfile writes a file that is either complete or absent, and that only its owner can read.
//
// The command line calls it for plaintext that its user wants in a file.
package atomicfile
