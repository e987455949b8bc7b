package resilience

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Defaults of Config.
const (
	defaultTimeout         = 2 * time.Second
	defaultAttempts        = 3
	defaultRetryBudget     = 0.10
	defaultConcurrency     = 32
	defaultQueue           = 64
	defaultBreakerFailures = 5
	defaultBreakerOpenFor  = 5 * time.Second
	defaultMaxBatch        = 160 // what Vault's backend sends in one request
)

// Bounds of Config.
const (
	minTimeout        = 10 * time.Millisecond
	maxTimeout        = time.Minute
	maxAttempts       = 10
	maxConcurrency    = 10_000
	maxQueue          = 100_000
	maxBreakerOpenFor = time.Hour
	maxMaxBatch       = 10_000
)

// Config bounds the load on a KMS. The zero value takes all defaults.
type Config struct {
	// Timeout bounds one attempt: 2 s if zero; from 10 ms to a minute. Waiting in the
	// queue and between attempts does not count.
	Timeout time.Duration
	// Attempts is how often the KMS is called at most: 3 if zero; 1 never retries. Up
	// to 10.
	Attempts int
	// RetryBudget is how many retries there may be for each call, all callers of the
	// key together: 0.10 if zero. Up to 1. A burst has ten more, which come back one a
	// second.
	RetryBudget float64
	// Concurrency is how many attempts may be under way at one time: 32 if zero, up to
	// 10,000. Queue is how many may wait for their turn: 64 if zero, up to 100,000. A
	// call that comes when the queue is full is refused at once.
	Concurrency, Queue int
	// BreakerFailures is how many attempts in a row must find the KMS not answering for
	// it to be left alone: 5 if zero. BreakerOpenFor is for how long: 5 s if zero, up to
	// an hour. Then one attempt is let through, which decides.
	BreakerFailures int
	BreakerOpenFor  time.Duration
	// MaxBatch is how many data keys one request carries: 160 if zero, up to 10,000. A
	// call with more is split: each part has attempts, timeouts and a place in the queue
	// of its own, and parts are under way side by side.
	MaxBatch int
	// Hooks observe, for metrics.
	Hooks Hooks
}

// Hooks observe one key, for metrics; any may be nil. They are called in the goroutine of a
// caller, at times in several at once, and must neither block nor call the key. Errors hold
// no secret; kms.ClassOf returns their class. op is "wrap", "unwrap" or "rewrap".
type Hooks struct {
	// Attempt is called after each attempt: what failed in it, nil if nothing did,
	// and how long the KMS took.
	Attempt func(op string, err error, took time.Duration)
	// Retry is called before each wait for another attempt.
	Retry func(op string, wait time.Duration)
	// Rejected is called when an attempt is not made.
	Rejected func(op string, why Reason)
	// Breaker is called with each new state, in order. The first state is Closed.
	Breaker func(State)
}

// Reason says why an attempt was not made.
type Reason uint8

const (
	// QueueFull means that as many calls as may be are under way and waiting.
	QueueFull Reason = iota
	// BreakerOpen means that the KMS has not been answering and is left alone.
	BreakerOpen
	// BudgetSpent means that it would have been a retry, and there were too many already.
	BudgetSpent
)

var reasonNames = [...]string{QueueFull: "queue full", BreakerOpen: "breaker open", BudgetSpent: "budget spent"}

// String returns the reason in words, such as "queue full".
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// WithDefaults returns c with its zero fields filled in.
func (c Config) WithDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.Attempts = cmp.Or(c.Attempts, defaultAttempts)
	c.RetryBudget = cmp.Or(c.RetryBudget, defaultRetryBudget)
	c.Concurrency = cmp.Or(c.Concurrency, defaultConcurrency)
	c.Queue = cmp.Or(c.Queue, defaultQueue)
	c.BreakerFailures = cmp.Or(c.BreakerFailures, defaultBreakerFailures)
	c.BreakerOpenFor = cmp.Or(c.BreakerOpenFor, defaultBreakerOpenFor)
	c.MaxBatch = cmp.Or(c.MaxBatch, defaultMaxBatch)
	return c
}

// Validate returns an error that lists everything wrong with c, zero fields taken
// as their defaults; nil if nothing is. New calls it.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var problems []error
	within := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	number := func(name string, v, most int) {
		within(v >= 1 && v <= most, "%s is %d, want 1 to %d", name, v, most)
	}
	within(c.Timeout >= minTimeout && c.Timeout <= maxTimeout, "Timeout is %s, want %s to %s", c.Timeout, minTimeout, maxTimeout)
	number("Attempts", c.Attempts, maxAttempts)
	within(c.RetryBudget > 0 && c.RetryBudget <= 1, "RetryBudget is %g, want more than 0 and up to 1", c.RetryBudget)
	number("Concurrency", c.Concurrency, maxConcurrency)
	number("Queue", c.Queue, maxQueue)
	number("BreakerFailures", c.BreakerFailures, maxConcurrency)
	within(c.BreakerOpenFor > 0 && c.BreakerOpenFor <= maxBreakerOpenFor, "BreakerOpenFor is %s, want up to %s", c.BreakerOpenFor, maxBreakerOpenFor)
	number("MaxBatch", c.MaxBatch, maxMaxBatch)
	return errors.Join(problems...)
}
