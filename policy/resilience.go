package policy

import "time"

// Resilience says how the KMS behind a key is called. Package kms/resilience calls it so, and explains each number.
type Resilience struct {
	// Timeout bounds one attempt, 50ms to 10s; by default 2s.
	Timeout time.Duration
	// Attempts is how often a call is tried in all, 1 to 10; by default 3.
	Attempts int
	// RetryBudget is how many retries there may be for each call: 0.1 is one in ten. More than 0, at most 1; by default 0.1.
	RetryBudget float64
	// Concurrency is how many calls there may be at one time, 1 to 1000; by default 32.
	Concurrency int
	// Queue is how many more may wait for their turn, 1 to 10,000; by default 64.
	Queue   int
	Breaker Breaker
}

// Breaker says when calls to a KMS that does not answer stop.
type Breaker struct {
	// Failures is the number of failed attempts in a row that opens the breaker, 1 to 1000; by default 5.
	Failures int
	// OpenFor is how long it stays open, 100ms to 5m; by default 5s.
	OpenFor time.Duration
}
