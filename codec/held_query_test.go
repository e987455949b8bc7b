package codec_test

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// A panic in the handler of a query would leave the query without an answer. The handler gets
// an error instead.
func TestQueriesGetErrors(t *testing.T) {
	for _, with := range []string{"SetQueryHandler", "SetQueryHandlerWithOptions"} {
		t.Run(with, func(t *testing.T) {
			c, backend := newCodec(t, onePolicy)
			env := pluginEnvironment(t, codec.NewPlugin(c))
			env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
				handler := func(s string) (string, error) { return s + ", CANARY", nil }
				if with == "SetQueryHandler" {
					return workflow.SetQueryHandler(ctx, "state", handler)
				}
				return workflow.SetQueryHandlerWithOptions(ctx, "state", handler, workflow.QueryHandlerOptions{Description: "the state"})
			}, workflow.RegisterOptions{Name: "Order"})
			env.SetTestTimeout(time.Minute)
			env.ExecuteWorkflow("Order")
			query := func() (string, error) {
				value, err := env.QueryWorkflow("state", "x")
				if err != nil {
					return "", err
				}
				var got string
				return got, value.Get(&got)
			}
			if got, err := query(); err != nil || got != "x, CANARY" {
				t.Fatalf("the query returned %q, %v", got, err)
			}
			backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
			for range 1000 { // until the data keys wrapped ahead are used up
				if _, err := query(); err != nil {
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
