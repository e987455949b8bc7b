package awskms

import (
	"context"
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
)

// Wrap implements kms.Key: one Encrypt for each data key, up to 50 at a time. The
// first that fails ends the others. AWS does not tell which key material
// encrypted, so Wrapped.Version is empty. Blobs are of 184 bytes.
func (k *Key) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	for _, d := range dataKeys {
		if len(d) != kms.DataKeySize {
			return nil, k.fail(opWrap, refusal{detail: fmt.Sprintf("a data key of %d bytes, want %d", len(d), kms.DataKeySize)}, nil)
		}
	}
	if err := k.ready(ctx, opWrap, ec); err != nil {
		return nil, err
	}
	wrapped := make([]kms.Wrapped, len(dataKeys))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for i, d := range dataKeys {
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return groupCtx.Err() // another one failed, and its error counts
			}
			blob, err := k.wrapOne(groupCtx, d, ec)
			if err != nil {
				return err
			}
			wrapped[i].Blob = blob
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, k.canceled(opWrap, ctx.Err())
		}
		return nil, err
	}
	return wrapped, nil
}

// wrapOne encrypts one data key. ctx ends also when another data key fails, whose
// error then counts.
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
