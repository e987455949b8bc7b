package gcpkms

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
)

// damagedBlob is the advice about a wrapped data key that does not open.
const damagedBlob = "open it with the key and in the namespace it was sealed under; if those are right, the bytes were damaged and only a copy helps"

// reason says what a status means. It goes by the code, by the details that come
// with it, and where Google documents neither for a case, by words of the message.
func (k *Key) reason(op string, st *status.Status) refusal {
	has := func(s string) bool { return strings.Contains(st.Message(), s) }
	switch st.Code() {
	case codes.PermissionDenied:
		return k.denied(op, st)
	case codes.Unauthenticated:
		return k.unauthenticated(st)
	case codes.NotFound:
		return refusal{
			class: kms.NotFound, detail: "there is no such key, or no such project, location or key ring",
			advice: "check the resource name; gcloud kms keys list --location=L --keyring=R --project=P shows what there is",
		}
	case codes.ResourceExhausted:
		if has("received message larger than max") { // our own limit
			return refusal{detail: "the answer is larger than any of Cloud KMS's", advice: "check that " + k.endpoint + " is Cloud KMS"}
		}
		return refusal{
			class: kms.Throttled, detail: "a quota of Cloud KMS is used up",
			advice: "raise the project's quota for cryptographic requests, or let more payloads share a data key",
		}
	case codes.FailedPrecondition:
		return k.precondition(st)
	case codes.InvalidArgument, codes.OutOfRange:
		switch {
		case has("_crc32c"):
			return damagedRequest()
		case wrongPurpose(st):
			return k.wrongKind()
		case op == opUnwrap:
			return refusal{
				class: kms.Corrupt, item: true, detail: "the wrapped data key was altered, or belongs to another key or context",
				advice: damagedBlob,
			}
		}
		return refusal{
			detail: "Cloud KMS did not take the request",
			advice: "an HSM key takes 8 KiB of data key and context together; is the context larger? otherwise look into Cloud KMS's audit log",
		}
	case codes.Unimplemented:
		return refusal{
			class: kms.Unavailable, detail: "what answers at " + k.endpoint + " is not Cloud KMS, or something on the way",
			advice: "check the endpoint, and what a proxy in front of it says",
		}
	case codes.Unavailable:
		return refusal{
			class: kms.Unavailable, detail: k.endpoint + " cannot be reached, or is not available",
			advice: "check the network and Google Cloud's status; for an external key, that its manager can be reached",
		}
	case codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal, codes.Unknown, codes.DataLoss:
		return refusal{
			class: kms.Unavailable, detail: "Cloud KMS failed to answer",
			advice: "check Google Cloud's status; for an external key, that its manager is healthy",
		}
	default:
		return refusal{detail: "Cloud KMS answered in a way that we do not understand", advice: "look into Cloud KMS's audit log"}
	}
}

// denied tells apart what PERMISSION_DENIED stands for.
func (k *Key) denied(op string, st *status.Status) refusal {
	r := refusal{class: kms.Denied}
	switch errorReason(st) {
	case "SERVICE_DISABLED":
		r.detail = "the Cloud KMS API is not enabled in the project"
		r.advice = "gcloud services enable cloudkms.googleapis.com, in the project of the key and in that of the credentials"
	case "BILLING_DISABLED":
		r.detail = "billing is not enabled in the project"
		r.advice = "enable billing for the project of the key"
	case "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
		r.detail = "the credentials have no scope for Cloud KMS"
		r.advice = "give the machine or the token the scope https://www.googleapis.com/auth/cloudkms"
	default:
		r.detail = "our identity may not " + op + " with this key, or the key does not exist"
		role := "roles/cloudkms.cryptoKeyEncrypterDecrypter"
		if op == opUnwrap {
			role += ", or roles/cloudkms.cryptoKeyDecrypter to only open,"
		}
		r.advice = "grant " + role + " on the key, and check the key's name"
	}
	return r
}

// unauthenticated tells credentials that are bad from a token that could not be
// fetched for the moment. The client reports the latter with the same code and a
// text of its own; what it quotes decides.
func (k *Key) unauthenticated(st *status.Status) refusal {
	if strings.HasPrefix(st.Message(), "transport: per-RPC creds failed") {
		for _, sign := range []string{"dial tcp", "connection re", "i/o timeout", "deadline exceeded", "EOF", "no such host", "status code 5"} {
			if strings.Contains(st.Message(), sign) {
				return refusal{
					class: kms.Unavailable, detail: "Google's token service cannot be reached",
					advice: "check the network to oauth2.googleapis.com, sts.googleapis.com or the metadata server",
				}
			}
		}
	}
	return refusal{
		class: kms.Denied, detail: "Google does not take our credentials: they expired, were revoked, or are another service's",
		advice: "renew what GOOGLE_APPLICATION_CREDENTIALS names, or run gcloud auth application-default login",
	}
}

// precondition tells apart what FAILED_PRECONDITION stands for.
func (k *Key) precondition(st *status.Status) refusal {
	kind := violation(st)
	state := func(s string) bool {
		return strings.HasSuffix(strings.TrimRight(st.Message(), "."), "current state is: "+s)
	}
	switch {
	case kind == "KEY_DESTROYED" || state("DESTROYED"):
		return refusal{
			class: kms.NotFound, item: true, detail: "the key version that is needed was destroyed",
			advice: "what it wrapped can no longer be opened with this key; open it with another recipient's key, and to seal make an enabled version primary",
		}
	case state("DESTROY_SCHEDULED"):
		return refusal{
			class: kms.Disabled, item: true, detail: "the key version that is needed is scheduled for destruction",
			advice: "gcloud kms keys versions restore, and then enable, that version",
		}
	case kind == "KEY_DISABLED" || state("DISABLED"):
		return refusal{
			class: kms.Disabled, item: true, detail: "the key version that is needed is disabled",
			advice: "gcloud kms keys versions enable that version, or to seal make an enabled version primary",
		}
	case wrongPurpose(st):
		return k.wrongKind()
	}
	return refusal{
		class: kms.Disabled, item: true, detail: "the key, or the version that is needed, cannot be used in its present state",
		advice: "check that the key has an enabled primary version; for an external key, what its manager says",
	}
}

// wrongPurpose reports whether a message complains of a key's purpose. Google
// documents no detail that says so.
func wrongPurpose(st *status.Status) bool {
	return strings.Contains(strings.ToLower(st.Message()), "purpose")
}

func (k *Key) wrongKind() refusal {
	return refusal{
		detail: "the key is of the wrong kind: its purpose is not ENCRYPT_DECRYPT",
		advice: "create another key with --purpose=encryption and name that one; a key's purpose cannot be changed",
	}
}

// damagedRequest and damagedAnswer are transmission faults: Google's advice is to
// try again a few times, which is what Unavailable stands for.
func damagedRequest() refusal {
	return refusal{
		class: kms.Unavailable, item: true, detail: "the request was damaged on the way, as its checksums tell",
		advice: "if it happens again, look for a proxy that alters requests, or for failing memory",
	}
}

func damagedAnswer() refusal {
	return refusal{
		class: kms.Unavailable, item: true, detail: "the answer was damaged on the way, as its checksum tells",
		advice: "if it happens again, look for a proxy that alters answers, or for failing memory",
	}
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
