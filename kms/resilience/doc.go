// Package resilience stands between a kms.Key and its callers, and deals with a KMS that is
// slow, throttling, flaky or gone. Each attempt has a timeout; transient failures are
// retried within the caller's deadline; retries have a budget, and concurrent calls a
// limit. While a KMS does not answer, most calls to it fail at once. One table says what
// each class of error means.
//
// Programs decorate each key once, as they open it, and give the result to package
// envelope. This package is the only one that retries: backends do not. It keeps nothing
// between calls but counters and the last failure, never logs, never retries the management
// of keys (kms.Rotator), and never keeps a data key.
package resilience
