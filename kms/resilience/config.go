package resilience

import (
	"errors"
	"fmt"
	"time"
)

// Defaults of Config.
const (
	DefaultTimeout         = 2 * time.Second
	DefaultAttempts        = 3
	DefaultRetryBudget     = 0.10
	DefaultConcurrency     = 32
	DefaultQueue           = 64
	DefaultBreakerFailures = 5
	DefaultBreakerOpenFor  = 5 * time.Second
	DefaultMaxBatch        = 160 // what Vault's backend sends in one request
)

// Bounds of Config.
const (
	MinTimeout        = 10 * time.Millisecond
	MaxTimeout        = time.Minute
	MaxAttempts       = 10
	MaxConcurrency    = 10_000
	MaxQueue          = 100_000
	MaxBreakerOpenFor = time.Hour
	MaxMaxBatch       = 10_000
)

// Config says how much is asked of a KMS. The zero value takes all defaults.
type Config struct {
	// Timeout bounds one attempt, DefaultTimeout if zero; MinTimeout to MaxTimeout.
	// Waiting in the queue and between attempts does not count.
	Timeout time.Duration
	// Attempts is how often the KMS is asked at most, DefaultAttempts if zero; 1
	// never retries. Up to MaxAttempts.
	Attempts int
	// RetryBudget is how many retries there may be for each call, all callers of
	// the key together, DefaultRetryBudget if zero. Up to 1. A burst has ten more,
	// which come back one a second.
	RetryBudget float64
	// Concurrency is how many attempts may be under way at one time,
	// DefaultConcurrency if zero; Queue is how many may wait for their turn,
	// DefaultQueue if zero. Whoever comes when the queue is full is refused at once.
	Concurrency, Queue int
	// BreakerFailures is how many attempts in a row must find the KMS not answering
	// for it to be left alone, DefaultBreakerFailures if zero; BreakerOpenFor is for
	// how long, DefaultBreakerOpenFor if zero, up to MaxBreakerOpenFor. Then one
	// attempt is let through, which decides.
	BreakerFailures int
	BreakerOpenFor  time.Duration
	// MaxBatch is how many data keys are asked for at once, DefaultMaxBatch if zero;
	// up to MaxMaxBatch. A call with more is split: each part has attempts, timeouts and
	// a place in the queue of its own, and parts are under way side by side.
	MaxBatch int
	// Hooks observe, for metrics.
	Hooks Hooks
}

// Hooks observe one key, for metrics; any may be nil. They are called in the
// goroutine of a caller, at times in several at once, and must neither block nor
// call the key. Errors hold no secret; kms.ClassOf tells their class. op is "wrap",
// "unwrap" or "rewrap".
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

// withDefaults returns c with its zero fields filled in.
func (c Config) withDefaults() Config {
	c.Timeout = orDefault(c.Timeout, DefaultTimeout)
	c.Attempts = orDefault(c.Attempts, DefaultAttempts)
	c.RetryBudget = orDefault(c.RetryBudget, DefaultRetryBudget)
	c.Concurrency = orDefault(c.Concurrency, DefaultConcurrency)
	c.Queue = orDefault(c.Queue, DefaultQueue)
	c.BreakerFailures = orDefault(c.BreakerFailures, DefaultBreakerFailures)
	c.BreakerOpenFor = orDefault(c.BreakerOpenFor, DefaultBreakerOpenFor)
	c.MaxBatch = orDefault(c.MaxBatch, DefaultMaxBatch)
	return c
}

func orDefault[T int | float64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Validate returns an error that lists everything wrong with c, zero fields taken
// as their defaults; nil if nothing is. New calls it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var problems []error
	within := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	number := func(name string, v, most int) {
		within(v >= 1 && v <= most, "%s is %d, want 1 to %d", name, v, most)
	}
	within(c.Timeout >= MinTimeout && c.Timeout <= MaxTimeout, "Timeout is %s, want %s to %s", c.Timeout, MinTimeout, MaxTimeout)
	number("Attempts", c.Attempts, MaxAttempts)
	within(c.RetryBudget > 0 && c.RetryBudget <= 1, "RetryBudget is %g, want more than 0 and up to 1", c.RetryBudget)
	number("Concurrency", c.Concurrency, MaxConcurrency)
	number("Queue", c.Queue, MaxQueue)
	number("BreakerFailures", c.BreakerFailures, MaxConcurrency)
	within(c.BreakerOpenFor > 0 && c.BreakerOpenFor <= MaxBreakerOpenFor, "BreakerOpenFor is %s, want up to %s", c.BreakerOpenFor, MaxBreakerOpenFor)
	number("MaxBatch", c.MaxBatch, MaxMaxBatch)
	return errors.Join(problems...)
}
