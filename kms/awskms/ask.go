package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/waxseal/waxseal/kms"
)

// maxContext is the most bytes of names and values of an encryption context that
// are sent. AWS KMS draws its own line below, at about 8 KiB.
const maxContext = 32 << 10

// maxRetryAfter is the longest that we believe an answer to ask for. A clock that
// is wrong, or a stranger on the way, must not keep us away for days.
const maxRetryAfter = time.Hour

// sender is how the SDK's client sends one kind of request.
type sender[In, Out any] func(context.Context, *In, ...func(*awskms.Options)) (*Out, error)

// ask sends one request, bounded in time, for the operation op, and says what its
// failure means. action is what IAM calls the permission.
func ask[In, Out any](ctx context.Context, k *Key, op, action string, send sender[In, Out], in *In) (*Out, *kms.Error) {
	askCtx, cancel := kms.WithLimit(ctx, k.timeout)
	defer cancel()
	answer, err := send(askCtx, in)
	if err == nil {
		return answer, nil
	}
	if errors.Is(askCtx.Err(), context.DeadlineExceeded) {
		// The other connections may lead to where no answer comes from either, and
		// those that were on their way to being made have nobody who waits for them.
		k.transport.CloseIdleConnections()
	}
	failed := k.failed(ctx, askCtx, op, action, err)
	if failed.Class == kms.Disabled && k.inStore && k.disconnected(ctx) {
		r := noKeyStore()
		failed.Class, failed.Detail, failed.Advice = r.class, r.detail, r.advice
	}
	return nil, failed
}

// disconnected tells a key whose custom key store is not connected, which is an
// outage, from one that was switched off: AWS KMS has one error code for both.
// Where it may not be asked, a key counts as switched off.
func (k *Key) disconnected(ctx context.Context) bool {
	askCtx, cancel := kms.WithLimit(ctx, k.timeout)
	defer cancel()
	answer, err := k.api.DescribeKey(askCtx, &awskms.DescribeKeyInput{KeyId: aws.String(k.arn)})
	return err == nil && answer.KeyMetadata != nil && answer.KeyMetadata.KeyState == types.KeyStateUnavailable
}

// ready returns the error of a call that need not begin: its caller gave up, or
// the context is larger than AWS takes.
func (k *Key) ready(ctx context.Context, op string, ec kms.Context) error {
	if err := ctx.Err(); err != nil {
		return k.canceled(op, err)
	}
	if err := ec.Check(op, k.id); err != nil {
		return err
	}
	size := 0
	for name, value := range ec {
		size += len(name) + len(value)
	}
	if size > maxContext {
		return k.fail(op, refusal{
			detail: fmt.Sprintf("an encryption context of %d bytes, above the bound of %d", size, maxContext),
			advice: "have fewer or shorter claims",
		}, nil)
	}
	return nil
}

// retryAfter reads how long an answer asks to be left alone (RFC 9110, 10.2.3): a
// number of seconds or a date, which is compared with the answer's own where it
// has one, so that our clock does not matter.
func retryAfter(answer http.Header, now time.Time) time.Duration {
	value := answer.Get("Retry-After")
	if value == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		if sent, err := http.ParseTime(answer.Get("Date")); err == nil {
			now = sent
		}
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
