// Package awsserver is AWS KMS on loopback for tests and development: what
// speaks to it is the real AWS client, over HTTP, with signed requests.
//
// It answers the operations that envelope encryption and key rotation need with
// the semantics that AWS documents: key material that is rotated on demand,
// encryption contexts that are enforced, aliases, multi-Region keys, key states,
// size limits, and the error codes for all of them. Signature Version 4 is
// verified in full, and each identity may have an IAM policy. Faults come on
// command: latency, stalls, resets, throttling, outages, and answers that lie.
// Requests are counted.
//
// Tests of KMS clients and development commands call it. It is no place for
// secrets: keys live in memory and are gone when the server ends, and nothing is
// hardened against those who can reach it. It never listens beyond loopback.
package awsserver
