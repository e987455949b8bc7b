// Command demo shows Waxseal at work: it starts a Temporal server with its Web
// UI, the codec server and a worker that seals its payloads, runs a few orders,
// and prints which page to open. Everything listens on loopback, keeps its data
// in a temporary folder, and is gone when the demo ends.
package main
