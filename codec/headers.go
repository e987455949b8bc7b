package codec

import (
	"context"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// If the guard withheld an activity task because its headers do not open, the task would be
// lost until its timeout: the server has handed it out. And a poller that waits for one KMS
// polls for no other task. So the guard passes the task on unchanged, and headerOpener opens
// its headers, with the activity's context to wait with.

// headerOpener opens an activity's headers before other propagators and interceptors see them.
// It waits for KMSs as the activity's conversions do.
type headerOpener struct {
	codec     *Codec
	namespace string
	via       *hold.Connection // the connection of the client, also in its data converter
}

var _ workflow.ContextPropagator = (*headerOpener)(nil)

// Inject implements workflow.ContextPropagator: the guard seals.
func (*headerOpener) Inject(context.Context, workflow.HeaderWriter) error { return nil }

// InjectFromWorkflow implements workflow.ContextPropagator.
func (*headerOpener) InjectFromWorkflow(workflow.Context, workflow.HeaderWriter) error { return nil }

// ExtractToWorkflow implements workflow.ContextPropagator: the guard holds workflow tasks that
// have headers that do not open.
func (*headerOpener) ExtractToWorkflow(ctx workflow.Context, _ workflow.HeaderReader) (workflow.Context, error) {
	return ctx, nil
}

// Extract implements workflow.ContextPropagator. It panics if a header cannot be opened for
// now: a panic fails the attempt. The SDK would not report a returned error, and leave the
// attempt to its timeout. In a local activity it returns the error, which the SDK reports
// there. A local activity has a sealed header if its workflow's header did not open.
//
// Where the namespace requires payloads to be sealed, a header that is plaintext or does not
// open also fails the attempt. The plaintext headers of a local activity are allowed: the
// propagators of its workflow wrote them in this process.
func (h *headerOpener) Extract(ctx context.Context, reader workflow.HeaderReader) (context.Context, error) {
	if !activity.IsActivity(ctx) {
		return ctx, nil
	}
	info := activity.GetInfo(ctx)
	strict := !info.IsLocalActivity && h.codec.policy().RequiresSealed(h.namespace)
	var headers []*commonpb.Payload
	err := reader.ForEachKey(func(_ string, p *commonpb.Payload) error {
		switch {
		case sealed.Claims(p):
			headers = append(headers, p)
		case strict:
			return sealed.Required("open header of activity", "a header is not sealed",
				"look for what writes it without this plugin; if it is from before the migration, turn requireSealed off until it is gone")
		}
		return nil
	})
	if err == nil && len(headers) > 0 {
		err = h.openUntil(ctx, info.Deadline, headers, strict)
	}
	if err != nil && !info.IsLocalActivity {
		panic(err) //nolint:forbidigo // as said above
	}
	return ctx, err
}

// openUntil is open, within an activity's deadline if there is one.
func (h *headerOpener) openUntil(ctx context.Context, deadline time.Time, headers []*commonpb.Payload, all bool) error {
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	return h.open(site{namespace: h.namespace, ctx: ctx}, headers, all)
}

// open opens header payloads in place, all together. A header that will never open here stays
// unchanged, unless all is set: its reader reports it (see openHeaders).
func (h *headerOpener) open(at site, headers []*commonpb.Payload, all bool) error {
	return h.codec.at(at, func(ctx context.Context) error {
		decoded := h.codec.decode(ctx, policy.Facts{Namespace: h.namespace}, headers)
		for _, d := range decoded {
			if d.Err != nil && (all || kms.ClassOf(d.Err) == kms.Canceled || h.codec.holds(at.owner(), d.Err)) {
				return d.Err
			}
		}
		for i, d := range decoded {
			if d.Err == nil {
				proto.Reset(headers[i])
				proto.Merge(headers[i], d.Payload)
			}
		}
		return nil
	})
}
