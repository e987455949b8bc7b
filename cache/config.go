package cache

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	// MaxEntriesLimit is the largest Config.MaxEntries. Four million data keys
	// are about 2 GiB with their bookkeeping; more is a mistake in the unit.
	MaxEntriesLimit = 4 << 20

	// MaxLifetime is the longest duration that Config takes for anything. A secret
	// meant to stay in memory for longer than a week does not belong in a
	// cache, and sums of such durations cannot overflow.
	MaxLifetime = 7 * 24 * time.Hour
)

// Config is what New needs to know. Its zero value is refused.
//
// Classify, Wipe and the Hooks are never called with the cache's lock held, so
// they may call the cache (but not Close). They must not panic and should
// return at once: callers wait for them.
type Config[V any] struct {
	// MaxEntries bounds the number of values, and separately the number of
	// remembered failures, so that asking for keys that do not load pushes out none
	// that did. 1 to MaxEntriesLimit.
	MaxEntries int

	// Fresh is how long a value serves without being loaded again; required.
	// All times are measured on the monotonic clock, which on most systems
	// stands still while the machine is suspended.
	Fresh time.Duration

	// Stale is for how long after its fresh lifetime a value may serve while
	// loads fail with the verdict ServeStale or ServeStaleOnce. 0 turns that off.
	Stale time.Duration

	// Jitter spreads the fresh lifetime of each entry evenly over
	// Fresh·(1±Jitter), so that values loaded together are not all refreshed
	// together. 0 or more and less than 1. Stale is not jittered: it starts when the entry's
	// own fresh lifetime ends, and so is spread as well.
	Jitter float64

	// NegativeFor is for how long a failure with the verdict ServeStale or Evict
	// is answered from memory, without a load. 0 turns that off.
	NegativeFor time.Duration

	// LoadTimeout ends the context of a load; required. A load that does not
	// return when its context ends keeps its keys' other callers waiting. Since
	// no caller can end that context, a load that reports context.DeadlineExceeded or
	// Canceled from it says that the backend is too slow (or that the cache
	// closes): Classify should take that for a backend that is down.
	LoadTimeout time.Duration

	// Classify says what the error of a load means; required. It is not asked
	// about loads that panic or otherwise break their contract: those Fail.
	Classify func(error) Verdict

	// Wipe destroys a value that left the cache and that nobody holds any more;
	// required, and called exactly once for each value. For values that hold
	// no secret, pass a function that does nothing.
	Wipe func(V)

	// Hooks count what happens.
	Hooks Hooks
}

// Verdict is what a failed load means for the entry it should have refreshed.
type Verdict uint8

const (
	// Fail returns the error to those who waited. The entry, if there is one,
	// is kept; the failure is not remembered, so the next caller loads again.
	// It is the verdict for what says nothing about the key, such as a bug.
	Fail Verdict = iota
	// ServeStale lets an entry within Fresh+Stale serve in place of the error,
	// and remembers the failure for NegativeFor: until then nothing is loaded for
	// this key. It is the verdict for a backend that is down or throttles.
	ServeStale
	// Evict removes the entry, wipes it as soon as nobody holds it, and
	// remembers the failure for NegativeFor. It is the verdict for a key that
	// was revoked.
	Evict
	// ServeStaleOnce is ServeStale for a failure that is not remembered: the next
	// caller loads again. It is the verdict for a load that asked nobody, and so
	// neither learned anything nor cost the backend anything.
	ServeStaleOnce
)

// String returns the verdict in words, such as "serve stale".
func (v Verdict) String() string {
	switch v {
	case Fail:
		return "fail"
	case ServeStale:
		return "serve stale"
	case Evict:
		return "evict"
	case ServeStaleOnce:
		return "serve stale once"
	default:
		return "unknown"
	}
}

// ConfigError lists everything that is wrong with a Config.
type ConfigError struct {
	// Problems has one entry for each field that New refuses.
	Problems []string
}

// Error implements error.
func (e *ConfigError) Error() string {
	return "cache: check config: " + strings.Join(e.Problems, "; ")
}

func (c *Config[V]) check() error {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if c.MaxEntries < 1 || c.MaxEntries > MaxEntriesLimit {
		problem("MaxEntries is %d, must be 1 to %d", c.MaxEntries, MaxEntriesLimit)
	}
	durations := []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"Fresh", c.Fresh, 1},
		{"Stale", c.Stale, 0},
		{"NegativeFor", c.NegativeFor, 0},
		{"LoadTimeout", c.LoadTimeout, 1},
	}
	for _, d := range durations {
		switch {
		case d.value < d.least && d.least > 0:
			problem("%s is %v, must be more than 0", d.name, d.value)
		case d.value < d.least:
			problem("%s is %v, must not be negative", d.name, d.value)
		case d.value > MaxLifetime:
			problem("%s is %v, must be at most %v", d.name, d.value, MaxLifetime)
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
	if problems != nil {
		return &ConfigError{Problems: problems}
	}
	return nil
}
