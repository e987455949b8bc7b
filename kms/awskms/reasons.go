package awskms

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// codeAccessDenied is what the SDK calls the refusal of IAM and key policies.
const codeAccessDenied = "AccessDeniedException"

// reason says what an error code of AWS's means: those of the KMS API reference
// and the errors that are common to all of AWS's services.
func (k *Key) reason(op, action, code string, status int) refusal {
	r := k.meaning(op, action, code, status)
	switch r.Class {
	case kms.NotFound, kms.Disabled, kms.Corrupt:
		// Data keys are forgotten for these. AWS KMS says them with status 400 only:
		// any other is from something on the way that is not AWS KMS, with a code in its JSON too.
		if status != http.StatusBadRequest {
			return notKMS()
		}
	case kms.Denied:
		if status < http.StatusBadRequest || status >= http.StatusInternalServerError {
			return notKMS()
		}
	case kms.Internal, kms.Invalid, kms.Unavailable, kms.Throttled, kms.Canceled:
	}
	return r
}

func (k *Key) meaning(op, action, code string, status int) refusal {
	if op == driver.OpRotate {
		if r, ok := ofRotation(code); ok {
			return r
		}
	}
	switch code {
	case "ThrottlingException", "Throttling", "ThrottledException", "RequestThrottled", "RequestThrottledException",
		"TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException", "SlowDown":
		return throttled()
	case "KMSInternalException", "KMSInternal", "InternalFailure", "InternalError", "InternalServerError", "InternalServerException",
		"DependencyTimeoutException", "DependencyTimeout", "ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException":
		return driver.Refuse(kms.Unavailable, "AWS KMS failed to answer", "look at the AWS Health Dashboard for "+k.name.region)
	case "KeyUnavailableException", "KeyUnavailable":
		return driver.Refuse(kms.Unavailable, "AWS KMS has the key but cannot use it right now", "try again; for a key in a custom key store, check that store")
	case "CustomKeyStoreNotFoundException", "CustomKeyStoreInvalidStateException", "CloudHsmClusterNotActiveException", "CloudHsmClusterInvalidConfigurationException",
		"XksProxyUriUnreachableException", "XksProxyInvalidResponseException":
		return noKeyStore()
	case codeAccessDenied, "AccessDenied", "NotAuthorized", "OptInRequired":
		return driver.Refuse(kms.Denied, "neither IAM nor the key's policy lets this identity do it",
			"grant "+action+" on the key to this identity (aws sts get-caller-identity)"+mind(op))
	case "ExpiredTokenException", "ExpiredToken":
		return expiredCredentials()
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId":
		return driver.Refuse(kms.Denied, "AWS does not know the credentials: they were deleted, are of another partition, or lack their session token",
			"check with aws sts get-caller-identity; set AWS_SESSION_TOKEN with temporary credentials")
	case "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed", "IncompleteSignature", "IncompleteSignatureException",
		"MissingAuthenticationToken", "MissingAuthenticationTokenException":
		return driver.Refuse(kms.Denied, "AWS does not take the signature: the secret, the clock or the Region is wrong",
			"check AWS_SECRET_ACCESS_KEY, this machine's clock, and the Region")
	case "NotFoundException", "NotFound":
		return driver.Refuse(kms.NotFound, "AWS KMS has no such key or alias in "+k.name.region,
			"check account, Region and spelling; "+k.named())
	case "DisabledException", "Disabled":
		return k.switchedOff()
	case "KMSInvalidStateException", "KMSInvalidState":
		return k.notInState()
	case "InvalidCiphertextException", "InvalidCiphertext":
		return driver.Refuse(kms.Corrupt, "the wrapped data key was altered, or belongs to another context", driver.Damaged)
	case "IncorrectKeyException", "IncorrectKey":
		return driver.Refuse(kms.Corrupt, "the wrapped data key belongs to another key", driver.Damaged)
	case "InvalidKeyUsageException", "InvalidKeyUsage":
		return wrongKind()
	case "InvalidArnException", "InvalidArn":
		return driver.Refuse(kms.Invalid, "AWS KMS does not take the key's name", uriAdvice)
	case "UnsupportedOperationException", "UnsupportedOperation", "UnknownOperationException", "UnknownOperation":
		return refusal{
			Class: kms.Invalid, Detail: "AWS KMS does not do this with such a key, or what answers does not know the operation",
			Advice: "see with aws kms describe-key what kind of key it is; an emulator may have less than AWS KMS", Unsupported: true,
		}
	}
	switch {
	case status == http.StatusTooManyRequests:
		return throttled()
	case status >= http.StatusInternalServerError:
		return driver.Refuse(kms.Unavailable, "AWS KMS failed to answer", "look at the AWS Health Dashboard, and at what a proxy on the way says")
	case code == "" || code == "UnknownError": // the SDK's name for an answer without a code
		return notKMS()
	}
	return driver.Refuse(kms.Internal, "AWS KMS did not take the request, for a reason that we do not know", "look for the request in CloudTrail")
}

func throttled() refusal {
	return driver.Refuse(kms.Throttled, "the request quota of this account and Region is used up",
		"let more payloads share a data key (dataKey.maxPayloads), or ask AWS for a higher quota")
}

func (k *Key) switchedOff() refusal {
	return driver.Refuse(kms.Disabled, "the key is disabled", "enable it: aws kms enable-key --key-id "+k.shown())
}

func (k *Key) notInState() refusal {
	return driver.Refuse(kms.Disabled, "the key's state does not permit it: it is pending deletion or import, or its key store is not connected",
		"look at its state with aws kms describe-key; cancel-key-deletion and then enable-key bring a key back that is pending deletion")
}

func noKeyStore() refusal {
	return driver.Refuse(kms.Unavailable, "the custom key store of the key is not connected", "connect it: aws kms connect-custom-key-store")
}

func wrongKind() refusal {
	return driver.Refuse(kms.Invalid, "it is not a symmetric key for encryption: key usage or key spec do not fit",
		"create one with aws kms create-key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT) and name that one; a key's kind cannot be changed")
}

func otherKey() refusal {
	return driver.Refuse(kms.Internal, "the answer names another key than the one that was asked",
		"this must not happen with AWS KMS: check what the endpoint is, and what is on the way to it")
}

func notUnderstood() refusal {
	return driver.Refuse(kms.Internal, "what was answered is not what AWS KMS answers",
		"check what the endpoint is, and what is on the way to it")
}

// notKMS is about answers that are no word of AWS's, which must not pass for one:
// a proxy's page does not mean that a key is gone.
func notKMS() refusal {
	return driver.Refuse(kms.Unavailable, "the answer was cut short, or what answers is not AWS KMS",
		"check the endpoint if one is set, and what a proxy on the way says")
}

// clockTolerance is how far AWS lets the time of a signature be off.
const clockTolerance = 5 * time.Minute

// wrongClock says that AWS refused a signature, with an answer that came at now, for
// the time it was made at: AWS says the same of a wrong secret. The SDK signs the
// next request by AWS's clock, so this is no refusal of what we are.
func wrongClock(code string, answer http.Header, now time.Time) (refusal, bool) {
	switch code {
	case "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed":
	default:
		return refusal{}, false
	}
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil || date.Sub(now).Abs() < clockTolerance {
		return refusal{}, false
	}
	return driver.Refuse(kms.Unavailable, "this machine's clock differs from AWS's by "+date.Sub(now).Abs().Round(time.Minute).String(),
		"set this machine's clock, and have it kept right"), true
}

func expiredCredentials() refusal {
	return driver.Refuse(kms.Denied, "the credentials have expired",
		"get new ones, such as with aws sso login; give a long-running process a role instead of a copied token")
}

// ofCredentials classifies a lack of credentials. It is a refusal only if no service is
// configured, or if the service that gives credentials answers so, with an error code of
// its own and the status of a refusal. Everything else passes: a service that is down, a
// page of another server, a file that is missing for the moment.
func ofCredentials(cause error) refusal {
	var operation *smithy.OperationError
	var response interface{ HTTPStatusCode() int }
	var session *ssocreds.InvalidTokenError
	status, code := 0, ""
	if errors.As(cause, &response) {
		status = response.HTTPStatusCode()
	}
	if answered, ok := errors.AsType[smithy.APIError](cause); ok {
		code = answered.ErrorCode()
	}
	machine := errors.As(cause, &operation) && operation.Service() == "ec2imds"
	switch {
	case errors.Is(cause, errNoProvider), machine && (status == http.StatusNotFound || metadataDisabled()):
		return noCredentials(kms.Denied)
	case errors.As(cause, &session):
		return expiredCredentials()
	}
	switch code {
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded":
		return driver.Refuse(kms.Throttled, "the service that gives credentials refused for quota", "start fewer processes at once")
	case "ExpiredTokenException", "ExpiredToken", "UnauthorizedException":
		return expiredCredentials()
	case "", "UnknownError", "IDPCommunicationError", "RequestTimeout", "RequestTimeoutException": // "UnknownError" is the SDK's own
	default:
		if status == 0 || status >= http.StatusBadRequest && status < http.StatusInternalServerError {
			return driver.Refuse(kms.Denied, "AWS gave no credentials for the configured role or profile", "check AWS_PROFILE, AWS_ROLE_ARN and the role's trust policy")
		}
	}
	if machine {
		return noCredentials(kms.Unavailable)
	}
	return driver.Refuse(kms.Unavailable, "the service that gives credentials could not be reached or gave none, or a file for it cannot be read",
		"check that the network lets us through to AWS STS, SSO or the container's agent, and that the file AWS_WEB_IDENTITY_TOKEN_FILE names is there")
}

// noCredentials is what remains where only the machine's metadata service
// could have given some, which most machines do not have.
func noCredentials(class kms.Class) refusal {
	r := refusal{
		Class: class, Detail: "there are no AWS credentials",
		Advice: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role is attached",
	}
	if class.Transient() {
		r.Detail += ", and no metadata service answers"
	}
	return r
}

// metadataDisabled reports whether the SDK leaves the metadata service alone.
func metadataDisabled() bool {
	return strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true")
}

// ofRotation says what codes mean that have a meaning of their own when a key is
// rotated on demand.
func ofRotation(code string) (refusal, bool) {
	switch code {
	case "LimitExceededException", "LimitExceeded":
		return driver.Refuse(kms.Invalid, "the key was rotated on demand as often as AWS KMS permits (25 times), for good",
			"turn automatic rotation on (aws kms enable-key-rotation), or make a new key and rewrap to it"), true
	case "ConflictException", "Conflict":
		return driver.Refuse(kms.Unavailable, "the key is being rotated already, or will be within 20 minutes",
			"wait for that rotation: aws kms get-key-rotation-status tells"), true
	case "UnsupportedOperationException", "UnsupportedOperation":
		return refusal{
			Class: kms.Invalid, Detail: "AWS KMS does not rotate such a key: it is a replica, its material is imported and no new one waits, or it is in a custom key store",
			Advice:      "of a multi-Region key rotate the primary; otherwise make a new key, seal under it and rewrap to it",
			Unsupported: true,
		}, true
	}
	return refusal{}, false
}

// mind is further advice when a permission seems to be there.
func mind(op string) string {
	switch op {
	case driver.OpWrap, driver.OpUnwrap, driver.OpRewrap:
		return ", and mind conditions on the encryption context; a key of another account must permit it in its own policy as well"
	case driver.OpOpen, driver.OpProbe:
		return ""
	}
	return "; only identities of the key's own account can do it"
}

// named is the advice about the name of a key that does not exist.
func (k *Key) named() string {
	switch {
	case k.name.account != "":
		return "a key that was deleted is gone for good, and what it sealed with it"
	case strings.HasPrefix(k.name.resource, "alias/"):
		return "aws kms list-aliases shows what there is; for a key in another account name its ARN"
	}
	return "an alias begins with alias/; for a key in another account name its ARN"
}

// shown returns the key as AWS's own tools take it.
func (k *Key) shown() string {
	if k.arn != "" {
		return k.arn
	}
	return k.asked
}
