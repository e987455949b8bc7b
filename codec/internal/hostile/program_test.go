package hostile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nexus-rpc/sdk-go/nexus"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// The program is the program of an honest team: workflows, activities, an operation, a context
// propagator and an interceptor. It uses everything that carries payloads, notes every value
// that it receives from the SDK, and puts a secret into every value that it makes.

const (
	signalName     = "signal"
	headerOwn      = "secret"   // the propagator writes and reads it
	headerInjected = "injected" // no program writes it
	taskTimeout    = 10 * time.Second
	attributeName  = "Customer"
)

// workflows are the program's workflows, by name.
func (l *lane) workflows() map[string]any {
	return map[string]any{
		"Echo": l.echo, "Activities": l.activitiesWorkflow, "Local": l.local, "Children": l.children, "Nexus": l.nexusWorkflow,
		"Continues": l.continues, "Fails": l.fails, "Cancels": l.cancels, "Talks": l.talks,
	}
}

func (l *lane) startWorker() error {
	w := worker.New(l.client, l.taskQueue(), worker.Options{
		MaxConcurrentWorkflowTaskPollers: 2, MaxConcurrentActivityTaskPollers: 1, MaxConcurrentNexusTaskPollers: 1,
		DeadlockDetectionTimeout: time.Minute, Interceptors: []interceptor.WorkerInterceptor{&noting{lane: l}},
	})
	for name, f := range l.workflows() {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	w.RegisterActivityWithOptions(l.activity, activity.RegisterOptions{Name: "Activity"})
	w.RegisterActivityWithOptions(l.localActivity, activity.RegisterOptions{Name: "LocalActivity"})
	service := nexus.NewService("service")
	if err := service.Register(nexus.NewSyncOperation("operation", l.operation)); err != nil {
		return err
	}
	w.RegisterNexusService(service)
	if err := w.Start(); err != nil {
		return err
	}
	l.worker = w
	return nil
}

// secret is a value of the running workflow.
func (l *lane) secret(ctx workflow.Context, what string) string {
	return l.canary(l.sceneOf(workflow.GetInfo(ctx).WorkflowExecution.ID), what)
}

// notes are the values that a workflow received. Its result contains all of them, like the
// result of a program that summarizes.
type notes struct {
	lane *lane
	all  []any
}

func (n *notes) saw(where string, values ...any) {
	n.lane.saw(where, values...)
	n.all = append(n.all, values...)
}

// result is the result of a workflow.
func (n *notes) result(ctx workflow.Context) string {
	return n.lane.secret(ctx, "result") + " of " + fmt.Sprint(n.all...)
}

// begun notes the input of a workflow.
func (l *lane) begun(ctx workflow.Context, in, more string) *notes {
	n := &notes{lane: l}
	n.saw("workflow input", in, more)
	n.saw("header in a workflow", ctx.Value(headerKey{}))
	n.saw("memo in a workflow", l.memoOf(ctx)...)
	if workflow.HasLastCompletionResult(ctx) {
		var last string
		err := workflow.GetLastCompletionResult(ctx, &last)
		n.saw("last completion result", err, last)
	}
	n.saw("last failure", workflow.GetLastError(ctx))
	return n
}

// echo is the honest workflow after each altered response.
func (l *lane) echo(ctx workflow.Context, in, more string) (string, error) {
	return l.begun(ctx, in, more).result(ctx), nil
}

func (l *lane) activitiesWorkflow(ctx workflow.Context, in, more string) (string, error) {
	n := l.begun(ctx, in, more)
	ctx = workflow.WithActivityOptions(l.with(ctx, "header-activity"), workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, WaitForCancellation: true, Summary: l.secret(ctx, "activity-summary"), RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	carried := in // the input is passed on, as in a pipeline
	for _, name := range []string{"Completes", "Fails", "TimesOut", "FailsAlone"} {
		var got string
		err := workflow.ExecuteActivity(ctx, name, l.secret(ctx, "activity-input"), carried).Get(ctx, &got)
		n.saw("result of an activity", got, err)
		carried = got
	}
	canceling, cancel := workflow.WithCancel(ctx)
	canceled := workflow.ExecuteActivity(canceling, "Cancels", l.secret(ctx, "activity-input"))
	if err := workflow.NewTimerWithOptions(ctx, time.Second, workflow.TimerOptions{Summary: l.secret(ctx, "timer-summary")}).Get(ctx, nil); err != nil {
		return "", err
	}
	cancel()
	var got string
	err := canceled.Get(ctx, &got)
	n.saw("result of a canceled activity", got, err)
	return n.result(ctx), nil
}

func (l *lane) local(ctx workflow.Context, in, more string) (string, error) {
	n := l.begun(ctx, in, more)
	var side, mutable, local string
	n.saw("version", int(workflow.GetVersion(ctx, "first", workflow.DefaultVersion, 1)))
	err := workflow.SideEffectWithOptions(ctx, workflow.SideEffectOptions{Summary: l.secret(ctx, "side-effect-summary")}, func(workflow.Context) any { return l.secret(ctx, "side-effect") }).Get(&side)
	n.saw("side effect", side, err)
	err = workflow.MutableSideEffect(ctx, l.secret(ctx, "mutable-id"), func(workflow.Context) any { return l.secret(ctx, "mutable") }, func(a, b any) bool { return a == b }).Get(&mutable)
	n.saw("mutable side effect", mutable, err)
	lctx := workflow.WithLocalActivityOptions(l.with(ctx, "header-local-activity"), workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: time.Minute, Summary: l.secret(ctx, "local-activity-summary"), RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	err = workflow.ExecuteLocalActivity(lctx, "LocalActivity", l.secret(ctx, "local-activity-input"), "completes").Get(ctx, &local)
	n.saw("result of a local activity", local, err)
	err = workflow.ExecuteLocalActivity(lctx, "LocalActivity", l.secret(ctx, "local-activity-input"), "fails").Get(ctx, &local)
	n.saw("failure of a local activity", err)
	err = errors.Join(
		workflow.UpsertMemo(ctx, map[string]any{"upserted": l.secret(ctx, "memo-upsert")}),
		workflow.UpsertTypedSearchAttributes(ctx, temporal.NewSearchAttributeKeyKeyword(attributeName).ValueSet("public")),
	)
	if err != nil {
		return "", err
	}
	var signal, second string
	c := workflow.GetSignalChannel(ctx, signalName)
	c.Receive(ctx, &signal)
	n.saw("signal", signal)
	carried := side + " and " + local + " and " + signal
	n.saw("version", int(workflow.GetVersion(ctx, "second", workflow.DefaultVersion, 1)))
	err = workflow.SideEffect(ctx, func(workflow.Context) any { return carried }).Get(&second)
	n.saw("second side effect", second, err)
	c.Receive(ctx, &signal)
	n.saw("signal", signal)
	n.saw("version", int(workflow.GetVersion(ctx, "third", workflow.DefaultVersion, 1)))
	n.saw("memo after an upsert", l.memoOf(ctx))
	return n.result(ctx), nil
}

// memoOf reads the memo as a program does.
func (l *lane) memoOf(ctx workflow.Context) (out []any) {
	memo := workflow.GetInfo(ctx).Memo.GetFields()
	for _, k := range sortedKeys(memo) {
		var v any
		out = append(out, l.own.FromPayload(memo[k], &v), v)
	}
	return out
}

func (l *lane) children(ctx workflow.Context, in, more string) (string, error) {
	n := l.begun(ctx, in, more)
	ctx = workflow.WithChildOptions(l.with(ctx, "header-child"), workflow.ChildWorkflowOptions{
		Memo: map[string]any{"child": l.secret(ctx, "child-memo")}, StaticSummary: l.secret(ctx, "child-summary"), StaticDetails: l.secret(ctx, "child-details"),
	})
	carried := in
	for _, name := range []string{"Completes", "Fails", "TimesOut", "Cancels", "Terminates"} {
		var got string
		err := workflow.ExecuteChildWorkflow(ctx, name, l.secret(ctx, "child-input"), carried).Get(ctx, &got)
		n.saw("result of a child", got, err)
		carried = got
	}
	// The SDK opens this result with the namespace that the program names.
	far := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{Namespace: l.foreignNamespace()}) //nolint:staticcheck // deprecated, and in use
	var got string
	err := workflow.ExecuteChildWorkflow(far, "Completes", l.secret(ctx, "child-input")).Get(ctx, &got)
	n.saw("result of a child in another namespace", got, err)
	err = workflow.SignalExternalWorkflow(ctx, "other", "", signalName, l.secret(ctx, "external-signal")).Get(ctx, nil)
	n.saw("external signal", err)
	return n.result(ctx), nil
}

func (l *lane) nexusWorkflow(ctx workflow.Context, in, more string) (string, error) {
	n := l.begun(ctx, in, more)
	c := workflow.NewNexusClient("endpoint", "service")
	for _, name := range []string{"Completes", "Fails", "TimesOut", "Cancels"} {
		var got string
		err := c.ExecuteOperation(ctx, name, l.secret(ctx, "nexus-input"), workflow.NexusOperationOptions{Summary: l.secret(ctx, "nexus-summary")}).Get(ctx, &got)
		n.saw("result of an operation", got, err)
	}
	canceling, cancel := workflow.WithCancel(ctx)
	f := c.ExecuteOperation(canceling, "Lasts", l.secret(ctx, "nexus-input"), workflow.NexusOperationOptions{CancellationType: workflow.NexusOperationCancellationTypeWaitRequested})
	n.saw("start of an operation", f.GetNexusOperationExecution().Get(ctx, nil))
	cancel()
	n.saw("end of an operation", f.Get(ctx, nil))
	return n.result(ctx), nil
}

// continues sends its memo again.
func (l *lane) continues(ctx workflow.Context, in, more string) error {
	n := l.begun(ctx, in, more)
	if err := workflow.UpsertMemo(ctx, map[string]any{"upserted": l.secret(ctx, "memo-upsert")}); err != nil {
		return err
	}
	if err := workflow.Sleep(ctx, time.Second); err != nil {
		return err
	}
	return workflow.NewContinueAsNewError(l.with(ctx, "header-continue-as-new"), "Continues", l.secret(ctx, "continue-as-new-input")+fmt.Sprint(n.all...), in)
}

// fails fails with the failure of an activity, which is sent again.
func (l *lane) fails(ctx workflow.Context, in, more string) error {
	n := l.begun(ctx, in, more)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
	err := workflow.ExecuteActivity(ctx, "FailsAlone", l.secret(ctx, "activity-input")).Get(ctx, nil)
	n.saw("failure of an activity", err)
	return temporal.NewApplicationErrorWithCause(l.secret(ctx, "failure"), "Type", err, l.secret(ctx, "failure-details")+fmt.Sprint(n.all...))
}

// cancels ends as canceled, with details.
func (l *lane) cancels(ctx workflow.Context, in, more string) error {
	n := l.begun(ctx, in, more)
	if err := workflow.Sleep(ctx, time.Second); err != nil {
		return err
	}
	return temporal.NewCanceledError(l.secret(ctx, "canceled-details") + fmt.Sprint(n.all...))
}

// talks answers queries and updates, and receives signals.
func (l *lane) talks(ctx workflow.Context, in, more string) (string, error) {
	n := l.begun(ctx, in, more)
	updates := 0
	query := func(arg string) (string, error) {
		n.saw("argument of a query", arg)
		return l.secret(ctx, "query-result") + " of " + arg, nil
	}
	update := func(uctx workflow.Context, arg string) (string, error) {
		updates++
		n.saw("argument of an update", arg)
		n.saw("header of an update", uctx.Value(headerKey{}))
		if updates == 2 {
			return "", temporal.NewApplicationError(l.secret(ctx, "update-failure"), "Type", l.secret(ctx, "update-failure-details"))
		}
		return l.secret(ctx, "update-result") + " of " + arg, nil
	}
	validate := func(_ workflow.Context, arg string) error {
		n.saw("argument of a validator", arg)
		return nil
	}
	if err := errors.Join(
		workflow.SetQueryHandler(ctx, "query", query),
		workflow.SetUpdateHandlerWithOptions(ctx, "update", update, workflow.UpdateHandlerOptions{Validator: validate}),
	); err != nil {
		return "", err
	}
	for range 2 {
		var signal string
		workflow.GetSignalChannel(ctx, signalName).Receive(ctx, &signal)
		n.saw("signal", signal)
	}
	return n.result(ctx), nil
}

// localActivity notes its input; its result holds a secret.
func (l *lane) localActivity(ctx context.Context, in, how string) (string, error) {
	l.saw("input of a local activity", in)
	l.saw("header in a local activity", ctx.Value(headerKey{}))
	n := l.sceneOf(activity.GetInfo(ctx).WorkflowExecution.ID)
	if how == "fails" {
		return "", temporal.NewApplicationError(l.canary(n, "local-failure"), "Type", l.canary(n, "local-failure-details"))
	}
	return l.canary(n, "local-result") + " of " + in, nil
}

func (l *lane) activity(ctx context.Context, in, more string) (string, error) {
	l.saw("input of an activity", in, more)
	l.saw("header in an activity", ctx.Value(headerKey{}))
	n := l.sceneOf(activity.GetInfo(ctx).ActivityID)
	if activity.HasHeartbeatDetails(ctx) {
		var last string
		err := activity.GetHeartbeatDetails(ctx, &last)
		l.saw("heartbeat details in an activity", last, err)
	}
	activity.RecordHeartbeat(ctx, l.canary(n, "heartbeat"))
	switch activity.GetInfo(ctx).ActivityID {
	case "fails":
		return "", temporal.NewApplicationErrorWithCause(l.canary(n, "failure"), "Type", errors.New(l.canary(n, "cause")), l.canary(n, "details"))
	case "cancels":
		return "", temporal.NewCanceledError(l.canary(n, "details"))
	}
	return l.canary(n, "result") + " of " + in, nil
}

func (l *lane) operation(_ context.Context, in string, _ nexus.StartOperationOptions) (string, error) {
	l.saw("input of an operation", in)
	if in == "" {
		return "", nexus.NewOperationFailedErrorf("%s", l.canary(0, "operation-failure"))
	}
	return l.canary(0, "operation-result") + " of " + in, nil
}

// headerKey is the context key of the value that the propagator read.
type headerKey struct{}

// with returns a context with which calls send a header.
func (l *lane) with(ctx workflow.Context, what string) workflow.Context {
	return workflow.WithValue(ctx, headerKey{}, l.secret(ctx, what))
}

// propagator carries a string in headers, as programs do, and notes every header that it
// receives.
type propagator struct{ lane *lane }

var _ workflow.ContextPropagator = propagator{}

func (p propagator) write(v any, w workflow.HeaderWriter) error {
	s, ok := v.(string)
	if !ok {
		return nil
	}
	payload, err := converter.GetDefaultDataConverter().ToPayload(s)
	w.Set(headerOwn, payload)
	return err
}

func (p propagator) Inject(ctx context.Context, w workflow.HeaderWriter) error {
	return p.write(ctx.Value(headerKey{}), w)
}

func (p propagator) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	return p.write(ctx.Value(headerKey{}), w)
}

// read returns the program's header. It reads only strings.
func (p propagator) read(r workflow.HeaderReader) (own any) {
	_ = r.ForEachKey(func(key string, payload *commonpb.Payload) error {
		var v string
		if err := converter.GetDefaultDataConverter().FromPayload(payload, &v); err != nil {
			return nil //nolint:nilerr // as said above
		}
		p.lane.saw("header in a propagator", v)
		if key == headerOwn {
			own = v
		}
		return nil
	})
	return own
}

func (p propagator) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	return context.WithValue(ctx, headerKey{}, p.read(r)), nil
}

func (p propagator) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	return workflow.WithValue(ctx, headerKey{}, p.read(r)), nil
}

// noting is an interceptor that notes the values that it receives, in both directions.
type noting struct {
	interceptor.WorkerInterceptorBase
	lane *lane
}

func (n *noting) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &notingActivity{interceptor.ActivityInboundInterceptorBase{Next: next}, n.lane}
}

type notingActivity struct {
	interceptor.ActivityInboundInterceptorBase
	lane *lane
}

func (n *notingActivity) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	n.lane.saw("arguments in an interceptor", in.Args...)
	n.lane.sawHeader(interceptor.Header(ctx))
	out, err := n.Next.ExecuteActivity(ctx, in)
	return out, err
}

func (n *noting) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &notingWorkflow{interceptor.WorkflowInboundInterceptorBase{Next: next}, n.lane}
}

type notingWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
	lane *lane
}

func (n *notingWorkflow) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	n.lane.saw("arguments in an interceptor", in.Args...)
	n.lane.sawHeader(interceptor.WorkflowHeader(ctx))
	return n.Next.ExecuteWorkflow(ctx, in)
}

func (n *notingWorkflow) ExecuteUpdate(ctx workflow.Context, in *interceptor.UpdateInput) (any, error) {
	n.lane.saw("arguments in an interceptor", in.Args...)
	n.lane.sawHeader(interceptor.WorkflowHeader(ctx))
	return n.Next.ExecuteUpdate(ctx, in)
}

func (n *notingWorkflow) HandleQuery(ctx workflow.Context, in *interceptor.HandleQueryInput) (any, error) {
	n.lane.saw("arguments in an interceptor", in.Args...)
	n.lane.sawHeader(interceptor.WorkflowHeader(ctx))
	return n.Next.HandleQuery(ctx, in)
}

// sawHeader notes the headers that an interceptor reads, as programs do.
func (l *lane) sawHeader(h map[string]*commonpb.Payload) {
	for _, k := range sortedKeys(h) {
		var v string
		if err := converter.GetDefaultDataConverter().FromPayload(h[k], &v); err == nil {
			l.saw("header in an interceptor", v)
		}
	}
}

// describe is a program's text of a value.
func describe(v any) string { return fmt.Sprintf("%+v", v) }
