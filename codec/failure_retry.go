package codec

import (
	"errors"
	"time"

	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/activity"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waxseal/waxseal/kms"
)

// callError is an error of a Codec's call to a KMS. Its type distinguishes it from errors of
// programs that use package kms themselves.
type callError struct {
	op  string
	err error
	// unlimited says that the activity that met it is tried as often as need be.
	unlimited bool
}

func (e *callError) Error() string { return "codec: " + e.op + ": " + e.err.Error() }

func (e *callError) Unwrap() error { return e.err }

// tell has an error of the Codec know where it was met.
func (s site) tell(err error) error {
	if e, ok := errors.AsType[*callError](err); ok && s.ctx != nil && activity.IsActivity(s.ctx) {
		policy := activity.GetInfo(s.ctx).RetryPolicy
		e.unlimited = policy == nil || policy.MaximumAttempts == 0
	}
	return err
}

// retryAfter is after how long an activity is tried again that failed because a KMS
// was out: a policy that doubles its interval with each try has long come to its
// maximum, 100 s by default, when the KMS is back. What was asked for in vain is asked
// for again after 5 s at the earliest, by cache and breaker; so an activity goes on
// 9 s after its KMS does, at the latest.
const retryAfter = 4 * time.Second

// retrySoon sets retryAfter in what an activity failed with. The server takes it in
// place of the interval of the retry policy, its maximum included. Where the policy
// bounds the attempts, its own intervals stay: at this pace they would be used up
// long before the outage is over.
func retrySoon(failure *failurepb.Failure, err error) {
	info := failure.GetApplicationFailureInfo()
	if info == nil || info.GetNonRetryable() || info.GetNextRetryDelay() != nil {
		return
	}
	if e, ok := errors.AsType[*callError](err); ok && e.unlimited && kms.ClassOf(e).Transient() {
		info.NextRetryDelay = durationpb.New(retryAfter)
	}
}
