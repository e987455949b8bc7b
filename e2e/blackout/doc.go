// Package blackout takes a KMS away from workflows in flight and reports what
// became of them: a real Temporal server, a real Vault behind a proxy that closes
// its port, workers in processes of their own, and for each kind of outage the
// same workflows once more with a plain codec that returns its errors.
//
// Its own test runs it for two minutes of outage, `make soak` for thirty. It
// promises to measure from what the server recorded and not from what workers
// say: results prove that each signal and each activity result arrived once and in
// order, histories how soon a held workflow went on. It never shortens Temporal's
// timeouts or the codec's to look better.
package blackout
