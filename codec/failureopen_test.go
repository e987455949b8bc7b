package codec_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// A failure that cannot be opened says why, and is sent on unchanged.
func TestFailuresThatDoNotOpen(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	theirs := codec.NewFailureConverter(codec.NewDataConverter(c, "theirs", nil)).ErrorToFailure(
		temporal.NewApplicationErrorWithCause("CANARY outer", "Outer", errors.New("CANARY inner"), "CANARY details"))
	mixed := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)).ErrorToFailure(errors.New("ours"))
	mixed.Cause = proto.CloneOf(theirs)
	altered := proto.CloneOf(theirs)
	altered.EncodedAttributes.Data = altered.EncodedAttributes.Data[:20]
	fc := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil))
	for name, tc := range map[string]struct {
		f    *failurepb.Failure
		want []string
	}{
		"another namespace":          {theirs, []string{`Encoded failure (`, `sealed for namespace "theirs", not for "n")`, "type: Outer"}},
		"a cause of another":         {mixed, []string{"ours", `sealed for namespace "theirs", not for "n")`}},
		"altered, and another's too": {altered, []string{"corrupt", `sealed for namespace "theirs"`}},
	} {
		before := proto.CloneOf(tc.f)
		err := fc.FailureToError(tc.f)
		if !proto.Equal(before, tc.f) {
			t.Errorf("%s: mutated", name)
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", name, err, want)
			}
		}
		var details string
		if app, ok := errors.AsType[*temporal.ApplicationError](err); strings.Contains(err.Error(), "CANARY") || ok && app.HasDetails() && app.Details(&details) == nil {
			t.Errorf("%s: %v, details %q", name, err, details)
		}
		if again := fc.ErrorToFailure(err); !proto.Equal(again, before) {
			t.Errorf("%s: it is sent on as %s", name, again)
		}
		if again := inActivity(c).ErrorToFailure(err); !proto.Equal(again, before) {
			t.Errorf("%s: an activity sends it on as %s", name, again)
		}
	}
}

// TestErrorsComeBack converts errors to failures and back, twice.
func TestErrorsComeBack(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	fc := inActivity(c)
	sentinel := errors.New("sentinel")
	for name, tc := range map[string]struct {
		err   error
		check func(err error) bool
	}{
		"wrapped": {fmt.Errorf("a: %w", fmt.Errorf("b: %w", sentinel)), func(err error) bool {
			first, _ := errors.AsType[*temporal.ApplicationError](err)
			second, _ := errors.AsType[*temporal.ApplicationError](errors.Unwrap(first))
			third, _ := errors.AsType[*temporal.ApplicationError](errors.Unwrap(second))
			return first.Type() == "wrapError" && first.Message() == "a: b: sentinel" && second.Message() == "b: sentinel" && third.Message() == "sentinel" && third.Type() == ""
		}},
		"joined": {errors.Join(errors.New("one"), temporal.NewApplicationError("two", "Two")), func(err error) bool {
			app, ok := errors.AsType[*temporal.ApplicationError](err)
			return ok && app.Type() == "joinError" && strings.Contains(app.Message(), "one\ntwo")
		}},
		"application": {temporal.NewApplicationErrorWithOptions("m", "T", temporal.ApplicationErrorOptions{
			NextRetryDelay: time.Minute, Category: temporal.ApplicationErrorCategoryBenign, Details: []any{"d", 7}, Cause: sentinel,
		}), func(err error) bool {
			app, ok := errors.AsType[*temporal.ApplicationError](err)
			var s string
			var n int
			return ok && app.Type() == "T" && app.NextRetryDelay() == time.Minute && app.Category() == temporal.ApplicationErrorCategoryBenign &&
				app.Details(&s, &n) == nil && s == "d" && n == 7 && strings.Contains(errors.Unwrap(app).Error(), "sentinel")
		}},
		"canceled": {temporal.NewCanceledError("d"), func(err error) bool {
			canceled, ok := errors.AsType[*temporal.CanceledError](err)
			var s string
			return ok && temporal.IsCanceledError(err) && canceled.Details(&s) == nil && s == "d"
		}},
		"timeout": {temporal.NewTimeoutError(3, temporal.NewApplicationError("m", "T"), "beat"), func(err error) bool {
			timeout, ok := errors.AsType[*temporal.TimeoutError](err)
			var s string
			return ok && timeout.TimeoutType() == 3 && timeout.LastHeartbeatDetails(&s) == nil && s == "beat" && strings.Contains(errors.Unwrap(timeout).Error(), "type: T")
		}},
		"panic": {panicError(t, "frame"), func(err error) bool {
			p, ok := errors.AsType[*temporal.PanicError](err)
			return ok && p.Error() == "boom" && p.StackTrace() == "frame"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			once := fc.FailureToError(fc.ErrorToFailure(tc.err))
			for _, err := range []error{once, fc.FailureToError(fc.ErrorToFailure(once)), fc.FailureToError(fc.ErrorToFailure(fmt.Errorf("around: %w", once)))} {
				if !tc.check(err) {
					if inner := errors.Unwrap(err); inner == nil || !tc.check(inner) {
						t.Errorf("%#v: %v", err, err)
					}
				}
			}
		})
	}
}

// fromActivity opens a payload in an activity, and returns the error.
func fromActivity(t *testing.T, dc converter.DataConverter, p *commonpb.Payload) (failed error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterActivityWithOptions(func(ctx context.Context) error {
		failed = dc.(workflow.ContextAware).WithContext(ctx).FromPayload(p, new(string))
		return nil
	}, activity.RegisterOptions{Name: "Open"})
	env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
		return workflow.ExecuteActivity(ctx, "Open").Get(ctx, nil)
	}, workflow.RegisterOptions{Name: "Order"})
	env.ExecuteWorkflow("Order")
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	return failed
}

// An activity that fails because of a KMS outage is retried soon.
func TestRetrySoon(t *testing.T) {
	backend := kmstest.NewBackend()
	p, err := policy.Parse("test.yaml", []byte(`{keys: {a: {uri: "fake://a", resilience: {attempts: 1}}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	// With a real, short wait.
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend), ActivityWait: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	dc := codec.NewDataConverter(c, testNamespace, nil)
	errOf := func(class kms.Class) error {
		backend.Fake("a").Always(kmstest.Fail(class))
		err := fromActivity(t, dc, sealedElsewhere(t, "fake://a"))
		wantClass(t, err, class)
		return err
	}
	out, denied, throttled := errOf(kms.Unavailable), errOf(kms.Denied), errOf(kms.Throttled)
	outside := dc.FromPayload(sealedElsewhere(t, "fake://a"), new(string))
	wantClass(t, outside, kms.Throttled)
	backend.Fake("a").Heal()
	with := func(o temporal.ApplicationErrorOptions) error {
		o.Cause = out
		return temporal.NewApplicationErrorWithOptions("m", "T", o)
	}
	activities := inActivity(c)
	for name, tc := range map[string]struct {
		fc   converter.FailureConverter
		err  error
		want time.Duration
	}{
		"unavailable":                {activities, fmt.Errorf("unable to decode: %w", out), 4 * time.Second},
		"throttled":                  {activities, throttled, 4 * time.Second},
		"joined with others":         {activities, errors.Join(errors.New("x"), out), 4 * time.Second},
		"as the cause of a failure":  {activities, with(temporal.ApplicationErrorOptions{}), 4 * time.Second},
		"with a delay of its own":    {activities, with(temporal.ApplicationErrorOptions{NextRetryDelay: time.Minute}), time.Minute},
		"not retryable":              {activities, with(temporal.ApplicationErrorOptions{NonRetryable: true}), 0},
		"denied":                     {activities, denied, 0},
		"a program's own use of kms": {activities, fmt.Errorf("files: %w", &kms.Error{Class: kms.Unavailable}), 0},
		"met outside an activity":    {activities, outside, 0},
		"not an application failure": {activities, temporal.NewTimeoutError(3, out), 0},
		"another failure":            {activities, errors.New("x"), 0},
		"a workflow's failure":       {codec.NewFailureConverter(dc), out, 0},
	} {
		if got := tc.fc.ErrorToFailure(tc.err).GetApplicationFailureInfo().GetNextRetryDelay().AsDuration(); got != tc.want {
			t.Errorf("%s: to be tried again after %s, want %s", name, got, tc.want)
		}
	}
}

// TestToString reads payloads that the reader may not open, or cannot open now.
func TestToString(t *testing.T) {
	c, backend := newCodec(t, `
keys: {a: {uri: "fake://a"}}
seal:
  - {match: {namespace: "n"}, keys: [a], accept: [friend], requireSealed: true}
  - {match: {namespace: "*"}, keys: [a]}
`)
	in := func(namespace string) *commonpb.Payload {
		return encode(t, c, namespace, payload(t, "CANARY "+namespace))[0]
	}
	plain, nameless := payload(t, "CANARY plain"), in("n")
	delete(nameless.GetMetadata(), codec.MetadataKeyIDs)
	n := codec.NewDataConverter(c, "n", nil)
	moved := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, "theirs", nil), converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "w"})
	for name, tc := range map[string]struct {
		dc   converter.DataConverter
		p    *commonpb.Payload
		want string
	}{
		"its own":                               {n, in("n"), `"CANARY n"`},
		"another namespace's":                   {n, in("theirs"), `sealed for namespace "theirs", not for "n"`},
		"one that is accepted":                  {n, in("friend"), `"CANARY friend"`},
		"the other way round":                   {codec.NewDataConverter(c, "friend", nil), in("n"), `sealed for namespace "n", not for "friend"`},
		"the context's namespace":               {moved, in("n"), `sealed for namespace "n", not for "theirs"`},
		"the client's, elsewhere":               {moved, in("theirs"), `"CANARY theirs"`},
		"plaintext where it must be sealed":     {n, plain, "not sealed"},
		"plaintext elsewhere":                   {codec.NewDataConverter(c, "theirs", nil), plain, `"CANARY plain"`},
		"no key named":                          {n, nameless, "corrupt"},
		"null":                                  {n, nil, "null"},
		"no namespace is known: none's foreign": {codec.NewDataConverter(c, "", nil), in("theirs"), `"CANARY theirs"`},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.dc.ToString(tc.p)
			if !strings.Contains(got, tc.want) || strings.Contains(got, "CANARY") != strings.Contains(tc.want, "CANARY") {
				t.Errorf("%q, want %q", got, tc.want)
			}
			// ToString returns the error of FromPayload.
			if tc.p != nil && (tc.dc.FromPayload(tc.p, new(string)) == nil) != strings.HasPrefix(got, `"`) {
				t.Errorf("FromPayload returns %v", tc.dc.FromPayload(tc.p, new(string)))
			}
			own := in("n")
			list := tc.dc.ToStrings(&commonpb.Payloads{Payloads: []*commonpb.Payload{tc.p, own, tc.p}})
			if d := cmp.Diff([]string{got, tc.dc.ToString(own), got}, list); d != "" {
				t.Error(d)
			}
		})
	}
	if got := n.ToStrings(nil); got != nil {
		t.Errorf("for a nil payload: %q", got)
	}
	if got := n.ToStrings(&commonpb.Payloads{Payloads: []*commonpb.Payload{in("n"), in("n")}}); !cmp.Equal(got, []string{`"CANARY n"`, `"CANARY n"`}) {
		t.Errorf("all at once: %q", got)
	}
	theirs := sealedElsewhere(t, "fake://a")
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	if got := codec.NewDataConverter(c, testNamespace, nil).ToString(theirs); !strings.Contains(got, "denied") || strings.Contains(got, "CANARY") {
		t.Errorf("while the KMS refuses: %q", got)
	}
}

// A program that reports an activity from outside of its worker receives an error if the
// failure could not be sealed, and can report it again.
func TestFailuresFromOutsideAreRefused(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	withheld := func(class kms.Class) *failurepb.Failure {
		cold, backend := newCodec(t, onePolicy)
		backend.Fake("a").Always(kmstest.Fail(class))
		return inActivity(cold).ErrorToFailure(fmt.Errorf("x: %w", temporal.NewApplicationError("CANARY", "T", "CANARY")))
	}
	out, inside := withheld(kms.Unavailable), inActivity(c).ErrorToFailure(errors.New("outer"))
	inside.Cause = out
	byWorker := &commonpb.WorkerVersionStamp{BuildId: "b"}
	for name, tc := range map[string]struct {
		req     proto.Message
		refused bool
	}{
		"by token":            {&workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: out}, true},
		"by ID":               {&workflowservice.RespondActivityTaskFailedByIdRequest{Namespace: "n", Failure: withheld(kms.Throttled)}, true},
		"a cause":             {&workflowservice.RespondActivityTaskFailedByIdRequest{Namespace: "n", Failure: inside}, true},
		"in plaintext":        {&workflowservice.RespondActivityTaskFailedByIdRequest{Namespace: "n", Failure: &failurepb.Failure{Message: "CANARY"}}, false},
		"for good":            {&workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: withheld(kms.Denied)}, false},
		"by a worker":         {&workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: out, WorkerVersion: byWorker}, false}, //nolint:staticcheck // deprecated, and what workers send
		"by a newer worker":   {&workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: out, DeploymentOptions: &deploymentpb.WorkerDeploymentOptions{}}, false},
		"another's failure":   {&workflowservice.RespondWorkflowTaskFailedRequest{Namespace: "n", Failure: out}, false},
		"nothing is withheld": {&workflowservice.RespondActivityTaskFailedRequest{Namespace: "n", Failure: inActivity(c).ErrorToFailure(errors.New("x"))}, false},
	} {
		sent, err := codec.Outgoing(t.Context(), c, "n", "Respond", tc.req)
		if (err != nil) != tc.refused {
			t.Errorf("%s: %v", name, err)
		}
		if tc.refused && (serviceerror.ToStatus(err).Code() != codes.FailedPrecondition || !strings.Contains(err.Error(), "retry when the KMS is available")) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprint(sent, err), "CANARY") {
			t.Errorf("%s: in plaintext: %v, %v", name, sent, err)
		}
	}
	down, backend := newCodec(t, onePolicy)
	backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
	if _, err := codec.Outgoing(t.Context(), down, "n", "Respond", &workflowservice.RespondActivityTaskFailedByIdRequest{Failure: &failurepb.Failure{Message: "CANARY"}}); err == nil || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("plaintext that cannot be sealed: %v", err)
	}
}
