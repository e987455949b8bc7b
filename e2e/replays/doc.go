// Package replays records the histories that codec's tests replay, with the
// workflows of internal/replaytest on a real Temporal server. Its test records
// them all and replays them; with -add it also adds to codec/testdata/replays
// the histories that are not there yet. It never replaces a stored file. What
// the stored histories are for: codec/testdata/replays/README.md.
package replays
