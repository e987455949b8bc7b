// Package wiretap stands between a program and a gRPC server and keeps all
// that the two say: every request, answer, error and header, as bytes.
//
// The end-to-end tests have workers and clients connect through it, so that
// what they send is judged by what arrived and not by what they meant to send.
// It understands nothing of what passes, alters nothing, handles unary calls
// alone, and listens on loopback.
package wiretap
