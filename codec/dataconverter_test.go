package codec_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func withActivity(dc converter.DataConverter, ns, workflowID, activityType string) converter.DataConverter {
	return converter.WithDataConverterSerializationContext(dc, converter.ActivitySerializationContext{
		Namespace: ns, WorkflowID: workflowID, WorkflowType: "Order", ActivityType: activityType, TaskQueue: "q",
	})
}

func TestDataConverter(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	dc := codec.NewDataConverter(c, "n", nil)
	p, err := dc.ToPayload("CANARY")
	if err != nil || !codec.ClaimsSealed(p) {
		t.Fatal(p, err)
	}
	var s string
	if err := dc.FromPayload(p, &s); err != nil || s != "CANARY" {
		t.Errorf("%q, %v", s, err)
	}
	if got := dc.ToString(p); got != `"CANARY"` {
		t.Errorf("ToString: %s", got)
	}
	ps, err := dc.ToPayloads("a", 2)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := dc.FromPayloads(ps, &s, &n); err != nil || s != "a" || n != 2 {
		t.Errorf("%q %d %v", s, n, err)
	}
	ps.Payloads[1].Data = nil
	got := dc.ToStrings(ps)
	if got[0] != `"a"` || !strings.Contains(got[1], "corrupt") {
		t.Errorf("ToStrings: %q", got)
	}
	if ps, err := dc.ToPayloads(); err != nil || len(ps.GetPayloads()) != 0 {
		t.Errorf("no values: %v, %v", ps, err)
	}
	if err := dc.FromPayloads(nil, &s); err != nil {
		t.Error(err)
	}
	if err := dc.FromPayload(nil, &s); err != nil || dc.ToStrings(nil) != nil {
		t.Error(err)
	}
}

func TestNoPlaintextBesideAnError(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	dc := codec.NewDataConverter(c, "n", nil)
	if p, err := dc.ToPayload("CANARY"); err == nil || p != nil {
		t.Errorf("ToPayload: %v, %v", p, err)
	}
	if p, err := dc.ToPayloads("CANARY"); err == nil || p != nil {
		t.Errorf("ToPayloads: %v, %v", p, err)
	}
	if p, err := c.PayloadCodec("n").Encode([]*commonpb.Payload{payload(t, "CANARY")}); err == nil || p != nil {
		t.Errorf("Encode: %v, %v", p, err)
	}
	if p, err := dc.ToPayload(make(chan int)); err == nil || p != nil {
		t.Errorf("a value that the parent cannot convert: %v, %v", p, err)
	}
}

func TestSerializationContextChoosesTheRule(t *testing.T) {
	c, _ := newCodec(t, `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}, c: {uri: "fake://c"}}
seal:
  - {match: {namespace: "n", activityType: "Charge*", taskQueue: "q", workflowType: "Order"}, keys: [b]}
  - {match: {namespace: "other"}, keys: [c]}
  - {match: {namespace: "*"}, keys: [a]}
`)
	dc := codec.NewDataConverter(c, "n", nil)
	for _, tc := range []struct {
		name string
		dc   converter.DataConverter
		want string
	}{
		{"no context", dc, "fake://a@1"},
		{"activity", withActivity(dc, "n", "w", "ChargeCard"), "fake://b@1"},
		{"another activity", withActivity(dc, "n", "w", "Ship"), "fake://a@1"},
		{"activity, then workflow", converter.WithDataConverterSerializationContext(withActivity(dc, "n", "w", "ChargeCard"), converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "w"}), "fake://a@1"},
		{"workflow in another namespace", converter.WithDataConverterSerializationContext(dc, converter.WorkflowSerializationContext{Namespace: "other"}), "fake://c@1"},
		{"activity in another namespace", withActivity(dc, "other", "w", "x"), "fake://c@1"},
		{"context without a namespace", converter.WithDataConverterSerializationContext(dc, converter.WorkflowSerializationContext{WorkflowID: "w"}), "fake://a@1"},
		{"nexus", converter.WithDataConverterSerializationContext(dc, converter.NexusSerializationContext{Endpoint: "e"}), "fake://a@1"},
	} {
		p, err := tc.dc.ToPayload("x")
		if err != nil {
			t.Fatal(err)
		}
		if got := codec.KeyIDs(p)[0]; got != tc.want {
			t.Errorf("%s: sealed under %s, want %s", tc.name, got, tc.want)
		}
	}
	inOther, err := withActivity(dc, "other", "w", "x").ToPayload("x")
	if err != nil {
		t.Fatal(err)
	}
	var s string
	wantClass(t, dc.FromPayload(inOther, &s), kms.Denied)
}

// runWorkflow runs a workflow in the SDK's test environment with the converter, and returns the
// workflow's error.
func runWorkflow(t *testing.T, dc converter.DataConverter, f func(workflow.Context) error) (err error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetDataConverter(dc)
	env.SetFailureConverter(codec.NewFailureConverter(dc))
	env.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: "Order"})
	env.ExecuteWorkflow("Order")
	return env.GetWorkflowError()
}

func TestWorkflowTypeIsKnownInWorkflowCode(t *testing.T) {
	c, _ := newCodec(t, `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}}
seal:
  - {match: {namespace: "*", workflowType: "Order"}, keys: [b]}
  - {match: {namespace: "*"}, keys: [a]}
`)
	dc := codec.NewDataConverter(c, "n", nil)
	var sealed *commonpb.Payload
	err := runWorkflow(t, dc, func(ctx workflow.Context) (err error) {
		wf := dc.(workflow.ContextAware).WithWorkflowContext(ctx)
		sealed, err = wf.ToPayload("x")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := codec.KeyIDs(sealed)[0]; got != "fake://b@1" {
		t.Errorf("sealed under %s", got)
	}
}

func TestCallersContextEndsTheCall(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	backend.Fake("a").Always(kmstest.Stall())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := codec.NewDataConverter(c, "n", nil).(workflow.ContextAware).WithContext(ctx).ToPayload("x")
	wantClass(t, err, kms.Canceled)
}

func TestFailureConverter(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	dc := codec.NewDataConverter(c, "n", nil)
	fc := codec.NewFailureConverter(dc)
	cause := temporal.NewApplicationErrorWithOptions("CANARY cause", "Inner", temporal.ApplicationErrorOptions{Details: []any{"CANARY detail"}})
	err := temporal.NewApplicationErrorWithOptions("CANARY outer", "Outer", temporal.ApplicationErrorOptions{Cause: cause, NonRetryable: true})
	f := fc.ErrorToFailure(err)
	if s := f.String(); strings.Contains(s, "CANARY") {
		t.Fatalf("plaintext in %s", s)
	}
	var got *temporal.ApplicationError
	if back := fc.FailureToError(f); !errors.As(back, &got) || !strings.Contains(got.Error(), "CANARY outer") || !got.NonRetryable() || got.Type() != "Outer" {
		t.Errorf("outer: %v", got)
	}
	var detail string
	if !errors.As(errors.Unwrap(got), &got) || !strings.Contains(got.Error(), "CANARY cause") || got.Details(&detail) != nil || detail != "CANARY detail" {
		t.Errorf("cause: %v, detail %q", got, detail)
	}

	t.Run("an error that came from the server keeps its sealed form", func(t *testing.T) {
		again := fc.ErrorToFailure(fc.FailureToError(f))
		if again.GetEncodedAttributes() == nil || strings.Contains(again.String(), "CANARY") {
			t.Errorf("%s", again)
		}
	})
	t.Run("converting does not mutate", func(t *testing.T) {
		if strings.Contains(f.String(), "CANARY") {
			t.Errorf("%s", f)
		}
	})
	t.Run("an opened failure is not sent opened", func(t *testing.T) {
		opened := proto.CloneOf(f)
		plain := temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})
		_ = plain.FailureToError(opened) // opens in place
		again := fc.ErrorToFailure(plain.FailureToError(opened))
		if !strings.Contains(opened.String(), "CANARY") || strings.Contains(again.String(), "CANARY") {
			t.Errorf("%s", again)
		}
	})
	t.Run("a long stack trace", func(t *testing.T) {
		f := fc.ErrorToFailure(panicError(t, strings.Repeat("frame\n", 5000)))
		if n := len(f.GetEncodedAttributes().GetData()); n > 3000 {
			t.Errorf("%d bytes sealed", n)
		}
	})
	t.Run("sealing fails", func(t *testing.T) {
		for _, class := range []kms.Class{kms.Unavailable, kms.Throttled, kms.Denied, kms.NotFound, kms.Disabled, kms.Internal} {
			t.Run(class.String(), func(t *testing.T) {
				cold := newCodecOn(t, onePolicy, backend)
				backend.Fake("a").Always(kmstest.Fail(class))
				defer backend.Fake("a").Heal()
				f := codec.NewFailureConverter(codec.NewDataConverter(cold, "n", nil)).ErrorToFailure(errors.New("CANARY"))
				if strings.Contains(f.String(), "CANARY") || f.GetApplicationFailureInfo() == nil {
					t.Errorf("%s", f)
				}
				if want := "could not be sealed (" + class.String() + ")"; !strings.Contains(f.GetMessage(), want) {
					t.Errorf("%q does not contain %q", f.GetMessage(), want)
				}
			})
		}
	})
	t.Run("serialization context", func(t *testing.T) {
		other := converter.WithFailureConverterSerializationContext(fc, converter.WorkflowSerializationContext{Namespace: "other"})
		f := other.ErrorToFailure(errors.New("CANARY"))
		if err := fc.FailureToError(f); strings.Contains(err.Error(), "CANARY") {
			t.Error("opened in a foreign namespace")
		}
		if err := other.FailureToError(f); strings.Contains(err.Error(), "CANARY") {
			t.Error("opened by the rules of the addressee")
		}
		if err := codec.NewFailureConverter(codec.NewDataConverter(c, "other", nil)).FailureToError(f); !strings.Contains(err.Error(), "CANARY") {
			t.Errorf("got %v", err)
		}
	})
	if fc.ErrorToFailure(nil) != nil || fc.FailureToError(nil) != nil {
		t.Error("nil is not nil")
	}
}

// panicError is the error that the SDK makes of a panic with this stack in an activity.
func panicError(t *testing.T, stack string) error {
	t.Helper()
	plain := temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{})
	f := plain.ErrorToFailure(errors.New("boom"))
	f.GetApplicationFailureInfo().Type = "PanicError"
	f.StackTrace = stack
	err := plain.FailureToError(f)
	var p *temporal.PanicError
	if !errors.As(err, &p) {
		t.Fatalf("%T is not a PanicError", err)
	}
	return p
}
