package codec_test

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// TestQueriesGetErrors: a panic in a query leaves its asker without an answer.
func TestQueriesGetErrors(t *testing.T) {
	for _, with := range []string{"SetQueryHandler", "SetQueryHandlerWithOptions"} {
		t.Run(with, func(t *testing.T) {
			c, backend := newCodec(t, onePolicy)
			dc := codec.NewDataConverter(c, testNamespace, nil)
			var o worker.Options
			p := codec.NewPlugin(c)
			if err := p.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: new(client.Options)}); err != nil {
				t.Fatal(err)
			}
			if err := p.ConfigureWorker(t.Context(), worker.PluginConfigureWorkerOptions{WorkerOptions: &o}); err != nil {
				t.Fatal(err)
			}
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestWorkflowEnvironment()
			env.SetWorkerOptions(o)
			env.SetDataConverter(dc)
			env.SetFailureConverter(codec.NewFailureConverter(dc))
			env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
				handler := func(s string) (string, error) { return s + ", CANARY", nil }
				if with == "SetQueryHandler" {
					return workflow.SetQueryHandler(ctx, "state", handler)
				}
				return workflow.SetQueryHandlerWithOptions(ctx, "state", handler, workflow.QueryHandlerOptions{Description: "tells"})
			}, workflow.RegisterOptions{Name: "Order"})
			env.SetTestTimeout(time.Minute)
			env.ExecuteWorkflow("Order")
			ask := func() (string, error) {
				value, err := env.QueryWorkflow("state", "x")
				if err != nil {
					return "", err
				}
				var got string
				return got, value.Get(&got)
			}
			if got, err := ask(); err != nil || got != "x, CANARY" {
				t.Fatalf("the query said %q, %v", got, err)
			}
			backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
			for range 1000 { // until the data keys wrapped ahead are used up
				if _, err := ask(); err != nil {
					if !strings.Contains(err.Error(), "unavailable") || strings.Contains(err.Error(), "CANARY") {
						t.Errorf("the query failed with %v", err)
					}
					return
				}
			}
			t.Error("the query was answered throughout")
		})
	}
}
