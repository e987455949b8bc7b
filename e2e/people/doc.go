// Package people tests what people and other programs see of sealed workflows
// on a real Temporal server: the temporal command, the Web UI in a real browser,
// workers that use the codec server as a remote codec, and replays of downloaded
// histories. It holds tests only.
package people
