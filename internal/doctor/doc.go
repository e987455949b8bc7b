// Package doctor examines keys: whether their KMS can be reached, which identity
// it sees, whether it wraps and unwraps, whether it enforces the encryption context,
// and how long all that takes.
//
// The command line calls it. It asks a KMS only what a worker or a codec server
// would ask, and about itself; it changes nothing there, logs nothing, and keeps
// no data key. What it reports holds no credential.
package doctor
