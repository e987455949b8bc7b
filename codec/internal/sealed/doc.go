// Package sealed handles an envelope as a Temporal payload: the encoding and the metadata that
// name it, and the checks of a payload that need no key. It opens and seals nothing.
// docs/format.md specifies the form; package codec exports the names for programs.
package sealed
