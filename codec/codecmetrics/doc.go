// Package codecmetrics counts for Prometheus what a codec and its KMSs do: calls, retries,
// breakers, the cache, and payloads sealed without a recipient or in grace. It is for programs
// that run a codec without a Temporal client; a client's plugin reports to the client's own
// metrics handler.
//
// Labels come only from the policy and from fixed lists, never from a payload or a caller. The
// package serves nothing and starts nothing.
package codecmetrics
