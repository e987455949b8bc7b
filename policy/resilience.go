package policy

import "time"

// Resilience says how the KMS behind a key is called. Package kms/resilience
// does it; what each number is for is told there and in docs/policy.md.
type Resilience struct {
	// Timeout bounds one attempt, 50ms to 10s; by default 2s.
	Timeout time.Duration
	// Attempts is how often a call is tried in all, 1 to 10; by default 3.
	Attempts int
	// RetryBudget is how many retries there may be for each call, as a share of
	// the calls: 0.1 is one in ten. More than 0, at most 1; by default 0.1.
	RetryBudget float64
	// Concurrency is how many calls there may be at one time, 1 to 1000; by default 32.
	Concurrency int
	// Queue is how many more may wait for their turn, 1 to 10,000; by default 64.
	Queue int
	// Breaker says when a KMS that does not answer is left alone.
	Breaker Breaker
}

// Breaker says when a KMS that does not answer is left alone.
type Breaker struct {
	// Failures is after how many failed attempts in a row, 1 to 1000; by default 5.
	Failures int
	// OpenFor is for how long, 100ms to 5m; by default 5s.
	OpenFor time.Duration
}
