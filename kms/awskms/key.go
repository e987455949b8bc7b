package awskms

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// maxParallel is how many requests one call has in flight at most: AWS KMS takes
// one data key at a time. At 25 ms a request, 250 data keys take some 0.15 s.
const maxParallel = 50

// Key is a symmetric key of AWS KMS: a kms.Key that is safe for concurrent use.
// It prints as its ID.
type Key struct {
	id        string // as recorded
	arn       string // as used: with the Region that we call
	asked     string // what the URI said, for DescribeKey
	name      name
	inStore   bool // in a custom key store, which can be disconnected
	api       *awskms.Client
	transport *transport
	timeout   time.Duration
	rotation  rotationTimes

	credentials aws.CredentialsProvider
	caller      *sts.Client
}

var (
	_ kms.Key       = (*Key)(nil)
	_ kms.Closer    = (*Key)(nil)
	_ kms.Rewrapper = (*Key)(nil)
	_ kms.Rotator   = (*Key)(nil)
	_ kms.Retirer   = (*Key)(nil)
	_ kms.Prober    = (*Key)(nil)
	_ kms.Locator   = (*Key)(nil)
)

// ID implements kms.Key: "awskms:///" and the key ARN, never an alias. The ARN of
// a multi-Region key is recorded without its Region, because its replicas are the
// same key: "awskms:///arn:aws:kms::111122223333:key/mrk-…".
func (k *Key) ID() string { return k.id }

// Location implements kms.Locator: it is the endpoint that replaces AWS's own, if
// any. An ARN is unique, but emulators give theirs to keys of their own. The Region
// does not count: that of a replica does not make it another key.
func (k *Key) Location() string { return k.endpoint() }

// ARN returns the key ARN that requests name.
func (k *Key) ARN() string { return k.arn }

// String returns the ID.
func (k *Key) String() string { return k.id }

// GoString returns the ID.
func (k *Key) GoString() string { return k.id }

// Close closes idle connections to AWS KMS.
func (k *Key) Close() error {
	k.transport.CloseIdleConnections()
	return nil
}

// resolved takes over k.name, which is a key ARN's.
func (k *Key) resolved() { k.id, k.arn = k.name.keyID(), k.name.arn(k.name.region) }

// describe reads what AWS knows about the key, as New documents.
func (k *Key) describe(ctx context.Context) error {
	m, failed := k.metadata(ctx, driver.OpOpen)
	if failed != nil {
		if k.arn != "" && withoutDescribing(failed) {
			return nil
		}
		return failed
	}
	n, ok := parseName(aws.ToString(m.Arn))
	switch {
	case !ok || !n.isKeyARN() || n.region != k.name.region:
		return k.fail(driver.OpOpen, notUnderstood(), errAnswer)
	case m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.KeySpec != types.KeySpecSymmetricDefault:
		return k.fail(driver.OpOpen, wrongKind(), nil)
	case m.KeyManager == types.KeyManagerTypeAws:
		return k.fail(driver.OpOpen, driver.Refuse(kms.Invalid, "it is an AWS managed key, which only the AWS service that owns it may use",
			"create a key of your own (aws kms create-key) and name that one"), nil)
	}
	k.name = n
	k.inStore = aws.ToString(m.CustomKeyStoreId) != ""
	k.resolved()
	return kms.CheckID(k.id)
}

// metadata returns AWS's description of the key.
func (k *Key) metadata(ctx context.Context, op string) (*types.KeyMetadata, *kms.Error) {
	answer, err := ask(ctx, k, op, "kms:DescribeKey", k.api.DescribeKey, &awskms.DescribeKeyInput{KeyId: aws.String(k.shown())})
	switch {
	case err != nil:
		return nil, err
	case answer.KeyMetadata == nil || k.arn != "" && aws.ToString(answer.KeyMetadata.Arn) != k.arn:
		return nil, k.fail(op, notUnderstood(), errAnswer)
	}
	return answer.KeyMetadata, nil
}
