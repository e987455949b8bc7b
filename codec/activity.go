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

// activities is the plugin's interceptor for activities. The data converter waits for KMSs
// where it opens inputs and seals results and heartbeats (see patience). The interceptor does
// the rest: heartbeats during a wait, the details of the last heartbeat, and the error that an
// activity returns.
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

// ExecuteActivity implements interceptor.ActivityInboundInterceptor. It refuses a task that
// names another namespace than the client's, even with nothing to open: the activity may pass
// that namespace on. It drops a result beside an error: the server never gets it, but the SDK
// would seal it, and return a sealing error in place of the activity's.
//
// If the server will not retry after the error, ExecuteActivity waits until something can be
// sealed. The failure converter has no context to wait with: it would withhold the message for
// good.
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

// cancellation returns err, without the details of a cancellation if they cannot be sealed. The
// SDK seals these details without the failure converter and panics if that fails. The server
// would then record a failed activity, not a canceled one.
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

// final reports whether the server will not retry an activity after err. A local activity is
// never final: its workflow reports it, and the workflow's task is held if necessary. Nor is an
// activity that has already waited for a KMS: it must not wait twice. Like the SDK, final
// ignores what err wraps.
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

// typeOf returns the error type that the SDK reports to the server.
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

// activityOut sends heartbeats during a wait. They repeat the last details in their sealed
// form: without details the server would forget them, and sealing them again needs the KMS.
type activityOut struct {
	interceptor.ActivityOutboundInterceptorBase

	// mu is held while a repetition is sent, so that it cannot overtake the heartbeat it
	// repeats.
	mu    sync.Mutex
	known bool               // whether last is what the server has; if not, the last attempt's details count
	last  *commonpb.Payloads // nil if there are none
}

type (
	// heartbeatOf is the context key of a heartbeat's activityOut. The data converter notes the
	// sealed details there.
	heartbeatOf struct{}
	// sealedDetails pass through the data converter unchanged, in both directions.
	sealedDetails struct{ payloads *commonpb.Payloads }
	// openable makes the data converter open details with ctx and discard them. Their data keys
	// are in the cache afterwards.
	openable struct{ ctx context.Context }
)

// HasHeartbeatDetails implements interceptor.ActivityOutboundInterceptor.
func (out *activityOut) HasHeartbeatDetails(ctx context.Context) bool {
	if met, ok := ctx.Value(interceptorProbe{}).(*bool); ok {
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
		out.note(nil)
	}
	out.Next.RecordHeartbeat(context.WithValue(ctx, heartbeatOf{}, out), details...)
}

// note records the details that the server is about to receive.
func (out *activityOut) note(details *commonpb.Payloads) {
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
			return // the data converter is not ours
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

// GetHeartbeatDetails implements interceptor.ActivityOutboundInterceptor. The SDK opens details
// without a context, so GetHeartbeatDetails opens them with a context first.
func (out *activityOut) GetHeartbeatDetails(ctx context.Context, d ...any) error {
	if out.Next.HasHeartbeatDetails(ctx) {
		if err := out.Next.GetHeartbeatDetails(ctx, &openable{ctx}); err != nil {
			return err
		}
	}
	return out.Next.GetHeartbeatDetails(ctx, d...)
}

// heartbeat returns the payloads of a heartbeat that repeats an earlier one.
func heartbeat(values []any) (*commonpb.Payloads, bool) {
	if len(values) != 1 {
		return nil, false
	}
	repeated, ok := values[0].(sealedDetails)
	return repeated.payloads, ok
}
