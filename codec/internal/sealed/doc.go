// Package sealed is an envelope as a Temporal payload: the encoding and the metadata that
// name it, and what can be checked of a payload without a key. It opens and seals nothing.
// docs/format.md specifies the form; package codec exports the names for programs.
package sealed
