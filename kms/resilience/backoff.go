package resilience

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// firstBackoff bounds the wait before a second attempt after Unavailable: long
	// enough for a broken connection to be made anew, short beside a timeout.
	firstBackoff = 100 * time.Millisecond
	// firstThrottledBackoff is that after Throttled: quotas are counted by the second.
	firstThrottledBackoff = 500 * time.Millisecond
	// maxBackoff is where doubling ends.
	maxBackoff = 2 * time.Second
	// maxRetryAfter is the longest wait that a KMS may demand of a caller without a
	// deadline. A caller that would wait longer gets the error at once.
	maxRetryAfter = 10 * time.Second
)

// backoff returns how long to wait after attempt (1 for the first) failed: anything from
// nothing to the bound ("full jitter"), so that callers that failed together do not come
// back together. after is the wait that the KMS demands, if any; the jitter comes on top.
func backoff(first time.Duration, attempt int, after time.Duration) time.Duration {
	bound := min(first<<min(attempt-1, 16), maxBackoff)
	return max(after, 0) + rand.N(bound+1) //nolint:gosec // spreads load, protects nothing
}

// inTime reports whether a wait is over before ctx's deadline; without a deadline, whether
// the KMS demands no more than maxRetryAfter.
func inTime(ctx context.Context, wait, after time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok {
		return wait < time.Until(deadline)
	}
	return after <= maxRetryAfter
}

// retryAfter returns the wait that the KMS demands in err.
func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*kms.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
