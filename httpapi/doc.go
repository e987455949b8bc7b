// Package httpapi is the codec server: the Temporal Web UI, the temporal command line and codecs in other languages seal
// and open payloads through it, over Temporal's codec server protocol.
//
// The waxseal binary runs it on top of package codec, which seals and opens. This package checks callers, bounds requests,
// and reports failures without anything secret. It promises that an answer has as many payloads as its request, in the same
// order; that a request that it does not understand changes nothing; and that a payload that it cannot open comes back as
// it was sent, or the request fails if it is strict.
//
// It never writes a payload, a key, a token or the text of a KMS to a log or an error. It never listens beyond loopback
// without authentication unless Config.InsecureListenAnywhere is set. It keeps no state but its counters.
package httpapi
