package gcpkms

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// detailed is a status with details attached. Attaching ones that marshal, as all
// of google.rpc do, cannot fail; if it does, the status goes without.
func detailed(code codes.Code, message string, details ...proto.Message) error {
	plain := status.New(code, message)
	var all []protoadapt.MessageV1
	for _, d := range details {
		all = append(all, protoadapt.MessageV1Of(d))
	}
	with, err := plain.WithDetails(all...)
	if err != nil {
		return plain.Err()
	}
	return with.Err()
}

func precondition(kind, subject, message string) error {
	return detailed(codes.FailedPrecondition, message, &errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{Type: kind, Subject: subject, Description: message}},
	})
}

func permissionDenied(permission, resource string) error {
	return detailed(codes.PermissionDenied, "Permission '"+permission+"' denied on resource '"+resource+"' (or it may not exist).",
		&errdetails.ErrorInfo{
			Reason: "IAM_PERMISSION_DENIED", Domain: "cloudkms.googleapis.com",
			Metadata: map[string]string{"permission": permission, "resource": resource},
		})
}

// faultError is what a Fault with a Code answers.
func faultError(f Fault) error {
	message := f.Message
	if message == "" {
		message = "Fault on command."
	}
	var details []proto.Message
	if f.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter.Round(time.Microsecond))})
	}
	if f.Detail != nil {
		details = append(details, f.Detail)
	}
	return detailed(f.Code, message, details...)
}
