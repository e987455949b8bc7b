package cache

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	// maxEntries is the largest Config.MaxEntries. Four million data keys are about
	// 2 GiB with their bookkeeping; more is a mistake in the unit.
	maxEntries = 4 << 20

	// maxLifetime is the longest duration of a Config. A secret meant to stay in memory
	// for longer than a week does not belong in a cache. Sums cannot overflow.
	maxLifetime = 7 * 24 * time.Hour
)

// Config is what New needs to know. Its zero value is refused.
//
// The cache never holds its lock when it calls Classify, Wipe or the Observer, so they may call the cache (but not
// Close). They must not panic and should return at once: callers wait for them. No duration is longer than a week; all
// are measured on the monotonic clock, which on most systems stands still while the machine is suspended.
type Config[V any] struct {
	// MaxEntries bounds the number of values, and separately that of remembered
	// failures, so that keys that do not load evict none that do. 1 to 4,194,304.
	MaxEntries int

	// Fresh is how long a value serves without another load; required.
	Fresh time.Duration

	// Stale is how long after its fresh lifetime a value may serve while loads fail with
	// the verdict ServeStale or ServeStaleOnce. 0 turns that off.
	Stale time.Duration

	// Jitter spreads the fresh lifetime of each entry evenly over Fresh·(1±Jitter), so that values loaded together are
	// not all refreshed together. 0 or more and less than 1. Stale starts when the entry's own fresh lifetime ends.
	Jitter float64

	// NegativeFor is how long a failure with the verdict ServeStale or Evict is answered
	// from memory, without a load. 0 turns that off.
	NegativeFor time.Duration

	// LoadTimeout ends the context of a load; required. A load that ignores the end of its context keeps callers
	// waiting. Only the timeout or Close ends that context, so Classify should take context.DeadlineExceeded or
	// Canceled from a load for a backend that is down.
	LoadTimeout time.Duration

	// Classify says what the error of a load means; required. The cache does not call it
	// for loads that panic or otherwise break their contract: those Fail.
	Classify func(error) Verdict

	// Wipe destroys a value that left the cache and that no Ref holds; required, and called exactly once for each
	// value. For values that hold no secret, pass a function that does nothing.
	Wipe func(V)

	// Observer counts what happens; optional.
	Observer Observer
}

// Verdict is what a failed load means for the entry that it should have refreshed.
type Verdict uint8

const (
	// Fail returns the error to the callers that waited. It keeps the entry, if there is
	// one, and does not remember the failure, so the next caller loads again. It is the
	// verdict for an error that says nothing about the key, such as a bug.
	Fail Verdict = iota
	// ServeStale lets an entry within Fresh+Stale serve in place of the error, and remembers the failure: no load of
	// this key for NegativeFor. It is the verdict for a backend that is down or throttles.
	ServeStale
	// Evict removes the entry, wipes it once no Ref holds it, and remembers the failure
	// for NegativeFor. It is the verdict for a key that was revoked.
	Evict
	// ServeStaleOnce is ServeStale without remembering: the next caller loads again. It is the verdict for a load that
	// did not reach the backend, and so neither learned anything nor cost the backend anything.
	ServeStaleOnce
)

// check returns an error that lists all that is wrong with c.
func (c *Config[V]) check() error {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if c.MaxEntries < 1 || c.MaxEntries > maxEntries {
		problem("MaxEntries is %d, must be 1 to %d", c.MaxEntries, maxEntries)
	}
	for _, d := range []struct {
		name         string
		value, least time.Duration
	}{
		{"Fresh", c.Fresh, 1},
		{"Stale", c.Stale, 0},
		{"NegativeFor", c.NegativeFor, 0},
		{"LoadTimeout", c.LoadTimeout, 1},
	} {
		switch {
		case d.value < d.least && d.least > 0:
			problem("%s is %v, must be more than 0", d.name, d.value)
		case d.value < d.least:
			problem("%s is %v, must not be negative", d.name, d.value)
		case d.value > maxLifetime:
			problem("%s is %v, must be at most %v", d.name, d.value, maxLifetime)
		}
	}
	if math.IsNaN(c.Jitter) || c.Jitter < 0 || c.Jitter >= 1 {
		problem("Jitter is %v, must be at least 0 and less than 1", c.Jitter)
	}
	if c.Classify == nil {
		problem("Classify is missing")
	}
	if c.Wipe == nil {
		problem("Wipe is missing")
	}
	if problems == nil {
		return nil
	}
	return errors.New("cache: check config: " + strings.Join(problems, "; "))
}
