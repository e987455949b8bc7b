// Package hold knows the workflow tasks that the SDK works on, and fails those that cannot
// continue for now: the server hands them out again, and the workflow continues when its KMS is
// available. It bounds how long one task waits for KMSs, keeps a task back while breakers block
// its KEKs, and reports failures that the SDK drops silently.
//
// It opens and seals nothing. Its reports are plaintext that quotes no payload (PlainReason).
// docs/outage-clock.md has the times, docs/what-holds-a-workflow.md the places.
package hold
