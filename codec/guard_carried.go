package codec

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
)

// A workflow that was started before its workers had the plugin has a plaintext
// memo, and failures of its activities may have plaintext details. The SDK sends
// both again as they are: the memo when the workflow continues as new, the
// failure when the workflow fails with it. Refusing them would leave every such
// workflow stuck, so the guard seals them.

// sealCarried returns req, or a copy in which what the SDK carried over from
// the history of a workflow is sealed.
func (g *guard) sealCarried(ctx context.Context, method, namespace string, req proto.Message) (proto.Message, error) {
	r, ok := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if !ok || len(carriedPlaintext(r)) == 0 {
		return req, nil
	}
	r = proto.CloneOf(r)
	carried := carriedPlaintext(r)
	sealed, err := g.codec.Encode(ctx, namespace, carried)
	if err != nil {
		return nil, onTheWire(fmt.Errorf("codec: seal what %s carries over: %w", method, err))
	}
	for i, p := range carried {
		proto.Reset(p)
		proto.Merge(p, sealed[i])
	}
	return r, nil
}

// carriedPlaintext returns the payloads that may be the history's own and are
// not sealed.
func carriedPlaintext(r *workflowservice.RespondWorkflowTaskCompletedRequest) []*commonpb.Payload {
	var found []*commonpb.Payload
	collect := func(_ proto.Message, p *commonpb.Payload) error {
		if p != nil && !ClaimsSealed(p) && !isStorageReference(p) {
			found = append(found, p)
		}
		return nil
	}
	for _, command := range r.GetCommands() {
		if memo := command.GetContinueAsNewWorkflowExecutionCommandAttributes().GetMemo(); memo != nil {
			_ = eachPayload(memo, collect) // neither it nor a failure holds an Any, which alone fails
		}
		if failure := command.GetFailWorkflowExecutionCommandAttributes().GetFailure(); failure != nil {
			_ = eachPayload(failure, collect)
		}
	}
	return found
}
