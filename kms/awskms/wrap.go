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
	if err := k.ready(ctx, driver.OpWrap, dataKeys, ec); err != nil {
		return nil, err
	}
	return driver.WrapEach(ctx, maxParallel, driver.OpWrap, k.id, dataKeys, func(ctx context.Context, dataKey []byte) (kms.Wrapped, *kms.Error) {
		blob, err := k.wrapOne(ctx, dataKey, ec)
		return kms.Wrapped{Blob: blob}, err
	})
}

// wrapOne encrypts one data key. ctx ends also when another data key fails; the error of
// that one then counts.
func (k *Key) wrapOne(ctx context.Context, dataKey []byte, ec kms.Context) ([]byte, *kms.Error) {
	answer, err := ask(ctx, k, driver.OpWrap, "kms:Encrypt", k.api.Encrypt, &awskms.EncryptInput{
		KeyId: aws.String(k.arn), Plaintext: dataKey,
		EncryptionContext: maps.Clone(ec), EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	switch {
	case err != nil:
		return nil, err
	case aws.ToString(answer.KeyId) != k.arn:
		return nil, k.fail(driver.OpWrap, otherKey(), errAnswer)
	case len(answer.CiphertextBlob) == 0 || len(answer.CiphertextBlob) > kms.MaxWrappedSize:
		return nil, k.fail(driver.OpWrap, notUnderstood(), errAnswer)
	}
	return answer.CiphertextBlob, nil
}

// Unwrap implements kms.Key: one Decrypt for each wrapped data key, up to 50 at a time.
// Every request names the key, so that AWS refuses what another one wrapped. After an error
// about the key and not about one blob, such as Denied or Throttled, the rest of the batch
// is not sent.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if err := k.ready(ctx, driver.OpUnwrap, nil, ec); err != nil {
		return nil, err
	}
	results := make([]kms.Unwrapped, len(wrapped))
	errs, all := k.each(ctx, driver.OpUnwrap, wrapped, func(i int) *kms.Error {
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
	answer, err := ask(ctx, k, driver.OpUnwrap, "kms:Decrypt", k.api.Decrypt, &awskms.DecryptInput{
		KeyId: aws.String(k.arn), CiphertextBlob: blob,
		EncryptionContext: maps.Clone(ec), EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	if err != nil {
		return nil, err
	}
	switch {
	case aws.ToString(answer.KeyId) != k.arn:
		clear(answer.Plaintext)
		return nil, k.fail(driver.OpUnwrap, otherKey(), errAnswer)
	case len(answer.Plaintext) != kms.DataKeySize:
		clear(answer.Plaintext)
		return nil, k.fail(driver.OpUnwrap, driver.NotADataKey(), errAnswer)
	}
	return answer.Plaintext, nil
}

// each is driver.OpenEach. An error that is about the key and not about one blob
// (denied, disabled, not found, throttled; unavailable after as many as run at once)
// keeps the requests that have not been sent from being sent.
func (k *Key) each(ctx context.Context, op string, wrapped []kms.Wrapped, open func(i int) *kms.Error) ([]error, error) {
	foreign := driver.Refuse(kms.Corrupt, "the wrapped data key is not one that AWS KMS wrote", driver.Damaged)
	return driver.OpenEach(ctx, maxParallel, op, k.id, wrapped, foreign, func(i int) (*kms.Error, driver.Scope) {
		err := open(i)
		return err, scopeOf(err)
	})
}

func scopeOf(err *kms.Error) driver.Scope {
	switch {
	case err == nil || err.Class == kms.Corrupt || err.Class == kms.Internal || err.Class == kms.Invalid:
		return driver.OneItem
	case err.Class == kms.Unavailable: // one request may have bad luck, a round of them has not
		return driver.Luck
	}
	return driver.AllItems
}
