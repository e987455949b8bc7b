package codec_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// pendingLimit is the server's limit, see the documentation of NewFailureConverter.
const pendingLimit = 4096

// inActivity is the failure converter that the SDK uses for an activity.
func inActivity(c *codec.Codec) converter.FailureConverter {
	return converter.WithFailureConverterSerializationContext(
		codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)),
		converter.ActivitySerializationContext{Namespace: "n", WorkflowID: "w", WorkflowType: "W", ActivityType: "A", TaskQueue: "q"})
}

// link is a link of a failure: its message and its stack trace.
type link struct{ message, trace string }

// chained returns an error that is converted to a failure with these links.
func chained(links ...link) error {
	var f *failurepb.Failure
	for i, l := range slices.Backward(links) {
		f = &failurepb.Failure{
			Message: l.message, StackTrace: l.trace, Source: "GoSDK", Cause: f,
			FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: fmt.Sprint("Type", i)}},
		}
	}
	return temporal.GetDefaultFailureConverter().FailureToError(f)
}

// opened returns the texts of the links of a sealed failure.
func opened(t *testing.T, c *codec.Codec, f *failurepb.Failure) (out []link) {
	t.Helper()
	dc := codec.NewDataConverter(c, "n", nil)
	for l := f; l != nil; l = l.GetCause() {
		if l.GetEncodedAttributes() == nil && l.GetMessage() == "" && l.GetStackTrace() == "" {
			out = append(out, link{}) // its text was left out
			continue
		}
		decoded := &failurepb.Failure{EncodedAttributes: l.GetEncodedAttributes(), Message: "does not open"}
		converter.DecodeCommonFailureAttributes(dc, decoded)
		if decoded.GetMessage() == "does not open" {
			t.Fatalf("%s does not open", l)
		}
		if l.GetMessage() != "Encoded failure" || l.GetStackTrace() != "" {
			t.Errorf("in plaintext: %s", l)
		}
		out = append(out, link{decoded.GetMessage(), decoded.GetStackTrace()})
	}
	return out
}

// isCut reports whether got is want without a part of its middle.
func isCut(got, want string) bool {
	head, tail, ok := strings.Cut(got, "[…]")
	return ok && len(got) < len(want) && strings.HasPrefix(want, strings.TrimSuffix(head, "\n")) && strings.HasSuffix(want, strings.TrimPrefix(tail, "\n"))
}

func trace(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "main.level%d(0x%x, ...)\n\t/src/github.com/acme/orders/file%d.go:%d +0x%x\n", i, i*7919, i, i*31, i*17)
	}
	return b.String()[:n]
}

// compressible is text that compresses somewhat.
func compressible(n int) string {
	words := strings.Fields("the order could not be charged because customer balance has no such amount left for shipping")
	var b strings.Builder
	for x := uint32(1); b.Len() < n; x = x*1664525 + 1013904223 {
		b.WriteString(words[x>>28] + " ")
	}
	return b.String()[:n]
}

// noise is text that does not compress well.
func noise(n int) string {
	var b strings.Builder
	for x := uint32(1); b.Len() < n; x = x*1664525 + 1013904223 {
		fmt.Fprintf(&b, "%x", x>>8)
	}
	return b.String()[:n]
}

// pendingPolicies make envelopes of several sizes; the rules seal namespace n.
var pendingPolicies = map[string]string{
	"one key":     onePolicy,
	"three keys":  `{keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}, c: {uri: "fake://` + strings.Repeat("c", 200) + `"}}, seal: [{match: {namespace: "*"}, keys: [a, b, c]}]}`,
	"compression": `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], compression: zstd, claims: [workflowId, activityType]}]}`,
}

func TestAPendingFailureFits(t *testing.T) {
	for name, policy := range pendingPolicies {
		for _, tc := range []struct {
			name  string
			links []link
			check func(t *testing.T, got, want []link)
		}{
			{"short", []link{{"outer", trace(300)}, {"inner", ""}}, wantWhole},
			{"a long stack trace", []link{{"message", trace(30_000)}}, func(t *testing.T, got, want []link) {
				if got[0].message != want[0].message || !isCut(got[0].trace, want[0].trace) || len(got[0].trace) < 1536 {
					t.Errorf("a trace of %d bytes: %q", len(got[0].trace), got[0].trace)
				}
			}},
			{"stack traces all the way", []link{{"a", trace(2000)}, {"b", trace(2000)}, {"c", trace(2000)}, {"d", trace(2000)}, {"e", trace(2000)}}, func(t *testing.T, got, want []link) {
				for i := range got {
					if got[i].message != want[i].message || i > 0 && len(got[i].trace) > len(got[i-1].trace) {
						t.Errorf("link %d: %q and %d bytes of trace", i, got[i].message, len(got[i].trace))
					}
				}
				if len(got[0].trace) < 500 {
					t.Errorf("%d bytes are left of the outermost trace", len(got[0].trace))
				}
			}},
			{"a long message", []link{{noise(100_000), trace(2000)}, {"why", trace(2000)}}, func(t *testing.T, got, want []link) {
				if !isCut(got[0].message, want[0].message) || len(got[0].message) < 1500 || got[1].message != "why" || got[0].trace+got[1].trace != "" {
					t.Errorf("%d bytes of message, %+v", len(got[0].message), got)
				}
			}},
			{"text of many bytes as JSON", []link{{strings.Repeat("<&>\"\n\x01", 2000), ""}}, func(t *testing.T, got, want []link) {
				if !isCut(got[0].message, want[0].message) || len(got[0].message) < 400 {
					t.Errorf("%q", got[0].message)
				}
			}},
		} {
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				c, _ := newCodec(t, policy)
				f := inActivity(c).ErrorToFailure(chained(tc.links...))
				if n := proto.Size(f); n > pendingLimit || n < pendingLimit*3/4 && tc.name != "short" && name != "compression" {
					t.Errorf("%d bytes", n)
				}
				tc.check(t, opened(t, c, f), tc.links)
			})
		}
	}
}

func wantWhole(t *testing.T, got, want []link) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.AllowUnexported(link{})); d != "" {
		t.Error(d)
	}
}

// With compression, cutting a byte does not save a byte.
func TestAPendingFailureOfLongLinksFits(t *testing.T) {
	for _, policy := range []string{"one key", "compression"} {
		for n := 2; n <= 9; n++ {
			var want []link
			for i := range n {
				want = append(want, link{fmt.Sprintf("%d: %s", i, compressible(2000)), ""})
			}
			c, _ := newCodec(t, pendingPolicies[policy])
			f := inActivity(c).ErrorToFailure(chained(want...))
			if size := proto.Size(f); size > pendingLimit {
				t.Errorf("%s, %d links: %d bytes", policy, n, size)
			}
			for i, got := range opened(t, c, f) {
				if whole := got == want[i]; !whole && !isCut(got.message, want[i].message) || whole && policy == "one key" {
					t.Errorf("%s, link %d of %d has the message %q", policy, i, n, got.message)
				}
			}
		}
	}
}

// Links that repeat the text of the link around them are left out as far as necessary.
func TestAPendingFailureOfManyLinksFits(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	convert := func(err error) []link {
		t.Helper()
		f := inActivity(c).ErrorToFailure(err)
		if n := proto.Size(f); n > pendingLimit {
			t.Errorf("%d bytes", n)
		}
		return opened(t, c, f)
	}
	for i, l := range convert(repeatedLinks(5, "root")) {
		if want := strings.Repeat("x: ", 5-i) + "root"; l.message != want {
			t.Errorf("link %d of five has the message %q", i, l.message)
		}
	}
	for name, tc := range map[string]struct {
		err  error
		want []link // the links with a text
	}{
		"wrapped, and wrapped again": {repeatedLinks(30, "root"), []link{{strings.Repeat("x: ", 30) + "root", ""}, {"root", ""}}},
		"more than fits in the end":  {repeatedLinks(100, "root"), []link{{strings.Repeat("x: ", 100) + "root", ""}, {"root", ""}}},
		"with details inside": {
			fmt.Errorf("outer: %w", repeatedLinksAround(20, temporal.NewApplicationErrorWithCause("of its own", "Own", repeatedLinks(10, "root"), "details"))),
			[]link{{"outer: " + strings.Repeat("x: ", 20) + "of its own (type: Own, retryable: true): " + strings.Repeat("x: ", 10) + "root", ""}, {"of its own", ""}, {strings.Repeat("x: ", 10) + "root", ""}, {"root", ""}},
		},
		"a stack trace": {chained(append(repeats("the same", 20), link{"the same", trace(10_000)})...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []link
			for _, l := range convert(tc.err) {
				if l.message != "" {
					got = append(got, l)
				}
			}
			if tc.want != nil {
				wantWhole(t, got, tc.want)
			} else if n := len(got[len(got)-1].trace); len(got) != 2 || n < 2000 {
				t.Errorf("%d links, %d bytes of stack trace", len(got), n)
			}
		})
	}
}

func repeats(message string, n int) (out []link) {
	for range n {
		out = append(out, link{message, ""})
	}
	return out
}

// Failures that the server keeps unchanged lose only long stack traces.
func TestOtherFailuresAreWhole(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	bare := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil))
	in := func(sc converter.SerializationContext) converter.FailureConverter {
		return converter.WithFailureConverterSerializationContext(bare, sc)
	}
	message := noise(100_000)
	retryable, final := chained(link{message, trace(5000)}), temporal.NewNonRetryableApplicationError(message, "Final", errors.New("cause"))
	for name, tc := range map[string]struct {
		fc  converter.FailureConverter
		err error
	}{
		"no context":                                 {bare, retryable},
		"a workflow":                                 {in(converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "w"}), retryable},
		"a local activity":                           {in(converter.ActivitySerializationContext{Namespace: "n", IsLocal: true}), retryable},
		"an activity's last word":                    {inActivity(c), final},
		"details leave no room":                      {inActivity(c), temporal.NewApplicationError(message, "Type", noise(5000))},
		"the chain leaves no room":                   {inActivity(c), chained(distinctLinks(message, 30)...)},
		"an activity that passes on a whole failure": {inActivity(c), bare.FailureToError(bare.ErrorToFailure(retryable))},
		"a workflow's deep chain":                    {in(converter.WorkflowSerializationContext{Namespace: "n", WorkflowID: "w"}), repeatedLinks(30, message)},
	} {
		t.Run(name, func(t *testing.T) {
			got := opened(t, c, tc.fc.ErrorToFailure(tc.err))
			if !strings.HasPrefix(message, strings.TrimPrefix(got[0].message, strings.Repeat("x: ", 30))) || len(got[0].message) < len(message) {
				t.Errorf("%d bytes of message", len(got[0].message))
			}
			if n := len(got[0].trace); n > 1536 || errors.Is(tc.err, retryable) && n < 1400 {
				t.Errorf("%d bytes of stack trace", n)
			}
			for i, l := range got {
				if l.message == "" {
					t.Errorf("link %d has no text", i)
				}
			}
		})
	}
}

// distinctLinks returns a chain in which no link repeats the text of another.
func distinctLinks(message string, n int) []link {
	out := []link{{message, ""}}
	for i := range n {
		out = append(out, link{fmt.Sprint("inside ", i), ""})
	}
	return out
}

// repeatedLinks returns a chain in which each link repeats the texts of the inner ones.
func repeatedLinks(n int, message string) error { return repeatedLinksAround(n, errors.New(message)) }

func repeatedLinksAround(n int, err error) error {
	for range n {
		err = fmt.Errorf("x: %w", err)
	}
	return err
}

// If the KMS fails after a failure was found too large, the failure is sent as it is.
func TestAKMSThatFailsBetweenTwoTries(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	dc := &odd{DataConverter: codec.NewDataConverter(c, "n", nil), fail: 2}
	fc := converter.WithFailureConverterSerializationContext(codec.NewFailureConverter(dc), converter.ActivitySerializationContext{Namespace: "n"})
	f := fc.ErrorToFailure(chained(link{noise(100_000), ""}))
	if n := proto.Size(f); n <= pendingLimit || dc.calls != 2 {
		t.Errorf("%d bytes after %d calls", n, dc.calls)
	}
	if got := opened(t, c, f); !isCut(got[0].message, noise(100_000)) {
		t.Errorf("the message is %q", got[0].message)
	}
}

// odd is a program's converter around ours.
type odd struct {
	converter.DataConverter
	calls, fail int  // the fail-th call fails
	one         bool // puts all values into one payload
	none        bool // makes no payload
}

func (o *odd) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	o.calls++
	switch {
	case o.calls == o.fail:
		return nil, &kms.Error{Class: kms.Throttled}
	case o.one:
		return o.DataConverter.ToPayloads(values)
	}
	return o.DataConverter.ToPayloads(values...)
}

func (o *odd) ToPayload(value any) (*commonpb.Payload, error) {
	if o.calls++; o.calls == o.fail {
		return nil, &kms.Error{Class: kms.Throttled}
	}
	if o.none {
		return nil, nil
	}
	return o.DataConverter.ToPayload(value)
}

func TestFailuresWithAnOddDataConverter(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	dc := codec.NewDataConverter(c, "n", nil)
	links := []link{{"CANARY outer", "CANARY trace"}, {"CANARY inner", ""}}
	wantWhole(t, opened(t, c, codec.NewFailureConverter(&odd{DataConverter: dc, one: true}).ErrorToFailure(chained(links...))), links)
	for want, o := range map[string]*odd{
		"(internal)":  {DataConverter: dc, one: true, none: true},
		"(throttled)": {DataConverter: dc, one: true, fail: 3},
	} {
		f := codec.NewFailureConverter(o).ErrorToFailure(chained(links...))
		if strings.Contains(f.String(), "CANARY") || !strings.Contains(f.GetMessage(), want) || f.GetCause().GetMessage() != f.GetMessage() || f.GetEncodedAttributes() != nil {
			t.Errorf("%s: %s", want, f)
		}
	}
}

// A KMS that is unavailable for long is called once for the whole failure.
func TestAFailureIsSealedInOneCall(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	fc := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil))
	fc.ErrorToFailure(errors.New("warm"))
	cold := newCodecOn(t, onePolicy, backend)
	backend.Fake("a").Always(kmstest.Fail(kms.Denied))
	before := backend.Fake("a").Counts().Wraps
	_ = codec.NewFailureConverter(codec.NewDataConverter(cold, "n", nil)).ErrorToFailure(
		temporal.NewApplicationErrorWithCause("m", "T", temporal.NewApplicationError("m", "T", 1), 2))
	if n := backend.Fake("a").Counts().Wraps - before; n != 1 {
		t.Errorf("the KMS was called %d times", n)
	}
}

// An error keeps its type when its text cannot be sealed.
func TestDetailsAreWithheld(t *testing.T) {
	for _, class := range []kms.Class{kms.Unavailable, kms.Throttled, kms.Denied, kms.NotFound, kms.Disabled, kms.Corrupt, kms.Internal} {
		t.Run(class.String(), func(t *testing.T) {
			c, backend := newCodec(t, onePolicy)
			backend.Fake("a").Always(kmstest.Fail(class))
			err := temporal.NewApplicationErrorWithOptions("CANARY", "Outer", temporal.ApplicationErrorOptions{
				NonRetryable: true, NextRetryDelay: time.Minute, Category: temporal.ApplicationErrorCategoryBenign, Details: []any{"CANARY", 1},
				Cause: fmt.Errorf("CANARY: %w", temporal.NewTimeoutError(3, temporal.NewCanceledError("CANARY"), "CANARY")),
			})
			for name, fc := range map[string]converter.FailureConverter{
				"activity": inActivity(c), "elsewhere": codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)),
			} {
				f := fc.ErrorToFailure(err)
				var links []string
				for l := f; l != nil; l = l.GetCause() {
					links = append(links, fmt.Sprintf("%T", l.GetFailureInfo()))
					if !strings.Contains(l.GetMessage(), "could not be sealed ("+class.String()+")") {
						t.Errorf("%s: %s", name, l)
					}
				}
				info := f.GetApplicationFailureInfo()
				if strings.Contains(f.String(), "CANARY") || !info.GetNonRetryable() || info.GetType() != "Outer" || info.GetNextRetryDelay().AsDuration() != time.Minute || info.GetCategory() != 1 || info.GetDetails() != nil {
					t.Errorf("%s: %s", name, f)
				}
				want := []string{"*failure.Failure_ApplicationFailureInfo", "*failure.Failure_ApplicationFailureInfo", "*failure.Failure_TimeoutFailureInfo", "*failure.Failure_CanceledFailureInfo"}
				if d := cmp.Diff(want, links); d != "" {
					t.Errorf("%s: %s", name, d)
				}
			}
		})
	}
}

// A namespace without a rule causes no panic either.
func TestDetailsThatNoRuleSeals(t *testing.T) {
	c, _ := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "another"}, keys: [a]}]}`)
	for want, dc := range map[string]converter.DataConverter{
		"(denied)": codec.NewDataConverter(c, "n", nil), "(internal)": codec.NewDataConverter(c, "", nil),
	} {
		f := codec.NewFailureConverter(dc).ErrorToFailure(temporal.NewApplicationError("CANARY", "T", "CANARY"))
		if strings.Contains(f.String(), "CANARY") || !strings.Contains(f.GetMessage(), want) || f.GetApplicationFailureInfo().GetDetails() != nil {
			t.Errorf("%s: %s", want, f)
		}
	}
	closed, _ := newCodec(t, onePolicy)
	closed.Close()
	if f := inActivity(closed).ErrorToFailure(temporal.NewApplicationError("CANARY", "T", "CANARY")); strings.Contains(f.String(), "CANARY") || !strings.Contains(f.GetMessage(), "withheld") {
		t.Errorf("closed: %s", f)
	}
}

// A value that cannot be converted has nothing to do with sealing: the SDK still panics.
func TestDetailsThatCannotBeConverted(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "unable to encode") {
			t.Errorf("panic: %v", err)
		}
	}()
	inActivity(c).ErrorToFailure(temporal.NewApplicationError("m", "T", make(chan int)))
}
