package awskms

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// errAnswer is the cause of errors about answers that cannot be right.
var errAnswer = errors.New("awskms: an answer that AWS KMS would not give")

// refusal is what an answer of AWS's means.
type refusal = driver.Refusal

// fail makes the error of one operation.
func (k *Key) fail(op string, r refusal, cause error) *kms.Error { return r.Error(op, k.id, cause) }

func (k *Key) canceled(op string, cause error) *kms.Error { return driver.Canceled(op, k.id, cause) }

// failed classifies an error of the SDK's. ctx is the caller's own, askCtx the one of the
// request, action the permission that it needs. The order: the caller gave up; our own
// timeout; nothing to sign with; an answer of AWS's; no answer.
func (k *Key) failed(ctx, askCtx context.Context, op, action string, err error) *kms.Error {
	e := k.explained(ctx, askCtx, op, action, err)
	var response *awshttp.ResponseError
	if e.Class.Transient() && errors.As(err, &response) && response.Response != nil {
		header := response.Response.Header
		e.RetryAfter = driver.RetryAfter(header.Get("Retry-After"), header.Get("Date"), time.Now())
	}
	return e
}

func (k *Key) explained(ctx, askCtx context.Context, op, action string, err error) *kms.Error {
	var noCredentials *credentialsError
	var untrusted *tls.CertificateVerificationError
	var answered smithy.APIError
	var response *awshttp.ResponseError
	var notSent *smithyhttp.RequestSendError
	switch {
	case ctx.Err() != nil:
		return k.canceled(op, ctx.Err())
	case kms.Late(askCtx) != nil:
		return k.fail(op, driver.Refuse(kms.Unavailable, "AWS KMS gave "+kms.Late(askCtx).Error(),
			"check that the network lets us through to AWS KMS in "+k.name.region), err)
	case errors.Is(err, errExposed):
		return k.fail(op, driver.Refuse(kms.Invalid, exposedDetail, exposedAdvice), err)
	case errors.Is(err, driver.ErrTooLarge):
		return k.fail(op, notKMS(), err)
	case errors.As(err, &noCredentials):
		return k.fail(op, ofCredentials(noCredentials.cause), err)
	case errors.As(err, &answered):
		status := 0
		if errors.As(err, &response) {
			status = response.HTTPStatusCode()
			if r, ok := wrongClock(answered.ErrorCode(), response.Response.Header, time.Now()); ok {
				return k.fail(op, r, err)
			}
		}
		return k.fail(op, k.reason(op, action, answered.ErrorCode(), status), err)
	case errors.As(err, &untrusted):
		return k.fail(op, driver.Refuse(kms.Unavailable, "the certificate of the endpoint is not trusted",
			"set AWS_CA_BUNDLE to the file with the certificate of the authority that signed it"), err)
	case errors.Is(err, http.ErrSchemeMismatch):
		return k.fail(op, driver.Refuse(kms.Unavailable, "the endpoint does not speak TLS", "write http:// in the endpoint if it is on the same machine"), err)
	case errors.As(err, &response) && !errors.As(err, &notSent):
		return k.fail(op, notKMS(), err) // an answer, and not one of AWS's
	}
	return k.fail(op, driver.Refuse(kms.Unavailable, "cannot reach AWS KMS in "+k.name.region,
		"check that the Region is spelled right, the endpoint if one is set, and that the network lets us through"), err)
}

// withoutDescribing reports whether a failed DescribeKey leaves the key usable.
func withoutDescribing(failed *kms.Error) bool {
	var answered smithy.APIError
	if failed.Class == kms.Denied {
		return errors.As(failed, &answered) && answered.ErrorCode() == codeAccessDenied
	}
	var none *credentialsError
	if errors.As(failed, &none) && ofCredentials(none.cause).Detail == noCredentials(failed.Class).Detail {
		return false // most likely they were forgotten
	}
	return failed.Class.Transient()
}
