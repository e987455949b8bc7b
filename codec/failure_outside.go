package codec

import (
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/kms"
)

// fromOutside returns what a request says that an activity failed with, if a program
// says it that is not the activity's worker: client.CompleteActivity. A worker
// says of which version it is, in all places but one, in which it expects to fail.
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

// sayAgain refuses what an activity failed with, if some of it was withheld because
// a KMS is out for the time being, and who says it can say it again. The failure
// converter could only have panicked. A worker cannot: its activity would be
// left to its timeout.
func sayAgain(method string, req proto.Message) error {
	for link := fromOutside(req); link != nil; link = link.GetCause() {
		if err := failure.Withheld(link); err != nil && kms.ClassOf(err).Transient() {
			// The SDK would send it again as it is.
			return status.Errorf(codes.FailedPrecondition, "waxseal: refused to send %s: its failure could not be sealed (%s); say it again when the KMS answers", method, kms.ClassOf(err))
		}
	}
	return nil
}
