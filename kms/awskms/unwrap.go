package awskms

import (
	"context"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// Unwrap implements kms.Key: one Decrypt for each wrapped data key, up to 50 at a time.
// Every request names the key, so that AWS refuses what another one wrapped. After an error
// about the key and not about one blob, such as Denied or Throttled, the rest of the batch
// is not sent.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if err := k.ready(ctx, opUnwrap, nil, ec); err != nil {
		return nil, err
	}
	results := make([]kms.Unwrapped, len(wrapped))
	errs, all := k.each(ctx, opUnwrap, wrapped, func(i int) *kms.Error {
		var err *kms.Error
		results[i].DataKey, err = k.unwrapOne(ctx, wrapped[i].Blob, ec)
		return err
	})
	if all != nil {
		for _, r := range results {
			clear(r.DataKey)
		}
		return nil, all
	}
	for i, err := range errs {
		results[i].Err = err
	}
	return results, nil
}

// unwrapOne decrypts one wrapped data key.
func (k *Key) unwrapOne(ctx context.Context, blob []byte, ec kms.Context) ([]byte, *kms.Error) {
	answer, err := ask(ctx, k, opUnwrap, "kms:Decrypt", k.api.Decrypt, &awskms.DecryptInput{
		KeyId: aws.String(k.arn), CiphertextBlob: blob,
		EncryptionContext: maps.Clone(ec), EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	if err != nil {
		return nil, err
	}
	switch {
	case aws.ToString(answer.KeyId) != k.arn:
		clear(answer.Plaintext)
		return nil, k.fail(opUnwrap, otherKey(), errAnswer)
	case len(answer.Plaintext) != kms.DataKeySize:
		clear(answer.Plaintext)
		return nil, k.fail(opUnwrap, driver.NotADataKey(), errAnswer)
	}
	return answer.Plaintext, nil
}
