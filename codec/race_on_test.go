//go:build race

package codec_test

// underRace says that the race detector is on, and all that only counts slow.
const underRace = true
