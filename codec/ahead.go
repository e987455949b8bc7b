package codec

import (
	"context"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	updatepb "go.temporal.io/api/update/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/policy"
)

// warmChunk is how many payloads have their data keys unwrapped together: enough
// for full batches, and few enough that what they take is nothing beside the task.
const warmChunk = 256

// toOpen tells which sealed payloads of a workflow task, or of a page of its
// history, the SDK is going to open. must are those that it opens outside workflow
// code, where no panic holds the task, and takes what does not open for nothing:
// markers, failures, headers and the arguments of updates. may are those that
// workflow code opens as a rule. What it only passes on, such as the inputs of
// activities, is in neither: this worker need not even be allowed to open it.
func toOpen(msg proto.Message) (must, may []*commonpb.Payload, err error) {
	into := func(list *[]*commonpb.Payload, p *commonpb.Payload) {
		if sealed.Claims(p) && sealed.KeyIDs(p) != nil {
			*list = append(*list, p)
		}
	}
	opens := func(parent proto.Message) bool { // a memo and a summary are opened if someone asks
		_, memo := parent.(*commonpb.Memo)
		_, summary := parent.(*sdkpb.UserMetadata)
		return !memo && !summary
	}
	always := func(parent proto.Message) bool {
		_, header := parent.(*commonpb.Header)
		_, update := parent.(*updatepb.Input)
		return header || update
	}
	w := payloadwalk.Walker{
		Payload: func(parent proto.Message, p *commonpb.Payload) error {
			switch {
			case always(parent):
				into(&must, p)
			case opens(parent):
				into(&may, p)
			}
			return nil
		},
	}
	event := func(e *historypb.HistoryEvent) error {
		marker, code, fails := roles(e.GetEventType())
		return payloadwalk.Walker{
			Payload: func(parent proto.Message, p *commonpb.Payload) error {
				switch {
				case marker, always(parent):
					into(&must, p)
				case code && opens(parent):
					into(&may, p)
				}
				return nil
			},
			Failure: func(_ proto.Message, f *failurepb.Failure) error {
				if !fails {
					return nil
				}
				return payloadwalk.Each(f, func(_ proto.Message, p *commonpb.Payload) error {
					into(&must, p)
					return nil
				})
			},
		}.Walk(e)
	}
	w.Event = event
	err = w.Walk(msg)
	return must, may, err
}

// roles says of an event whether all of it is opened as a marker, whether workflow
// code opens its payloads, and whether its failure is converted to an error.
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

// openAhead has the data keys of what the SDK is going to open of msg in the cache,
// within what the run may still wait, and returns why the task is to be held, or
// nil: what fails otherwise, the SDK comes to itself. No plaintext is made.
func (c *Codec) openAhead(ctx context.Context, run hold.RunKey, facts policy.Facts, msg proto.Message) *HeldError {
	must, may, err := toOpen(msg)
	if err != nil || len(must)+len(may) == 0 {
		return nil // an Any of an unknown type: the SDK cannot open it either
	}
	ctx, done := c.waits.Bound(ctx, run)
	defer done()
	for chunk := range slices.Chunk(must, warmChunk) {
		for _, err := range c.warm(ctx, facts, chunk) {
			if err != nil && c.holds(facts, err) {
				return &HeldError{Err: err}
			}
		}
	}
	for chunk := range slices.Chunk(may, warmChunk) {
		if ctx.Err() == nil {
			c.warm(ctx, facts, chunk)
		}
	}
	return nil
}

// warm puts the data keys of sealed payloads into the cache. It returns one error for each.
func (c *Codec) warm(ctx context.Context, facts policy.Facts, payloads []*commonpb.Payload) []error {
	s, ctx := c.use(ctx)
	defer s.leave()
	items := make([]envelope.Item, len(payloads))
	for i, p := range payloads {
		items[i] = envelope.Item{
			Envelope: p.GetData(), KeyIDs: sealed.KeyIDs(p), Reader: facts.Namespace,
			Accept: func(claims envelope.Claims) error { return s.accept(facts.Namespace, claims.Namespace) },
		}
	}
	errs := c.opener.Warm(ctx, items...)
	for i, err := range errs {
		if err != nil {
			errs[i] = c.timedOut(ctx, "open payload ahead of a workflow task", err)
		}
	}
	return errs
}
