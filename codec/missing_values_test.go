package codec_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// The other functions that read several values, or one that may be missing.
func TestMissingValuesAreRefused(t *testing.T) {
	c, _ := newCodec(t, sealedOnly)
	dc := codec.NewDataConverter(c, "n", nil)
	sealed := &commonpb.Payloads{Payloads: encode(t, c, "n", payload(t, "a"))}
	var a, b string
	var v workflow.Version
	for name, read := range map[string]func() error{
		"values":   func() error { return dc.FromPayloads(sealed, &a, &b) },
		"nothing":  func() error { return dc.FromPayloads(nil, &a) },
		"version":  func() error { return dc.FromPayloads(&commonpb.Payloads{}, &v) },
		"of Nexus": func() error { return dc.FromPayload(nil, &a) },
		"details of an error": func() error {
			failures := codec.NewFailureConverter(dc)
			return failures.FailureToError(&failurepb.Failure{FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
				ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Details: sealed},
			}}).(interface{ Details(...any) error }).Details(&a, &b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := read()
			wantClass(t, err, kms.Corrupt)
			var hinted interface{ Hint() string }
			if !strings.Contains(err.Error(), missing) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "RefuseMissingArguments") {
				t.Errorf("got %v", err)
			}
		})
	}
	activityResult := converter.WithDataConverterSerializationContext(dc, converter.ActivitySerializationContext{Namespace: "n"})
	var noValue *struct{}
	for name, read := range map[string]func() error{
		"nothing for nothing":                    func() error { return dc.FromPayloads(nil) },
		"a result that a client describes":       func() error { return activityResult.FromPayloads(nil, &a) },
		"no input of an operation that has none": func() error { return dc.FromPayload(nil, &noValue) },
		"fewer than there are":                   func() error { return dc.FromPayloads(sealed) },
		"another namespace's rule": func() error {
			return codec.NewDataConverter(c, "", nil).FromPayloads(nil, &a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := read(); err != nil {
				t.Error(err)
			}
		})
	}
}

// pluginEnvironment is the SDK's test environment with the parts that the plugin gives a
// worker.
func pluginEnvironment(t *testing.T, plugin *codec.Plugin) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	o := client.Options{Namespace: "default-test-namespace"} // the namespace of the SDK's environment
	var w worker.Options
	if err := plugin.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}); err != nil {
		t.Fatal(err)
	}
	for _, i := range o.Interceptors { // as the SDK takes them over
		if i, ok := i.(interceptor.WorkerInterceptor); ok {
			w.Interceptors = append(w.Interceptors, i)
		}
	}
	if err := plugin.ConfigureWorker(t.Context(), worker.PluginConfigureWorkerOptions{WorkerOptions: &w}); err != nil {
		t.Fatal(err)
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(silent{})
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(w)
	env.SetDataConverter(o.DataConverter)
	env.SetFailureConverter(o.FailureConverter)
	return env
}

// A function that returns a nil pointer sends no result, and its caller reads nil, anywhere in
// workflow code.
func TestNilResultsAreRead(t *testing.T) {
	read := func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
		var pointer *string
		var value string
		return errors.Join(
			workflow.ExecuteActivity(ctx, "Nil").Get(ctx, &pointer),
			workflow.ExecuteActivity(ctx, "Nil").Get(ctx, &value),
			workflow.ExecuteLocalActivity(ctx, "Nil").Get(ctx, &pointer),
			workflow.ExecuteChildWorkflow(ctx, "NilChild").Get(ctx, &pointer),
		)
	}
	inGoroutine := func(ctx workflow.Context) (err error) {
		done := workflow.NewChannel(ctx)
		workflow.Go(ctx, func(ctx workflow.Context) {
			err = read(ctx)
			done.Close()
		})
		done.Receive(ctx, nil)
		return err
	}
	inUpdate := func(ctx workflow.Context) (err error) {
		updated := false
		set := workflow.SetUpdateHandler(ctx, "update", func(ctx workflow.Context) error {
			err, updated = read(ctx), true
			return nil
		})
		return errors.Join(set, workflow.Await(ctx, func() bool { return updated }), err)
	}
	for name, order := range map[string]func(workflow.Context) error{"in the workflow": read, "in a goroutine": inGoroutine, "in an update": inUpdate} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCodec(t, onePolicy)
			env := pluginEnvironment(t, codec.NewPlugin(c, codec.RefuseMissingArguments(true)))
			env.RegisterWorkflowWithOptions(order, workflow.RegisterOptions{Name: "Order"})
			env.RegisterWorkflowWithOptions(func(workflow.Context) (*string, error) { return nil, nil }, workflow.RegisterOptions{Name: "NilChild"})
			env.RegisterActivityWithOptions(func() (*string, error) { return nil, nil }, activity.RegisterOptions{Name: "Nil"})
			if name == "in an update" {
				env.RegisterDelayedCallback(func() { env.UpdateWorkflowNoRejection("update", "u", t) }, 0)
			}
			env.SetTestTimeout(time.Minute)
			env.ExecuteWorkflow("Order")
			if err := env.GetWorkflowError(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A dynamic workflow, heartbeats and a replayer read several values too.
func TestMissingValuesElsewhere(t *testing.T) {
	refuse := codec.RefuseMissingArguments(true)
	t.Run("dynamic workflow", func(t *testing.T) {
		c, _ := newCodec(t, onePolicy)
		env := pluginEnvironment(t, codec.NewPlugin(c, refuse))
		env.RegisterDynamicWorkflow(func(_ workflow.Context, args converter.EncodedValues) error {
			var a, b string
			return args.Get(&a, &b)
		}, workflow.DynamicRegisterOptions{})
		env.ExecuteWorkflow("Any", "a")
		if err := env.GetWorkflowError(); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("heartbeat", func(t *testing.T) {
		c, _ := newCodec(t, onePolicy)
		var suite testsuite.WorkflowTestSuite
		suite.SetLogger(silent{})
		env := suite.NewTestActivityEnvironment()
		env.SetDataConverter(codec.NewDataConverter(c, testNamespace, nil, refuse))
		env.SetHeartbeatDetails("a")
		var one, two error
		env.RegisterActivityWithOptions(func(ctx context.Context) error {
			var a, b string
			one, two = activity.GetHeartbeatDetails(ctx, &a), activity.GetHeartbeatDetails(ctx, &a, &b)
			return nil
		}, activity.RegisterOptions{Name: "Beats"})
		if _, err := env.ExecuteActivity("Beats"); err != nil {
			t.Fatal(err)
		}
		if one != nil {
			t.Error(one)
		}
		wantClass(t, two, kms.Corrupt)
	})
	t.Run("replayer", func(t *testing.T) {
		for _, refused := range []bool{false, true} {
			c, _ := newCodec(t, sealedOnly)
			var options []codec.ConverterOption
			if refused { // the namespace of a replayer is made up, so no rule of it decides
				options = append(options, refuse)
			}
			r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: []worker.Plugin{codec.NewPlugin(c, options...)}})
			if err != nil {
				t.Fatal(err)
			}
			registerReaders(r.RegisterWorkflowWithOptions, func(any, activity.RegisterOptions) {})
			for name, of := range map[string]struct {
				h       *dropHistory
				refused bool
			}{
				"input":      {begin("One", nil).task().completed(), true},
				"nil result": {begin("Calling", nil).task().completed().activity(nil).task().completed(), false},
			} {
				err := r.ReplayWorkflowHistory(silent{}, &historypb.History{Events: of.h.events})
				if got := err != nil && strings.Contains(err.Error(), missing); got != (refused && of.refused) {
					t.Errorf("%s, refused %v: %v", name, refused, err)
				}
			}
		}
	})
}
