// Package replaytest holds the workflows, the policy and the reader of the stored histories in codec/testdata/replays.
// The tests of codec replay those histories, and the tests of e2e/replays record new ones on a real Temporal server:
// both run the code of this package, so that a stored history and the workflow that made it stay together.
//
// A stored history replays only with the workflow code that recorded it. Workflows and activities of this package
// therefore never change: a new need is a new workflow. The package imports nothing that seals or opens; its callers
// pass in the plugin.
package replaytest
