package guard

import (
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/kms"
)

// fromOutside returns the failure of an activity in a request of a program that is not the
// activity's worker (client.CompleteActivity). A worker states its version, except in one
// place, where it expects the request to fail.
func fromOutside(req proto.Message) *failurepb.Failure {
	switch r := req.(type) {
	case *workflowservice.RespondActivityTaskFailedByIdRequest:
		return r.GetFailure()
	case *workflowservice.RespondActivityTaskFailedRequest:
		if r.GetWorkerVersion() == nil && r.GetDeploymentOptions() == nil { //nolint:staticcheck // deprecated, and what the SDK's workers send
			return r.GetFailure()
		}
	}
	return nil
}

// refuseWithheld refuses to send the failure of an activity for a program outside the worker,
// if a part of it was withheld because the KMS is unavailable: that program can report it again
// later. A worker cannot, and its activity would time out.
func refuseWithheld(method string, req proto.Message) error {
	for link := fromOutside(req); link != nil; link = link.GetCause() {
		if err := failure.Withheld(link); err != nil && kms.ClassOf(err).Transient() {
			// The SDK would send it again unchanged.
			return status.Errorf(codes.FailedPrecondition, "waxseal: refused to send %s: its failure could not be sealed (%s); retry when the KMS is available", method, kms.ClassOf(err))
		}
	}
	return nil
}
