package gcpkms

import (
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// reason says what a status means. It goes by the code, by the details that come
// with it, and where Google documents neither for a case, by words of the message.
func (k *Key) reason(c call, st *status.Status) refusal {
	if httpStatus, ok := strings.CutPrefix(st.Message(), "unexpected HTTP status code received from server: "); ok {
		return k.notKMS(httpStatus)
	}
	has := func(s string) bool { return strings.Contains(st.Message(), s) }
	switch st.Code() {
	case codes.PermissionDenied:
		return k.denied(c, st)
	case codes.Unauthenticated:
		return k.unauthenticated(st)
	case codes.NotFound:
		return k.missing(c)
	case codes.ResourceExhausted:
		if has("received message larger than max") { // our own limit
			return driver.Refuse(kms.Internal, "the answer is larger than any of Cloud KMS's", "check that "+k.endpoint+" is Cloud KMS")
		}
		return driver.Refuse(kms.Throttled, "a quota of Cloud KMS is used up",
			"raise the project's quota for cryptographic requests, or let more payloads share a data key")
	case codes.FailedPrecondition:
		return k.precondition(c, st)
	case codes.InvalidArgument, codes.OutOfRange:
		switch {
		case has("_crc32c"):
			return damagedRequest()
		case wrongPurpose(st):
			return k.wrongKind()
		case c.op == driver.OpUnwrap:
			return driver.RefuseItem(kms.Corrupt, "the wrapped data key was altered, or belongs to another key or context",
				driver.Damaged)
		case c.op == driver.OpWrap:
			return driver.Refuse(kms.Internal, "Cloud KMS did not take the request",
				"an HSM key takes 8 KiB of data key and context together; is the context larger? otherwise look into Cloud KMS's audit log")
		}
		return driver.Refuse(kms.Internal, "Cloud KMS did not take the request", "look into Cloud KMS's audit log for its reason")
	case codes.Unimplemented:
		return driver.Refuse(kms.Unavailable, "what answers at "+k.endpoint+" is not Cloud KMS, or something on the way",
			"check the endpoint, and what a proxy in front of it says")
	case codes.Unavailable:
		return driver.Refuse(kms.Unavailable, k.endpoint+" cannot be reached, or is not available",
			"check the network and Google Cloud's status; for an external key, that its manager can be reached")
	case codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal, codes.Unknown, codes.DataLoss:
		return driver.Refuse(kms.Unavailable, "Cloud KMS failed to answer",
			"check Google Cloud's status; for an external key, that its manager is healthy")
	default:
		return driver.Refuse(kms.Internal, "Cloud KMS answered in a way that we do not understand", "look into Cloud KMS's audit log")
	}
}

// missing is what NOT_FOUND means.
func (k *Key) missing(c call) refusal {
	r := driver.Refuse(kms.NotFound, "there is no such key, or no such project, location or key ring",
		"check the resource name; "+k.gcloud("kms keys list", scopeRing)+" shows what there is")
	if c.ofVersion() {
		r.Detail = "there is no such version, or no such key"
		r.Advice = k.gcloud("kms keys versions list", scopeKey) + " shows what there is"
	}
	return r
}

// ofVersion reports whether a call names a version of the key.
func (c call) ofVersion() bool {
	switch c.op {
	case driver.OpDisable, driver.OpEnable, driver.OpDestroy, driver.OpRestore, opMakePrimary:
		return true
	}
	return false
}

// denied distinguishes the meanings of PERMISSION_DENIED.
func (k *Key) denied(c call, st *status.Status) refusal {
	r := refusal{Class: kms.Denied}
	switch errorReason(st) {
	case "SERVICE_DISABLED":
		r.Detail = "the Cloud KMS API is not enabled in the project"
		r.Advice = "gcloud services enable cloudkms.googleapis.com, in the project of the key and in that of the credentials"
	case "BILLING_DISABLED":
		r.Detail = "billing is not enabled in the project"
		r.Advice = "enable billing for the project of the key"
	case "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
		r.Detail = "the credentials have no scope for Cloud KMS"
		r.Advice = "give the machine or the token the scope https://www.googleapis.com/auth/cloudkms"
	default:
		r.Detail = "our identity may not " + c.op + " with this key, or the key does not exist"
		r.Advice = "grant " + roleFor(c) + " on the key, and check the key's name"
	}
	return r
}

// roleFor names the smallest predefined role that holds what a call needs, and for
// calls that manage the key the permission, which a custom role can hold alone.
func roleFor(c call) string {
	switch c.op {
	case driver.OpWrap:
		return "roles/cloudkms.cryptoKeyEncrypterDecrypter"
	case driver.OpUnwrap:
		return "roles/cloudkms.cryptoKeyEncrypterDecrypter, or roles/cloudkms.cryptoKeyDecrypter to only open,"
	}
	role := "roles/cloudkms.admin"
	if c.permission == permEncrypt || c.permission == permDecrypt {
		return "roles/cloudkms.cryptoKeyEncrypterDecrypter, or roles/cloudkms.cryptoKeyDecrypter to only open,"
	}
	if strings.HasSuffix(c.permission, ".get") || strings.HasSuffix(c.permission, ".list") {
		role = "roles/cloudkms.viewer"
	}
	return role + ", or a custom role with " + c.permission + ","
}

// notKMS is what an answer means that is not gRPC: Cloud KMS always answers HTTP
// status 200 and says the rest in gRPC, so that a 401 or 403 is not its refusal.
func (k *Key) notKMS(httpStatus string) refusal {
	code, _, _ := strings.Cut(httpStatus, " ")
	if code == "429" {
		return driver.Refuse(kms.Throttled, k.endpoint+" answers that there are too many requests",
			"send fewer, or let more payloads share a data key; a proxy on the way may have a limit of its own")
	}
	if len(code) != 3 || strings.Trim(code, digits) != "" {
		code = "unknown"
	}
	return driver.Refuse(kms.Unavailable, "what answers at "+k.endpoint+" is not Cloud KMS, or something on the way (HTTP status "+code+")",
		"check the endpoint, look for a proxy or login page on the way, and check Google Cloud's status")
}

// wrongPurpose reports whether a message complains of a key's purpose. Google
// documents no detail that says so.
func wrongPurpose(st *status.Status) bool {
	return strings.Contains(strings.ToLower(st.Message()), "purpose")
}

func (k *Key) wrongKind() refusal {
	return driver.Refuse(kms.Invalid, "the key is of the wrong kind: its purpose is not ENCRYPT_DECRYPT",
		"create another key with --purpose=encryption and name that one; a key's purpose cannot be changed")
}

// otherKey refuses an answer that names another key than its request.
func (k *Key) otherKey() refusal {
	return driver.Refuse(kms.Internal, "the answer is about another key than it was asked for",
		"check that "+k.endpoint+" is Cloud KMS, and what is between it and us")
}

// damagedRequest and damagedAnswer are transmission faults: Google's advice is to
// try again a few times, which is what Unavailable stands for.
func damagedRequest() refusal {
	return driver.RefuseItem(kms.Unavailable, "the request was damaged on the way, as its checksums tell",
		"if it happens again, look for a proxy that alters requests, or for failing memory")
}

func damagedAnswer() refusal {
	return driver.RefuseItem(kms.Unavailable, "the answer was damaged on the way, as its checksum tells",
		"if it happens again, look for a proxy that alters answers, or for failing memory")
}

// unconfirmed is an answer without the checksums, or the word about those of the
// request, that Cloud KMS always gives.
func (k *Key) unconfirmed() refusal {
	return driver.RefuseItem(kms.Unavailable, k.endpoint+" does not confirm checksums: this may be an emulator, or the request or the answer was damaged on the way",
		"use an emulator that has checksums, such as waxseal dev kms; with Cloud KMS, look for a proxy that alters requests or answers")
}

// errorReason is the reason in the status's ErrorInfo, empty if there is none.
func errorReason(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

// violation is the type of the status's first precondition violation, empty if there is none.
func violation(st *status.Status) string {
	for _, d := range st.Details() {
		if failure, ok := d.(*errdetails.PreconditionFailure); ok && len(failure.Violations) > 0 {
			return failure.Violations[0].Type
		}
	}
	return ""
}

// lacksPermission reports whether a refusal is about a permission on the key, and
// not about the project or the credentials.
func lacksPermission(err error) bool {
	e, ok := errors.AsType[*kms.Error](err)
	if !ok || status.Code(e.Err) != codes.PermissionDenied {
		return false
	}
	switch errorReason(status.Convert(e.Err)) {
	case "SERVICE_DISABLED", "BILLING_DISABLED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
		return false
	}
	return true
}
