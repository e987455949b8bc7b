// Package doctor examines keys: whether their KMS can be reached, which identity
// it sees, whether it wraps and unwraps, whether it enforces the encryption context,
// and how long all that takes.
//
// The command line calls it. It sends a KMS only the requests that a worker or a codec
// server sends, and those that describe the key and our identity. It changes nothing there,
// logs nothing, and keeps no data key. Its results hold no credential.
package doctor
