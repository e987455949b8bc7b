// Package temporaltest is a Temporal server for tests: it accepts every method of the
// API over a loopback gRPC connection, reads each request byte for byte, and answers
// from a script. It holds no state beyond what a script needs, and checks nothing that
// a real server checks.
//
// Its users are the wire tests of package codec, which look for plaintext in requests,
// and the tests of package hostile, which alter responses. It is test code: no package
// that ships imports it.
package temporaltest
