package resilience

import (
	"time"

	"github.com/waxseal/waxseal/kms"
)

// verdict is what an attempt shows the breaker about the KMS. The largest one of the items
// of an attempt is the attempt's: one answer proves that it answers.
type verdict uint8

const (
	// tellsNothing: the attempt ended before the KMS had to answer.
	tellsNothing verdict = iota
	// isDown: the KMS did not answer.
	isDown
	// isUp: the KMS answered, whatever it said.
	isUp
)

// rule says what a class of error means here.
type rule struct {
	// retry makes another attempt, if time, attempts, budget and breaker allow.
	retry bool
	// backoff is the longest wait before the second attempt; it doubles with each.
	backoff time.Duration
	// breaker is what the breaker hears.
	breaker verdict
}

// answers reports whether an item that failed so has its answer, and is not retried.
func (r rule) answers() bool { return !r.retry && r.breaker != tellsNothing }

// rules is the table of what each class means. Two errors of this package never reach it,
// because no request was sent: a full queue is Throttled (our own quota is used up), and an
// open breaker is Unavailable. They are not retried and do not change the breaker.
//
// A timeout of ours and the panic of a backend come as Unavailable and Internal.
// So that no class is forgotten, a test compares the table with kms.Classes.
var rules = [...]rule{
	// It may be back at once: a connection that broke, a node that went.
	kms.Unavailable: {retry: true, backoff: firstBackoff, breaker: isDown},
	// It is up, and counts us: retry somewhat later. An open breaker would turn a quota
	// that is short by a tenth into an outage.
	kms.Throttled: {retry: true, backoff: firstThrottledBackoff, breaker: isUp},
	// It answered, and will answer the same.
	kms.Denied:   {breaker: isUp},
	kms.NotFound: {breaker: isUp},
	kms.Disabled: {breaker: isUp},
	kms.Corrupt:  {breaker: isUp},
	kms.Internal: {breaker: isUp},
	// Retrying does not correct a setting.
	kms.Invalid: {breaker: isUp},
	// The caller gave up, which says nothing about the KMS.
	kms.Canceled: {breaker: tellsNothing},
}

// ruleFor returns what err, which is not nil, means.
func ruleFor(err error) rule {
	if c := kms.ClassOf(err); int(c) < len(rules) {
		return rules[c]
	}
	return rules[kms.Internal]
}
