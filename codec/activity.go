package codec

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/waxseal/waxseal/kms"
)

// The data converter learns an activity's context where inputs are opened and results
// and heartbeats are sealed, and waits there (see patience). activities is there for
// the rest: heartbeats during a wait, the details of the last heartbeat, and an error
// that the activity ends with.
type activities struct {
	interceptor.InterceptorBase
	codec     *Codec
	namespace string
	failures  converter.FailureConverter
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (a *activities) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &activityIn{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, of: a}
}

type activityIn struct {
	interceptor.ActivityInboundInterceptorBase
	of *activities
}

// Init implements interceptor.ActivityInboundInterceptor.
func (in *activityIn) Init(outbound interceptor.ActivityOutboundInterceptor) error {
	return in.Next.Init(&activityOut{ActivityOutboundInterceptorBase: interceptor.ActivityOutboundInterceptorBase{Next: outbound}})
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor. A task that names
// another namespace than the client's is refused, also if it has nothing to open: the
// activity may pass that namespace on. An error that is
// the activity's last word waits until something can be sealed: the failure converter
// has no context to wait with, and would withhold its message for good. A result beside
// an error goes nowhere, and yet the SDK would have it sealed, and return the
// converter's error instead of the activity's if it cannot be.
func (in *activityIn) ExecuteActivity(ctx context.Context, input *interceptor.ExecuteActivityInput) (any, error) {
	if stated := activity.GetInfo(ctx).Namespace; stated != "" && stated != in.of.namespace {
		return nil, taskOfAnother("run activity", in.of.namespace, stated)
	}
	out, err := in.Next.ExecuteActivity(ctx, input)
	if err == nil {
		return out, nil
	}
	at := site{namespace: in.of.namespace, ctx: ctx}
	if in.of.codec.patient(at) && final(activity.GetInfo(ctx), err) {
		_ = in.of.codec.patiently(at, func(ctx context.Context) error {
			_, err := in.of.codec.encode(ctx, at.facts(), []*commonpb.Payload{{}})
			return err
		})
	}
	return nil, in.of.cancellation(ctx, err)
}

// cancellation returns an error of an activity, without the details of a cancellation
// if they cannot be sealed: the SDK seals them past the failure converter and panics
// where that fails, and the server would hear that the activity failed.
func (a *activities) cancellation(ctx context.Context, err error) error {
	canceled, ok := errors.AsType[*temporal.CanceledError](err)
	if !ok || !canceled.HasDetails() {
		return err
	}
	running := site{namespace: a.namespace, ctx: ctx}.running()
	failures := converter.WithFailureConverterSerializationContext(a.failures, converter.ActivitySerializationContext{
		Namespace: a.namespace, WorkflowID: running.WorkflowID, WorkflowType: running.WorkflowType,
		ActivityType: running.ActivityType, TaskQueue: running.TaskQueue,
	})
	failure := failures.ErrorToFailure(canceled)
	if failure.GetCanceledFailureInfo().GetDetails() != nil {
		return err
	}
	return failures.FailureToError(failure)
}

// final reports whether the server will not try an activity again after err. The workflow
// reports a local activity, and its task is held if need be. An activity that has waited for
// a KMS in vain does not wait twice. As in the SDK, what err wraps does not count.
func final(info activity.Info, err error) bool {
	if info.IsLocalActivity || errors.Is(err, activity.ErrResultPending) || kms.ClassOf(err).Transient() {
		return false
	}
	app, ok := err.(*temporal.ApplicationError) //nolint:errorlint // as said above
	if ok && app.NonRetryable() {
		return true
	}
	retry := info.RetryPolicy
	if retry == nil {
		return false
	}
	return retry.MaximumAttempts > 0 && info.Attempt >= retry.MaximumAttempts || slices.Contains(retry.NonRetryableErrorTypes, typeOf(err))
}

// typeOf returns what the server hears of as the type of an error.
func typeOf(err error) string {
	if app, ok := err.(*temporal.ApplicationError); ok { //nolint:errorlint // as in final
		return app.Type()
	}
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// activityOut sends heartbeats that repeat the last details as they were sealed: one
// without would have the server forget them, and sealing them again needs the KMS.
type activityOut struct {
	interceptor.ActivityOutboundInterceptorBase

	// mu is held while a repetition is sent, so that it cannot overtake what it repeats.
	mu    sync.Mutex
	known bool               // what the server has; before, the last attempt's count
	last  *commonpb.Payloads // nil if there are none
}

type (
	// heartbeatOf is where the context of a heartbeat has its activityOut, for the
	// data converter to tell it how the details were sealed.
	heartbeatOf struct{}
	// sealedDetails go through the data converter as they are, in both directions.
	sealedDetails struct{ payloads *commonpb.Payloads }
	// openable has the data converter open details with the context and throw them away:
	// their data keys are in the cache then.
	openable struct{ ctx context.Context }
)

// HasHeartbeatDetails implements interceptor.ActivityOutboundInterceptor.
func (out *activityOut) HasHeartbeatDetails(ctx context.Context) bool {
	if met, ok := ctx.Value(standsBy{}).(*bool); ok {
		*met = true
		return false
	}
	return out.Next.HasHeartbeatDetails(ctx)
}

// RecordHeartbeat implements interceptor.ActivityOutboundInterceptor.
func (out *activityOut) RecordHeartbeat(ctx context.Context, details ...any) {
	if ctx.Value(stillAlive{}) != nil {
		out.repeat(ctx)
		return
	}
	if len(details) == 0 || len(details) == 1 && details[0] == nil {
		out.told(nil)
	}
	out.Next.RecordHeartbeat(context.WithValue(ctx, heartbeatOf{}, out), details...)
}

// told says what the server is about to be told.
func (out *activityOut) told(details *commonpb.Payloads) {
	out.mu.Lock()
	defer out.mu.Unlock()
	out.known, out.last = true, details
}

func (out *activityOut) repeat(ctx context.Context) {
	out.mu.Lock()
	defer out.mu.Unlock()
	if !out.known && out.Next.HasHeartbeatDetails(ctx) {
		var kept sealedDetails
		if out.Next.GetHeartbeatDetails(ctx, &kept) != nil || kept.payloads == nil {
			return // another data converter than ours
		}
		out.last = kept.payloads
	}
	out.known = true
	if out.last == nil {
		out.Next.RecordHeartbeat(ctx)
		return
	}
	out.Next.RecordHeartbeat(ctx, sealedDetails{out.last})
}

// GetHeartbeatDetails implements interceptor.ActivityOutboundInterceptor. The SDK opens
// them without a context, so they are opened with one first.
func (out *activityOut) GetHeartbeatDetails(ctx context.Context, d ...any) error {
	if out.Next.HasHeartbeatDetails(ctx) {
		if err := out.Next.GetHeartbeatDetails(ctx, &openable{ctx}); err != nil {
			return err
		}
	}
	return out.Next.GetHeartbeatDetails(ctx, d...)
}

// heartbeat returns the payloads of a heartbeat that repeats another one.
func heartbeat(values []any) (*commonpb.Payloads, bool) {
	if len(values) != 1 {
		return nil, false
	}
	repeated, ok := values[0].(sealedDetails)
	return repeated.payloads, ok
}
