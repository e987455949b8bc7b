// Package codecmetrics counts for Prometheus what a codec and its KMSs do: calls, retries, breakers, the cache, and
// payloads sealed without a recipient or in grace. Programs that run a codec without a Temporal client use it; a
// client's plugin reports to the client's own metrics handler.
//
// It promises that labels come from the policy and from fixed lists alone, never from a payload or a caller. It serves
// nothing and starts nothing.
package codecmetrics
