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

// Wrap implements kms.Key: one Encrypt for each data key, up to 50 at a time. The first
// that fails ends the others. AWS does not say which key material encrypted, so
// Wrapped.Version is empty. Blobs are of 184 bytes.
func (k *Key) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if err := k.ready(ctx, opWrap, dataKeys, ec); err != nil {
		return nil, err
	}
	return driver.WrapEach(ctx, maxParallel, opWrap, k.id, dataKeys, func(ctx context.Context, dataKey []byte) (kms.Wrapped, *kms.Error) {
		blob, err := k.wrapOne(ctx, dataKey, ec)
		return kms.Wrapped{Blob: blob}, err
	})
}

// wrapOne encrypts one data key. ctx ends also when another data key fails; the error of
// that one then counts.
func (k *Key) wrapOne(ctx context.Context, dataKey []byte, ec kms.Context) ([]byte, *kms.Error) {
	answer, err := ask(ctx, k, opWrap, "kms:Encrypt", k.api.Encrypt, &awskms.EncryptInput{
		KeyId: aws.String(k.arn), Plaintext: dataKey,
		EncryptionContext: maps.Clone(ec), EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	switch {
	case err != nil:
		return nil, err
	case aws.ToString(answer.KeyId) != k.arn:
		return nil, k.fail(opWrap, otherKey(), errAnswer)
	case len(answer.CiphertextBlob) == 0 || len(answer.CiphertextBlob) > kms.MaxWrappedSize:
		return nil, k.fail(opWrap, notUnderstood(), errAnswer)
	}
	return answer.CiphertextBlob, nil
}
