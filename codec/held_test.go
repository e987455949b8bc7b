package codec_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

const holdPolicy = `
keys: {a: {uri: "fake://a"}}
seal:
  - {match: {namespace: "strict"}, keys: [a], holdWorkflows: true, requireSealed: true}
  - {match: {namespace: "*", workflowType: "Order"}, keys: [a], holdWorkflows: true}
  - {match: {namespace: "default-*"}, keys: [a]}
`

// testNamespace is the namespace of the SDK's test environment.
const testNamespace = "default-test-namespace"

// inWorkflow calls f in workflow code with the converter that the SDK would use there. It
// returns f's panic value and error.
func inWorkflow(t *testing.T, dc converter.DataConverter, f func(converter.DataConverter) error) (panicked any, failed error) {
	t.Helper()
	if err := runWorkflow(t, dc, func(ctx workflow.Context) error {
		defer func() { panicked = recover() }()
		failed = f(dc.(workflow.ContextAware).WithWorkflowContext(ctx))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return panicked, failed
}

// heldIn returns the *HeldError of a panic that makes the SDK fail the workflow task.
func heldIn(panicked any) (*codec.HeldError, bool) {
	err, _ := panicked.(error)
	_, fails := errors.AsType[*converter.WorkflowTaskFailureError](err)
	held, ok := errors.AsType[*codec.HeldError](err)
	return held, ok && fails
}

func TestWhatHoldsAWorkflow(t *testing.T) {
	for _, tc := range []struct {
		name, policy string
		held         []kms.Class
	}{
		{"onDenied: fail", failRefused, []kms.Class{kms.Unavailable, kms.Throttled, kms.Invalid}},
		{"by default", onePolicy, []kms.Class{kms.Unavailable, kms.Throttled, kms.Denied, kms.Disabled, kms.NotFound, kms.Invalid}},
		{"holdWorkflows", holdPolicy, []kms.Class{kms.Unavailable, kms.Throttled, kms.Denied, kms.Disabled, kms.NotFound, kms.Invalid}},
	} {
		for _, class := range kms.Classes() {
			if class == kms.Canceled { // workflow code is not canceled
				continue
			}
			t.Run(tc.name+"/"+class.String(), func(t *testing.T) {
				want := false
				for _, held := range tc.held {
					want = want || held == class
				}
				for name, convert := range map[string]func(converter.DataConverter) error{
					"encode": func(dc converter.DataConverter) error {
						_, err := dc.ToPayload("CANARY")
						return err
					},
					"decode": func(dc converter.DataConverter) error {
						var s string
						return dc.FromPayload(sealedElsewhere(t, "fake://a"), &s)
					},
				} {
					c, backend := newCodec(t, tc.policy)
					dc := codec.NewDataConverter(c, testNamespace, nil)
					backend.Fake("a").Always(kmstest.Fail(class))
					panicked, failed := inWorkflow(t, dc, convert)
					held, ok := heldIn(panicked)
					if ok != want || (failed == nil) != want {
						t.Fatalf("%s: panic %v, error %v", name, panicked, failed)
					}
					if ok && (kms.ClassOf(held) != class || !strings.Contains(held.Error(), class.String()) ||
						!strings.Contains(held.Error(), "fake://a") || strings.Contains(held.Error(), "CANARY")) {
						t.Errorf("%s: the panic is %v", name, held)
					}
					// Outside workflow code it is always an error.
					wantClass(t, convert(dc.(workflow.ContextAware).WithContext(t.Context())), class)
				}
			})
		}
	}
}

// sealedElsewhere returns a payload that another process sealed under a fake key.
func sealedElsewhere(t *testing.T, uri string) *commonpb.Payload {
	t.Helper()
	return sealedIn(t, testNamespace, uri)
}

func sealedIn(t *testing.T, namespace, uri string) *commonpb.Payload {
	t.Helper()
	other, _ := newCodec(t, `{keys: {k: {uri: "`+uri+`"}}, seal: [{match: {namespace: "*"}, keys: [k]}]}`)
	return encode(t, other, namespace, payload(t, "CANARY"))[0]
}

func TestHoldWorkflowsIgnoresPolicyRefusals(t *testing.T) {
	c, _ := newCodec(t, holdPolicy)
	for _, tc := range []struct {
		name, namespace string
		convert         func(dc converter.DataConverter) error
		held            bool
	}{
		{"another namespace's payload", testNamespace, func(dc converter.DataConverter) error {
			return dc.FromPayload(sealedIn(t, "foreign", "fake://a"), new(string))
		}, false},
		{"plaintext where it must be sealed", "strict", func(dc converter.DataConverter) error {
			return dc.FromPayload(payload(t, "x"), new(string))
		}, false},
		{"plaintext of a child elsewhere", "strict", func(dc converter.DataConverter) error {
			child := converter.WithDataConverterSerializationContext(dc, converter.WorkflowSerializationContext{Namespace: "lax", WorkflowID: "w"})
			return child.FromPayload(payload(t, "x"), new(string))
		}, false},
		{"no rule", testNamespace, func(dc converter.DataConverter) error {
			in := converter.WithDataConverterSerializationContext(dc, converter.WorkflowSerializationContext{Namespace: "unruly", WorkflowID: "w"})
			_, err := in.ToPayload("x")
			return err
		}, false},
		{"a key that is not configured yet", testNamespace, func(dc converter.DataConverter) error {
			return dc.FromPayload(sealedElsewhere(t, "fake://b"), new(string))
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			panicked, failed := inWorkflow(t, codec.NewDataConverter(c, tc.namespace, nil), tc.convert)
			held, ok := heldIn(panicked)
			if ok != tc.held || (failed == nil) != tc.held {
				t.Fatalf("panic %v, error %v", panicked, failed)
			}
			if err := failed; !ok {
				wantClass(t, err, kms.Denied)
			} else if held.Hint() == "" || !errors.Is(held, held.Err) {
				t.Errorf("%v advises %q", held, held.Hint())
			}
		})
	}
}

// TestWorkflowWait lets a KMS hang: a conversion in workflow code gives up sooner than others.
func TestWorkflowWait(t *testing.T) {
	backend := kmstest.NewBackend()
	p, err := policy.Parse("test.yaml", []byte(onePolicy))
	if err != nil {
		t.Fatal(err)
	}
	const wait = 100 * time.Millisecond
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend), WorkflowWait: wait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	sealed := sealedElsewhere(t, "fake://a")
	backend.Fake("a").Always(kmstest.Stall())
	panicked, _ := inWorkflow(t, codec.NewDataConverter(c, testNamespace, nil), func(dc converter.DataConverter) error {
		return dc.FromPayload(sealed, new(string))
	})
	held, ok := heldIn(panicked)
	if !ok || kms.ClassOf(held) != kms.Unavailable || !strings.Contains(held.Error(), "no answer within 100ms") {
		t.Errorf("panic %v", panicked)
	}
}

func TestWorkflowWaitIsChecked(t *testing.T) {
	p := policy.Default("fake://a")
	if _, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(kmstest.NewBackend()), WorkflowWait: -1}); err == nil {
		t.Error("a negative wait is taken")
	}
}
