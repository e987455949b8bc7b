package guard

import (
	"context"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/waxseal/waxseal/codec/internal/failure"
	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// response holds what the guard found in a response.
type response struct {
	edit    *payloadwalk.Editor
	headers []payloadwalk.Place // sealed, to be opened here
	// must and may are the payloads of a workflow task that the SDK will open; see sort.
	must, may []*commonpb.Payload
	// plaintext is why a workflow task must not reach the SDK; nil if it may.
	plaintext error
}

// incoming checks a response, and opens the sealed headers in it. The reader is the client that
// sent the request: the request names its namespace, even if clients of several namespaces
// share the connection.
func (g *Guard) incoming(ctx context.Context, namespace string, req, reply proto.Message, send hold.Send) error {
	if err := sameUpdate(req, reply); err != nil {
		return err
	}
	if page, ok := reply.(*workflowservice.GetWorkflowExecutionHistoryResponse); ok {
		unpackHistory(page)
	}
	r, err := g.look(namespace, reply)
	if err != nil {
		return onTheWire(err)
	}
	opened := false
	err = g.Tasks.AfterReceiving(ctx, hold.Received{
		Via: g.Via, Namespace: namespace, Request: req, Response: reply, Send: send,
		Ready: func(ctx context.Context, t *hold.Task) error {
			opened = true
			return g.ready(ctx, namespace, t, r)
		},
	})
	if err != nil || opened {
		return err
	}
	return onTheWire(r.openHeaders(ctx, g.Codec, namespace, false))
}

// look walks a response, and drops what the server must not decide:
//
//   - The mark that a Nexus handler started a workflow, an update or an activity. Since 1.51 the
//     Go SDK converts marked results with the context of that operation, which names neither
//     workflow nor activity. The server would choose the rule that seals them, and `bind` would
//     compare nothing. What produces a result seals it, and the caller of the operation opens
//     it like any other.
//   - References into external storage that name no driver of the client, where the namespace
//     requires payloads to be sealed. The SDK's error quotes the name, which the server may
//     have made up: the program would read it, and seal it in the text of a failure.
func (g *Guard) look(namespace string, reply proto.Message) (*response, error) {
	r := &response{edit: payloadwalk.Edit(reply)}
	strict := g.Codec.Policy().RequiresSealed(namespace)
	if page, ok := reply.(*workflowservice.GetWorkflowExecutionHistoryResponse); ok && strict && len(page.GetRawHistory()) > 0 {
		r.plaintext = sealed.Required("open workflow task", "a history in an encoding that is not known here, which holds payloads, is not sealed",
			"have the server send histories as events, or encode them as Protocol Buffers")
	}
	field, holdsTask := taskField(reply)
	_, activity := reply.(*workflowservice.PollActivityTaskQueueResponse)
	var marks, foreign []payloadwalk.Place
	err := payloadwalk.Walk(reply, payloadwalk.Visitor{
		Payload: func(at *payloadwalk.At, p *commonpb.Payload) error {
			withheld := strict && g.namesNoDriver(p)
			if withheld {
				foreign = append(foreign, at.Place())
			}
			inTask := holdsTask && (field == "" || at.Field() == field)
			if isHeader(at) && sealed.Claims(p) && (inTask || !holdsTask && !activity) {
				r.headers = append(r.headers, at.Place())
			}
			if !inTask {
				return nil
			}
			r.sort(at, p)
			if strict && r.plaintext == nil {
				r.plaintext = refusePlaintext(at, p, withheld)
			}
			return nil
		},
		Message: func(at *payloadwalk.At, m proto.Message) error {
			if _, mark := m.(*nexuspb.PropagatedSerializationContext); mark {
				marks = append(marks, at.Place())
			}
			return nil
		},
		Opaque: func(at *payloadwalk.At) error { // the SDK does not read it either
			if strict && r.plaintext == nil && holdsTask && (field == "" || at.Field() == field) {
				r.plaintext = sealed.Required("open workflow task", "a message of a type that is not known here, which may hold payloads, is not sealed",
					"use a version of Waxseal that was built with the server's go.temporal.io/api")
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	for _, place := range foreign {
		if p, ok := r.edit.At(place).(*commonpb.Payload); ok {
			replace(p, failure.WithheldPayload())
		}
	}
	for _, place := range marks {
		r.edit.Clear(place)
	}
	return r, r.edit.Done()
}

// taskField returns the field of a response that holds a workflow task, empty if the
// response is one, or a page of a history; false if it holds none.
func taskField(reply proto.Message) (field protoreflect.Name, ok bool) {
	switch reply.(type) {
	case *workflowservice.PollWorkflowTaskQueueResponse, *workflowservice.GetWorkflowExecutionHistoryResponse:
		return "", true
	case *workflowservice.RespondWorkflowTaskCompletedResponse:
		return "workflow_task", true
	case *workflowservice.StartWorkflowExecutionResponse:
		return "eager_workflow_task", true
	}
	return "", false
}

func isHeader(at *payloadwalk.At) bool {
	_, header := at.Parent().(*commonpb.Header)
	return header
}

// namesNoDriver reports whether a payload is a reference that names no driver of the client.
func (g *Guard) namesNoDriver(p *commonpb.Payload) bool {
	if g.Drivers == nil {
		return false
	}
	driver, ok := sealed.StorageDriver(p)
	return ok && !g.Drivers[driver]
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
