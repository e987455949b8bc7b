package guard

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.temporal.io/api/errordetails/v1"
	failurepb "go.temporal.io/api/failure/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/codec/internal/sealed"
)

// The SDK sends the message of a failed query as a bare string, beside the failure of its
// failure converter (RespondQueryTaskCompleted) or instead of it (a query answered together
// with a workflow task). The guard puts such messages into sealed failures, which the server
// passes on. The guard of the querying client restores the message.

// queryFailureTimeout bounds the sealing of the messages in one answer. Data keys are prepared
// in advance, so this time is rarely needed.
const queryFailureTimeout = time.Second

// sealQueryFailures returns req, or a copy in which the messages of failed queries are sealed.
// It withholds a message that cannot be sealed soon: the answer to a query must not wait for a
// KMS.
func (g *Guard) sealQueryFailures(ctx context.Context, namespace string, req proto.Message) proto.Message {
	ctx, cancel := context.WithTimeout(ctx, queryFailureTimeout)
	defer cancel()
	switch r := req.(type) {
	case *workflowservice.RespondQueryTaskCompletedRequest:
		if r.GetErrorMessage() == "" {
			return req
		}
		r = proto.CloneOf(r)
		r.Failure = g.queryFailure(ctx, namespace, r.GetErrorMessage(), r.GetFailure())
		r.ErrorMessage = r.GetFailure().GetMessage()
		return r
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		failed := func(q *querypb.WorkflowQueryResult) bool { return q.GetErrorMessage() != "" }
		if !slices.ContainsFunc(slices.Collect(maps.Values(r.GetQueryResults())), failed) {
			return req
		}
		r = proto.CloneOf(r)
		for _, result := range r.GetQueryResults() {
			if failed(result) {
				result.Failure = g.queryFailure(ctx, namespace, result.GetErrorMessage(), result.GetFailure())
				result.ErrorMessage = result.GetFailure().GetMessage()
			}
		}
		return r
	}
	return req
}

// queryFailure returns a failure with a sealed message: the one that the SDK made, if its
// failure converter is ours, or a new one.
func (g *Guard) queryFailure(ctx context.Context, namespace, message string, made *failurepb.Failure) *failurepb.Failure {
	if made.GetEncodedAttributes() == nil {
		made = &failurepb.Failure{
			Message: message, Source: "GoSDK",
			FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{}},
		}
	}
	failure.ChainOf(made).SealOrWithhold(g.Codec.Converter(ctx, namespace), 0)
	return made
}

// openQueryFailure returns err with the message of a query's sealed failure, if it is one and
// opens. Where the namespace requires payloads to be sealed, it withholds plaintext texts.
func (g *Guard) openQueryFailure(ctx context.Context, req any, err error) error {
	r, ok := req.(*workflowservice.QueryWorkflowRequest)
	if !ok {
		return err
	}
	st := status.Convert(err)
	for i, detail := range st.Details() {
		failed, ok := detail.(*errordetails.QueryFailedFailure)
		if !ok {
			continue
		}
		p := st.Proto()
		if g.Codec.Policy().RequiresSealed(g.namespaceOf(r)) {
			var withheld error
			if p.Message, p.Details[i], withheld = withholdQuery(failed); withheld != nil {
				return onTheWire(withheld)
			}
			err = status.ErrorProto(p)
		}
		if failed.GetFailure().GetEncodedAttributes() == nil || p.GetMessage() != failure.Encoded {
			return err
		}
		opened := proto.CloneOf(failed.GetFailure())
		converter.DecodeCommonFailureAttributes(g.Codec.Converter(ctx, g.namespaceOf(r)), opened)
		p.Message = opened.GetMessage()
		return status.ErrorProto(p)
	}
	return err
}

// withholdQuery returns the message and the detail of a failed query without their plaintext.
func withholdQuery(failed *errordetails.QueryFailedFailure) (message string, detail *anypb.Any, err error) {
	if err := failure.WithholdPlaintext(failed.GetFailure(), sealed.WellFormed); err != nil {
		return "", nil, err
	}
	if detail, err = anypb.New(failed); err != nil {
		return "", nil, fmt.Errorf("codec: withhold the failure of a query: %w", err)
	}
	if failed.GetFailure() == nil {
		return failure.WithheldPlaintext, detail, nil
	}
	return failed.GetFailure().GetMessage(), detail, nil
}
