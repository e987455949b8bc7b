// Package resilience stands between a kms.Key and its callers, and deals
// with a KMS that is slow, throttling, flaky or gone: each attempt has a timeout,
// what a little time may cure is tried again within the caller's deadline, retries
// have a budget, calls at one time have a limit, and a KMS that does not answer
// is left alone for a while. What each class of error means is one table.
//
// Programs decorate each key once, as they open it, and give the result to package
// envelope. This package is the only one that retries: backends do not. It keeps
// nothing between calls but counters and the last failure, never logs, never
// retries what manages keys (kms.Rotator), and never keeps a data key.
package resilience
