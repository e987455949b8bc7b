package policy

import (
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Resilience says how the KMS behind a key is called. Package kms/resilience
// does it; what each number is for is told there and in docs/policy.md.
type Resilience struct {
	// Timeout bounds one attempt, MinTimeout to MaxTimeout.
	Timeout time.Duration
	// Attempts is how often a call is tried in all, 1 to MaxAttempts.
	Attempts int
	// RetryBudget is how many retries there may be for each call, as a share of
	// the calls: 0.1 is one in ten. More than 0, at most 1.
	RetryBudget float64
	// Concurrency is how many calls there may be at one time, 1 to MaxConcurrency.
	Concurrency int
	// Queue is how many more may wait for their turn, 1 to MaxQueue.
	Queue int
	// Breaker says when a KMS that does not answer is left alone.
	Breaker Breaker
}

// Breaker says when a KMS that does not answer is left alone.
type Breaker struct {
	// Failures is after how many failed attempts in a row, 1 to MaxBreakerFailures.
	Failures int
	// OpenFor is for how long, MinBreakerOpenFor to MaxBreakerOpenFor.
	OpenFor time.Duration
}

// DefaultResilience returns what holds where the file does not say.
func DefaultResilience() Resilience {
	return Resilience{
		Timeout: DefaultTimeout, Attempts: DefaultAttempts, RetryBudget: DefaultRetryBudget,
		Concurrency: DefaultConcurrency, Queue: DefaultQueue,
		Breaker: Breaker{Failures: DefaultBreakerFailures, OpenFor: DefaultBreakerOpenFor},
	}
}

// resilience reads a resilience section over what holds without it.
func (r *reader) resilience(e entry, what string, out *Resilience) {
	f, ok := r.fields(e.value, what, resilienceFields)
	if !ok {
		return
	}
	if e := f["timeout"]; e.value != nil {
		out.Timeout = r.duration(e, "timeout", MinTimeout, MaxTimeout)
	}
	if e := f["attempts"]; e.value != nil {
		out.Attempts = int(r.number(e, "attempts", 1, MaxAttempts))
	}
	if e := f["retryBudget"]; e.value != nil {
		out.RetryBudget = float64(r.percent(e, "retryBudget", 1, 100)) / 100
	}
	if e := f["concurrency"]; e.value != nil {
		out.Concurrency = int(r.number(e, "concurrency", 1, MaxConcurrency))
	}
	if e := f["queue"]; e.value != nil {
		out.Queue = int(r.number(e, "queue", 1, MaxQueue))
	}
	if e := f["breaker"]; e.value != nil {
		r.breaker(e, "breaker of "+what, &out.Breaker)
	}
}

func (r *reader) breaker(e entry, what string, out *Breaker) {
	f, ok := r.fields(e.value, what, breakerFields)
	if !ok {
		return
	}
	if e := f["failures"]; e.value != nil {
		out.Failures = int(r.number(e, "failures", 1, MaxBreakerFailures))
	}
	if e := f["openFor"]; e.value != nil {
		out.OpenFor = r.duration(e, "openFor", MinBreakerOpenFor, MaxBreakerOpenFor)
	}
}

const percentAdvice = "write a whole number and a percent sign: 10%"

// percent reads a share such as 10%, between least and most. The sign is
// required: a bare 10 might mean ten of something, and 0.1 a tenth of a percent.
func (r *reader) percent(e entry, what string, least, most int64) int64 {
	at := nodePosition(e.value)
	s, ok := e.value.(*ast.StringNode)
	if !ok {
		r.fail(at, percentAdvice, "%s must be a percentage, not %s", what, describeNumber(e.value))
		return 0
	}
	digits, signed := strings.CutSuffix(s.Value, "%")
	n, whole := decimal(digits)
	if !signed || !whole {
		r.fail(at, percentAdvice, "%s is not a percentage: %s", what, quote(s.Value))
		return 0
	}
	if n < least || n > most {
		r.fail(at, "choose a percentage in that range", "%s must be %d%% to %d%%", what, least, most)
	}
	return n
}
