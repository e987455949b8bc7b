// Package httpapi is the codec server: it lets the Temporal Web UI, the
// temporal command line and codecs in other languages seal and open payloads
// over HTTP, as Temporal's codec server protocol has it.
//
// The waxseal binary runs it on top of package codec, which does the sealing;
// this package decides who may ask, bounds what they may ask for, and says what
// went wrong without saying anything that was secret. It promises that answers
// have the same count and order as requests, that a request that was not
// understood changes nothing, and that a payload that could not be opened comes
// back as it was sent or the request fails, as the caller chose.
//
// It never writes a payload, a key, a token or the text of a KMS to a log or to
// an error, never listens beyond loopback without authentication unless told so
// in as many words, and keeps no state but its counters.
package httpapi
