package guard

import (
	"context"
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	updatepb "go.temporal.io/api/update/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms"
)

// warmChunk is how many payloads have their data keys unwrapped together: enough for full
// batches, and little memory compared to the task.
const warmChunk = 256

// ready makes a workflow task, or a page of its history, ready for the SDK: it opens the
// headers, and puts the data keys of payloads that the SDK will open into the cache. It returns
// why the task must fail: a *hold.Error if it may continue later. The SDK itself finds other
// errors.
func (g *Guard) ready(ctx context.Context, namespace string, t *hold.Task, r *response) error {
	strict := g.Codec.Policy().RequiresSealed(namespace)
	switch {
	case t == nil && r.plaintext != nil:
		return status.Error(codes.FailedPrecondition, hold.PlainReason(r.plaintext))
	case t == nil:
		return onTheWire(r.openHeaders(ctx, g.Codec, namespace, strict))
	case r.plaintext != nil:
		return r.plaintext
	}
	for chunk := range slices.Chunk(r.must, warmChunk) {
		for _, err := range g.Codec.Warm(ctx, namespace, chunk) {
			if err != nil && g.Tasks.Holds(t.Facts, err) {
				return &hold.Error{Err: err}
			}
		}
	}
	if err := r.openHeaders(ctx, g.Codec, namespace, strict); err != nil {
		if class := kms.ClassOf(err); class.Transient() || class == kms.Canceled {
			return &hold.Error{Err: err}
		}
		return err
	}
	for chunk := range slices.Chunk(r.may, warmChunk) {
		if ctx.Err() == nil {
			g.Codec.Warm(ctx, namespace, chunk)
		}
	}
	return nil
}

// sort adds a payload of a workflow task, or of a page of its history, to must or may if the
// SDK will open it. must holds what the SDK opens outside workflow code, where no panic holds
// the task and the SDK ignores a payload that does not open: markers, failures, headers and the
// arguments of updates. may holds what workflow code usually opens. What the SDK only passes
// on, such as the inputs of activities, is in neither: this worker may lack the permission to
// open it.
func (r *response) sort(at *payloadwalk.At, p *commonpb.Payload) {
	if !sealed.Claims(p) {
		return
	}
	marker, code, fails := false, true, true
	if e := at.Event(); e != nil {
		marker, code, fails = roles(e.GetEventType())
	}
	always, onRequest := marker, false
	switch at.Parent().(type) {
	case *commonpb.Header, *updatepb.Input:
		always = true
	case *commonpb.Memo, *sdkpb.UserMetadata: // opened if the program reads it
		onRequest = true
	}
	inFailure := at.Event() != nil && at.Failure() != nil
	switch {
	case inFailure && fails, !inFailure && always:
		r.must = append(r.must, p)
	case !inFailure && code && !onRequest:
		r.may = append(r.may, p)
	}
}

// roles returns for a type of event whether the SDK opens all of it as a marker, whether
// workflow code opens its payloads, and whether its failure is converted to an error.
func roles(kind enumspb.EventType) (marker, code, fails bool) {
	code = slices.Contains([]enumspb.EventType{
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
		enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
		enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
		enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
		enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
		enumspb.EVENT_TYPE_NEXUS_OPERATION_COMPLETED,
	}, kind)
	fails = !slices.Contains([]enumspb.EventType{
		enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, // for people to read
		enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
	}, kind)
	return kind == enumspb.EVENT_TYPE_MARKER_RECORDED, code, fails
}

// Most payloads of a workflow task reach the program through the data converter, which refuses
// plaintext where the namespace requires payloads to be sealed. The guard refuses it where the
// SDK does not use the converter, or continues without a payload that does not open:
//
//   - headers, which context propagators and interceptors read unchanged;
//   - memos, which workflow code reads unchanged, and which are sent back when the workflow
//     continues as new;
//   - markers: from a version marker that does not open, the SDK makes version 0 of no change;
//   - arguments of updates that the history has as accepted: the SDK refuses them in a replay.
//
// Then the task fails, and its failure says why. Package failure withholds failures.

// refusePlaintext returns why a workflow task with a payload must not reach the SDK; nil if it
// may. withheld says that the payload is to be withheld.
func refusePlaintext(at *payloadwalk.At, p *commonpb.Payload, withheld bool) error {
	what := ""
	switch at.Parent().(type) {
	case *commonpb.Header:
		what = "a header"
	case *commonpb.Memo:
		what = "a memo"
	case *historypb.MarkerRecordedEventAttributes:
		what = "a marker"
	case *updatepb.Input:
		if at.Event() != nil {
			what = "an argument of an accepted update"
		}
	}
	if what == "" || !withheld && sealed.WellFormed(p) {
		return nil
	}
	if !withheld && !isHeader(at) && sealed.IsStorageReference(p) {
		return nil // the SDK replaces it by a sealed payload (see sealedDriver), or fails the task
	}
	return sealed.Required("open workflow task", what+" is not sealed",
		"look for what writes it without this plugin; if it is from before the migration, turn requireSealed off until it is gone")
}

// openHeaders opens the headers of a response, in place and all together. It returns an error
// that may pass. A header that will never open here stays unchanged, unless all is set: its
// reader reports it. An error would make the whole message unreadable, at every attempt.
func (r *response) openHeaders(ctx context.Context, c Codec, namespace string, all bool) error {
	if len(r.headers) == 0 {
		return nil
	}
	headers := make([]*commonpb.Payload, len(r.headers))
	for i, place := range r.headers {
		headers[i], _ = r.edit.At(place).(*commonpb.Payload)
	}
	opened, errs := c.Open(ctx, namespace, headers)
	for i, err := range errs {
		switch class := kms.ClassOf(err); {
		case err == nil:
			replace(headers[i], opened[i])
		case all || class.Transient() || class == kms.Canceled:
			return fmt.Errorf("codec: open header: %w", err)
		}
	}
	return r.edit.Done()
}

// OpenHeaders opens the sealed headers in a message, in place. Headers that will never open
// stay unchanged. It returns an error that may pass.
func OpenHeaders(ctx context.Context, c Codec, namespace string, msg proto.Message) error {
	r := &response{edit: payloadwalk.Edit(msg)}
	if err := payloadwalk.Walk(msg, payloadwalk.Visitor{Payload: func(at *payloadwalk.At, p *commonpb.Payload) error {
		if isHeader(at) && sealed.Claims(p) {
			r.headers = append(r.headers, at.Place())
		}
		return nil
	}}); err != nil {
		return err
	}
	return r.openHeaders(ctx, c, namespace, false)
}
