package guard

import (
	"fmt"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/kms"
)

// sameUpdate refuses an answer to an update that names another workflow than the request does.
// The SDK opens the update's result as a result of the workflow in the answer, which the server
// chooses.
func sameUpdate(req, reply proto.Message) error {
	switch in := reply.(type) {
	case *workflowservice.UpdateWorkflowExecutionResponse:
		r, ok := req.(*workflowservice.UpdateWorkflowExecutionRequest)
		if requested, got := r.GetWorkflowExecution().GetWorkflowId(), in.GetUpdateRef().GetWorkflowExecution().GetWorkflowId(); ok && got != "" && got != requested {
			return onTheWire(&kms.Error{
				Class: kms.Denied, Op: "read the result of an update", Detail: fmt.Sprintf("the answer is about workflow %q, and the request about %q", got, requested),
				Advice: "the server, or a proxy before it, alters answers: find out which",
			})
		}
	case *workflowservice.ExecuteMultiOperationResponse:
		r, _ := req.(*workflowservice.ExecuteMultiOperationRequest)
		for i, one := range in.GetResponses() {
			if i >= len(r.GetOperations()) || one.GetUpdateWorkflow() == nil {
				continue
			}
			if err := sameUpdate(r.GetOperations()[i].GetUpdateWorkflow(), one.GetUpdateWorkflow()); err != nil {
				return err
			}
		}
	}
	return nil
}
