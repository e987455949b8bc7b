// Package hold knows the workflow tasks that the SDK works on, and fails those that cannot
// go on for now: the server gives them out again, and the workflow goes on when its KMS is
// available. It bounds how long one task waits for KMSs, keeps a task back while breakers
// leave its KEKs alone, and reports failures that the SDK drops without a word.
//
// It opens and seals nothing, and what it reports is plaintext that quotes no payload
// (PlainReason). docs/outage-clock.md has the times, docs/what-holds-a-workflow.md the places.
package hold
