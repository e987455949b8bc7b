package awskms

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// maxContext is the most bytes of names and values of an encryption context that
// are sent. AWS KMS draws its own line below, at about 8 KiB.
const maxContext = 32 << 10

// sender is how the SDK's client sends one kind of request.
type sender[In, Out any] func(context.Context, *In, ...func(*awskms.Options)) (*Out, error)

// ask sends one request of the operation op, bounded in time, and classifies its failure.
// action is IAM's name of the permission.
func ask[In, Out any](ctx context.Context, k *Key, op, action string, send sender[In, Out], in *In) (*Out, *kms.Error) {
	askCtx, cancel := kms.WithLimit(ctx, k.timeout)
	defer cancel()
	answer, err := send(askCtx, in)
	if err == nil {
		return answer, nil
	}
	if errors.Is(askCtx.Err(), context.DeadlineExceeded) {
		// The other connections may lead to the same dead end, and those still being made
		// have no request that waits for them.
		k.transport.CloseIdleConnections()
	}
	failed := k.failed(ctx, askCtx, op, action, err)
	if failed.Class == kms.Disabled && k.inStore && k.disconnected(ctx) {
		r := noKeyStore()
		failed.Class, failed.Detail, failed.Advice = r.Class, r.Detail, r.Advice
	}
	return nil, failed
}

// disconnected distinguishes a key in a custom key store that is not connected, which is an
// outage, from one that was switched off: AWS KMS has one error code for both. Without the
// right to describe it, a key counts as switched off.
func (k *Key) disconnected(ctx context.Context) bool {
	askCtx, cancel := kms.WithLimit(ctx, k.timeout)
	defer cancel()
	answer, err := k.api.DescribeKey(askCtx, &awskms.DescribeKeyInput{KeyId: aws.String(k.arn)})
	return err == nil && answer.KeyMetadata != nil && answer.KeyMetadata.KeyState == types.KeyStateUnavailable
}

// ready is driver.Ready, and refuses a context that is larger than AWS takes.
func (k *Key) ready(ctx context.Context, op string, dataKeys [][]byte, ec kms.Context) error {
	if err := driver.Ready(ctx, op, k.id, dataKeys, ec); err != nil {
		return err
	}
	size := 0
	for name, value := range ec {
		size += len(name) + len(value)
	}
	if size > maxContext {
		return k.fail(op, driver.Refuse(kms.Internal, fmt.Sprintf("an encryption context of %d bytes, above the bound of %d", size, maxContext),
			"have fewer or shorter claims"), nil)
	}
	return nil
}
