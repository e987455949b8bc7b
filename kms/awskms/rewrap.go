package awskms

import (
	"context"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// RewrapsFrom implements kms.Rewrapper: source is this key, another replica of it,
// or a key of AWS KMS in the same partition and Region, of whatever account, that
// is reached at the same endpoint. ReEncrypt works within one Region.
func (k *Key) RewrapsFrom(source kms.Key) bool {
	_, ok := k.source(source)
	return ok
}

// source returns the ARN by which our requests name source.
func (k *Key) source(source kms.Key) (arn string, ok bool) {
	s, ok := kms.As[*Key](source)
	switch {
	case !ok || s == nil || s.name.partition != k.name.partition || s.endpoint() != k.endpoint():
		return "", false
	case s.id == k.id:
		return k.arn, true // of a multi-Region key, the replica that is here
	case s.name.region != k.name.region:
		return "", false
	}
	return s.arn, true
}

// endpoint returns the address that was set for AWS KMS; empty for AWS's own.
func (k *Key) endpoint() string {
	return strings.TrimSuffix(aws.ToString(k.api.Options().BaseEndpoint), "/")
}

// Rewrap implements kms.Rewrapper: one ReEncrypt for each wrapped data key, up to
// 50 at a time, which names both keys and has the same context on either side. It
// needs kms:ReEncryptFrom on source and kms:ReEncryptTo on this key, both for the
// identity of this key. Errors are as with Unwrap; of those about a key AWS does
// not say which of the two it means. Wrapped.Version is empty.
func (k *Key) Rewrap(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
	from, ok := k.source(source)
	if !ok {
		return nil, k.fail(driver.OpRewrap, refusal{
			Detail: "AWS KMS cannot move data keys here from the other key: they are not in one Region, or not reached at one endpoint",
			Advice: "unwrap with the other key and wrap with this one", Unsupported: true,
		}, nil)
	}
	if err := k.ready(ctx, driver.OpRewrap, nil, ec); err != nil {
		return nil, err
	}
	results := make([]kms.Rewrapped, len(wrapped))
	errs, all := k.each(ctx, driver.OpRewrap, wrapped, func(i int) *kms.Error {
		var err *kms.Error
		results[i].Wrapped.Blob, err = k.rewrapOne(ctx, from, wrapped[i].Blob, ec)
		return err
	})
	if all != nil {
		return nil, all
	}
	for i, err := range errs {
		results[i].Err = err
	}
	return results, nil
}

// rewrapOne has AWS encrypt anew what the key from encrypted.
func (k *Key) rewrapOne(ctx context.Context, from string, blob []byte, ec kms.Context) ([]byte, *kms.Error) {
	action := "kms:ReEncryptFrom and kms:ReEncryptTo"
	if from != k.arn {
		action = "kms:ReEncryptFrom on " + from + " and kms:ReEncryptTo"
	}
	answer, err := ask(ctx, k, driver.OpRewrap, action, k.api.ReEncrypt, &awskms.ReEncryptInput{
		CiphertextBlob: blob,
		SourceKeyId:    aws.String(from), SourceEncryptionContext: maps.Clone(ec),
		SourceEncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
		DestinationKeyId:          aws.String(k.arn), DestinationEncryptionContext: maps.Clone(ec),
		DestinationEncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	switch {
	case err != nil:
		if from != k.arn && (err.Class == kms.Denied || err.Class == kms.NotFound || err.Class == kms.Disabled) {
			err.Detail += "; AWS does not say whether it means this key or the one that wrapped, " + from
		}
		return nil, err
	case aws.ToString(answer.KeyId) != k.arn || aws.ToString(answer.SourceKeyId) != from:
		return nil, k.fail(driver.OpRewrap, otherKey(), errAnswer)
	case len(answer.CiphertextBlob) == 0 || len(answer.CiphertextBlob) > kms.MaxWrappedSize:
		return nil, k.fail(driver.OpRewrap, notUnderstood(), errAnswer)
	}
	return answer.CiphertextBlob, nil
}
