// Package gcpserver is Google Cloud KMS on loopback for tests and development:
// the service's own gRPC interface, so that the real client libraries of any
// language talk to it, with real cryptography behind it.
//
// Start returns a running Server, AddKey puts keys into it, and a client reaches
// it at Server.Addr over plaintext gRPC without authentication. Symmetric keys
// encrypt with AES-256-GCM, one random key for each version, and bind the
// additional authenticated data. Limits, key states, purposes, checksums
// (*_crc32c, verified_*) and status codes are those that Google documents; what
// the server does not do, such as signing, answers UNIMPLEMENTED. Faults come on
// command: latency, stalls, every status code, answers that are wrong, cut short
// or damaged on the way, requests damaged on the way, and dropped connections.
//
// Where the documentation leaves the words of an error open they are ours; a
// client should go by code and details. Times, IAM policies, import jobs, Autokey
// and rotation schedules are not simulated, and a disabled version is disabled at
// once, not some minutes later.
//
// Keys live in memory and are lost when the server stops. It listens on loopback
// only and asks nobody who they are: never give it anything that must stay secret.
package gcpserver
