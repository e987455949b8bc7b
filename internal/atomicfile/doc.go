// Package atomicfile writes a file that is either all there or not there at
// all, and that nobody else can read.
//
// The command line calls it for plaintext that a person asked to have in a file.
package atomicfile
