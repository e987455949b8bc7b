package codec

import (
	"context"
	"errors"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms"
)

// Most payloads of a workflow task reach the program through the data converter, which
// refuses plaintext where the namespace requires payloads to be sealed. The guard refuses
// it where the SDK does not use the converter, or goes on without what does not open:
//
//   - headers, which context propagators and interceptors read as they are;
//   - memos, which workflow code reads as they are, and which are sent back when the
//     workflow continues as new;
//   - markers: of one for a version that does not open the SDK makes version 0 of no change;
//   - arguments of updates that a history has as accepted: the SDK refuses them in a replay.
//
// The task fails then, and its failure says why. Failures see failure_plaintext.go.

// refusePlaintext returns why a workflow task, or a page of its history, must not reach the
// SDK; nil if it may.
func refusePlaintext(msg proto.Message) error {
	if page, ok := msg.(*workflowservice.GetWorkflowExecutionHistoryResponse); ok && len(page.GetRawHistory()) > 0 {
		return plaintextError("open workflow task", "a history in an encoding that is not known here, which holds payloads, is not sealed",
			"have the server send histories as events, or encode them as Protocol Buffers")
	}
	check := func(accepted bool) func(proto.Message, *commonpb.Payload) error {
		return func(parent proto.Message, p *commonpb.Payload) error {
			what := ""
			switch parent.(type) {
			case *commonpb.Header:
				what = "a header"
			case *commonpb.Memo:
				what = "a memo"
			case *historypb.MarkerRecordedEventAttributes:
				what = "a marker"
			case *updatepb.Input:
				if accepted {
					what = "an argument of an accepted update"
				}
			}
			if what == "" || sealed.WellFormed(p) {
				return nil
			}
			if _, header := parent.(*commonpb.Header); !header && sealed.IsStorageReference(p) {
				return nil // the SDK replaces it by a sealed payload (see sealedDriver), or fails the task
			}
			return plaintextError("open workflow task", what+" is not sealed",
				"look for what writes it without this plugin; if it is from before the migration, turn requireSealed off until it is gone")
		}
	}
	inHistory := payloadwalk.Walker{Payload: check(true)}
	err := payloadwalk.Walker{Payload: check(false), Event: func(e *historypb.HistoryEvent) error { return inHistory.Walk(e) }}.Walk(msg)
	if errors.Is(err, payloadwalk.ErrOpaque) {
		return plaintextError("open workflow task", "a message of a type that is not known here, which may hold payloads, is not sealed",
			"use a version of Waxseal that was built with the server's go.temporal.io/api")
	}
	return err
}

// openTask makes a workflow task, or a page of its history, ready for the SDK: it has the
// data keys in the cache, and opens the headers in place. It returns why the task is to
// fail: a *HeldError if it may go on later.
func (g *guard) openTask(ctx context.Context, t *hold.Task, in proto.Message) error {
	strict := g.codec.policy().RequiresSealed(t.Facts.Namespace)
	if strict {
		if err := refusePlaintext(in); err != nil {
			return err
		}
	}
	if held := g.codec.openAhead(ctx, t.RunKey(), t.Facts, in); held != nil {
		return held
	}
	ctx, done := g.codec.waits.Bound(ctx, t.RunKey())
	defer done()
	err := g.codec.openHeaders(ctx, t.Facts.Namespace, in, strict)
	if class := kms.ClassOf(err); err != nil && (class.Transient() || class == kms.Canceled) {
		return &HeldError{Err: err}
	}
	return err
}

// openStray checks a page of a history that has the shape of a worker's and belongs to no
// task that is known: too many were handed out since, or the server made it up.
func (g *guard) openStray(ctx context.Context, req *workflowservice.GetWorkflowExecutionHistoryRequest, in *workflowservice.GetWorkflowExecutionHistoryResponse) error {
	namespace := g.namespaceOf(req)
	if !asWorkersFetch(req) || !g.codec.policy().RequiresSealed(namespace) {
		return nil
	}
	if err := refusePlaintext(in); err != nil {
		return status.Error(codes.FailedPrecondition, hold.PlainReason(err))
	}
	return onTheWire(g.codec.openHeaders(ctx, namespace, in, true))
}

// unpackHistory puts the events of a raw history where the guard sees them. The SDK reads
// either form, and prefers the raw one. What cannot be read stays, for the SDK to refuse.
func unpackHistory(in *workflowservice.GetWorkflowExecutionHistoryResponse) {
	if len(in.GetRawHistory()) == 0 {
		return
	}
	all := new(historypb.History)
	for _, blob := range in.GetRawHistory() {
		batch := new(historypb.History)
		if blob.GetEncodingType() != enumspb.ENCODING_TYPE_PROTO3 || proto.Unmarshal(blob.GetData(), batch) != nil {
			return
		}
		all.Events = slices.Concat(all.GetEvents(), batch.GetEvents())
	}
	in.History, in.RawHistory = all, nil
}
