// Package faultproxy stands between a program and a KMS that speaks HTTP, and
// takes the KMS away on command: it closes its port and resets connections,
// answers late, fails some requests, or throttles.
//
// The blackout test and the soak have workers reach Vault through it, so that
// "unreachable" is what a socket says and not what a fake pretends. It alters
// nothing of what it passes on, and listens on loopback only.
package faultproxy
