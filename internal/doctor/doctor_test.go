package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stub is a key that breaks each promise on command, in front of a Fake.
type stub struct {
	*kmstest.Fake
	report   *kms.Report // nil: no Prober
	probeErr error
	unbound  bool // does not enforce the context
	other    bool // unwraps to another data key
	extra    bool // answers with one item too many
	closed   atomic.Int32
}

func (s *stub) Close() error { s.closed.Add(1); return nil }

func (s *stub) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if s.unbound {
		ec = nil
	}
	out, err := s.Fake.Wrap(ctx, dataKeys, ec)
	if s.extra {
		out = append(out, out...)
	}
	return out, err
}

func (s *stub) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if s.unbound {
		ec = nil
	}
	out, err := s.Fake.Unwrap(ctx, wrapped, ec)
	for i := range out {
		if s.other && out[i].Err == nil {
			out[i].DataKey = make([]byte, kms.DataKeySize)
		}
	}
	return out, err
}

// bare shows no more of a stub than a kms.Key that can be closed.
type bare struct {
	kms.Key
	kms.Closer
}

type probing struct {
	bare
	s *stub
}

func (p probing) Probe(context.Context) (kms.Report, error) { return *p.s.report, p.s.probeErr }

func (s *stub) key() kms.Key {
	if s.report != nil {
		return probing{bare{s, s}, s}
	}
	return bare{s, s}
}

func newStub(name string) *stub {
	return &stub{Fake: kmstest.NewFake(name), report: &kms.Report{Identity: "somebody", Key: "a fake", SkewKnown: true}}
}

var testContext = kms.Context{"namespace": "payments"}

// examineStub examines one key.
func examineStub(t *testing.T, s *stub, cfg Config, samples ...Sample) Result {
	t.Helper()
	results, err := Examine(t.Context(), []Key{{
		Name: "k", Namespace: "payments", URI: "fake://k", Context: testContext, Samples: samples,
		Open: func(context.Context) (kms.Key, error) { return s.key(), nil },
	}}, cfg)
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	if s.closed.Load() != 1 {
		t.Errorf("closed %d times", s.closed.Load())
	}
	return results[0]
}

// told writes a result as lines, for comparison.
func told(r Result) string {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%s %s: %s", c.Status, c.Name, c.Detail)
		if c.Class != nil {
			fmt.Fprintf(&b, " [%s]", *c.Class)
		}
		b.WriteString("\n")
		if (c.Hint != "") != (c.Status >= Warn && c.Name != Note) {
			fmt.Fprintf(&b, "hint %q\n", c.Hint)
		}
	}
	return b.String()
}

// sampleOf is a data key that s wrapped before.
func sampleOf(t *testing.T, s *stub) Sample {
	t.Helper()
	dataKey := bytes.Repeat([]byte{7}, kms.DataKeySize)
	ec := kms.Context{"namespace": "orders", "workflowId": "order-1"}
	wrapped, err := s.Fake.Wrap(t.Context(), [][]byte{dataKey}, ec)
	if err != nil {
		t.Fatal(err)
	}
	return Sample{KeyID: s.ID(), Wrapped: wrapped[0], Context: ec, Right: func(got []byte) bool { return bytes.Equal(got, dataKey) }}
}

func failOn(op kmstest.Op, class kms.Class) func(*stub) {
	return func(s *stub) {
		s.Each(func(c kmstest.Call) kmstest.Fault {
			if c.Op == op {
				return kmstest.Fail(class)
			}
			return kmstest.Healthy()
		})
	}
}

const healthyReport = `pass opens: recorded as fake://k
pass reachable: it answers
pass identity: somebody
pass key: a fake
pass wraps: 32 bytes become 64, by version 1
pass unwraps: to the same 32 bytes
pass context: it does not unwrap under another namespace
pass clock: in step with ours
skip credentials: no end that is known
pass latency: wrap: p50 0.00ms, p99 0.00ms
`

// except is healthyReport with other lines.
func except(lines ...string) string {
	out := healthyReport
	for _, line := range lines {
		name := strings.Fields(strings.SplitN(line, ":", 2)[0])[1]
		for old := range strings.Lines(healthyReport) {
			if strings.Fields(strings.SplitN(old, ":", 2)[0])[1] == name {
				out = strings.Replace(out, old, line+"\n", 1)
			}
		}
	}
	return out
}

func TestExamine(t *testing.T) {
	const (
		nothing  = "skip unwraps: not tested: there is nothing to unwrap"
		untested = "skip context: not tested: nothing was unwrapped"
		noCalls  = "skip latency: not tested: it can neither wrap nor unwrap"
		scripted = "scripted fault"
	)
	denied := &kms.Error{Class: kms.Denied, Detail: scripted, Advice: "a"}
	for _, tc := range []struct {
		name   string
		role   Role
		change func(*stub)
		sample bool
		want   string
		status Status
	}{
		{"healthy", Worker, nil, false, healthyReport, Pass},
		{"healthy codec server", CodecServer, nil, false, except("pass latency: unwrap: p50 0.00ms, p99 0.00ms"), Pass},
		{
			"tells nothing about itself", Worker, func(s *stub) { s.report = nil }, false,
			except(
				"skip reachable: not tested: keys of this kind tell nothing about themselves",
				"skip identity: not tested: keys of this kind tell nothing about themselves",
				"skip key: not tested: keys of this kind tell nothing about themselves",
				"skip clock: not known"), Pass,
		},
		{
			"may not ask", Worker, func(s *stub) { s.report = &kms.Report{} }, false,
			except(
				"skip identity: not known: there is no right to ask, or the KMS does not tell",
				"skip key: not known: there is no right to ask, or the KMS does not tell",
				"skip clock: not known"), Pass,
		},
		{
			"down", Worker, func(s *stub) { s.probeErr = kmstest.Err(kms.Unavailable) }, false,
			"pass opens: recorded as fake://k\nfail reachable: unavailable: scripted fault [unavailable]\n" +
				"skip identity: not tested: the KMS cannot be reached\nskip key: not tested: the KMS cannot be reached\n" +
				"skip wraps: not tested: the KMS cannot be reached\nskip unwraps: not tested: the KMS cannot be reached\n" +
				"skip context: not tested: the KMS cannot be reached\nskip clock: not tested: the KMS cannot be reached\n" +
				"skip credentials: not tested: the KMS cannot be reached\nskip latency: not tested: the KMS cannot be reached\n", Fail,
		},
		{
			"disabled", Worker, func(s *stub) { s.probeErr = kmstest.Err(kms.Disabled); s.Disable() }, false,
			except(
				"fail key: disabled: scripted fault [disabled]",
				"fail wraps: disabled: the key is switched off [disabled]",
				nothing, untested, noCalls), Fail,
		},
		{
			"may not wrap", Worker, failOn(kmstest.OpWrap, kms.Denied), false,
			except("fail wraps: denied: scripted fault [denied]", nothing, untested, noCalls), Fail,
		},
		{
			"may not wrap, need not", CodecServer, failOn(kmstest.OpWrap, kms.Denied), false,
			except(
				"skip wraps: it may not, as a codec server need not that only decodes",
				"warn unwraps: not tested: it may not wrap, so there is nothing to unwrap",
				untested, noCalls), Warn,
		},
		{
			"may not wrap, need not, and has a payload", CodecServer, failOn(kmstest.OpWrap, kms.Denied), true,
			except(
				"skip wraps: it may not, as a codec server need not that only decodes",
				"pass unwraps: the given payload's data key",
				"pass latency: unwrap: p50 0.00ms, p99 0.00ms"), Pass,
		},
		{
			"may not wrap, and has a payload", Worker, failOn(kmstest.OpWrap, kms.Denied), true,
			except(
				"fail wraps: denied: scripted fault [denied]",
				"pass unwraps: the given payload's data key",
				"pass latency: unwrap: p50 0.00ms, p99 0.00ms"), Fail,
		},
		{"has a payload", Worker, nil, true, except("pass unwraps: to the same 32 bytes, and the given payload's data key"), Pass},
		{
			"cannot wrap, and needs not", CodecServer, failOn(kmstest.OpWrap, kms.Throttled), false,
			except(
				"fail wraps: throttled: scripted fault [throttled]",
				"warn unwraps: not tested: it may not wrap, so there is nothing to unwrap",
				untested, noCalls), Fail,
		},
		{
			"may not unwrap", Worker, failOn(kmstest.OpUnwrap, kms.Denied), false,
			except("fail unwraps: denied: scripted fault [denied]", untested), Fail,
		},
		{
			"the data key's own error", Worker, func(s *stub) { s.ScriptUnwrap(kmstest.FailItem(0, kms.NotFound)) }, false,
			except("fail unwraps: not found: scripted fault [not found]", untested), Fail,
		},
		{
			"a payload that does not open", Worker, func(s *stub) { s.ScriptUnwrap(kmstest.Healthy(), kmstest.Fail(kms.Corrupt)) }, true,
			except("fail unwraps: the given payload: corrupt: scripted fault [corrupt]"), Fail,
		},
		{
			"unwraps to another data key", Worker, func(s *stub) { s.other = true }, false,
			except("fail unwraps: internal: it unwrapped to another data key than the one that was wrapped [internal]", untested), Fail,
		},
		{
			"answers too much", Worker, func(s *stub) { s.extra = true }, false,
			except("fail wraps: internal: it answered with something else than one wrapped data key [internal]", nothing, untested, noCalls), Fail,
		},
		{
			"answers too little", Worker, func(s *stub) { s.ScriptUnwrap(kmstest.Fault{Drop: true}) }, false,
			except("fail unwraps: internal: it answered with something else than one data key [internal]", untested), Fail,
		},
		{
			"context not enforced", Worker, func(s *stub) { s.unbound = true }, false,
			except("fail context: IT UNWRAPS UNDER ANOTHER NAMESPACE: the encryption context is not enforced"), Fail,
		},
		{
			"another context is denied", Worker, func(s *stub) {
				s.Each(func(c kmstest.Call) kmstest.Fault {
					if c.Context["namespace"] != "payments" {
						return kmstest.Fail(kms.Denied)
					}
					return kmstest.Healthy()
				})
			}, false,
			except("pass context: we may not unwrap under another namespace"), Pass,
		},
		{
			"another context cannot be tried", Worker, func(s *stub) { s.ScriptUnwrap(kmstest.Healthy(), kmstest.Fail(kms.Unavailable)) }, false,
			except("fail context: unavailable: scripted fault [unavailable]"), Fail,
		},
		{
			"clock a little off", Worker, func(s *stub) { s.report.Skew = -41 * time.Second }, false,
			except("pass clock: 41s behind ours"), Pass,
		},
		{
			"clock off", Worker, func(s *stub) { s.report.Skew = 61 * time.Second }, false,
			except("warn clock: the KMS's is 1m1s ahead of ours"), Warn,
		},
		{
			"credentials end soon", Worker, func(s *stub) { s.report.Expires = time.Now().Add(4 * time.Minute) }, false,
			except("warn credentials: they end in 4m0s, at 2000-01-01 00:04 UTC, and nothing has renewed them yet"), Warn,
		},
		{
			"credentials last", Worker, func(s *stub) { s.report.Expires = time.Now().Add(48 * time.Hour) }, false,
			except("pass credentials: they last until 2000-01-03 00:00 UTC, and longer if something renews them"), Pass,
		},
		{
			"credentials have ended", Worker, func(s *stub) { s.report.Expires = time.Now().Add(-time.Hour) }, false,
			except("fail credentials: they ended at 1999-12-31 23:00 UTC"), Fail,
		},
		{
			"warnings", Worker, func(s *stub) { s.report.Warnings = []string{"it is exportable", "another"} }, false,
			healthyReport + "warn note: it is exportable\nwarn note: another\n", Warn,
		},
		{
			"a call fails", Worker, func(s *stub) { s.ScriptWrap(kmstest.Healthy(), kmstest.Healthy(), kmstest.Fail(kms.Throttled)) }, false,
			except("fail latency: call 2 of 20: throttled: scripted fault [throttled]"), Fail,
		},
		{
			"refused, and the clock says why", Worker, func(s *stub) {
				s.probeErr, s.report = denied, &kms.Report{Skew: -10 * time.Minute, SkewKnown: true}
				s.Always(kmstest.Fail(kms.Denied))
			}, false,
			except(
				"skip identity: not known: there is no right to ask, or the KMS does not tell",
				"fail key: denied: scripted fault [denied]", "fail wraps: denied: scripted fault [denied]", nothing, untested,
				"warn clock: the KMS's is 10m0s behind ours", noCalls), Fail,
		},
		{
			"throttled at first", Worker, func(s *stub) { s.probeErr = kmstest.Err(kms.Throttled) }, false,
			except("fail key: throttled: scripted fault [throttled]"), Fail,
		},
		{
			"slow", Worker, func(s *stub) {
				s.ScriptWrap(kmstest.Healthy(), kmstest.Slow(1500*time.Millisecond), kmstest.Slow(20*time.Millisecond))
			}, false,
			except("warn latency: wrap: p50 0.00ms, p99 1500ms"), Warn,
		},
		{
			"too slow for all calls", Worker, func(s *stub) { s.Always(kmstest.Slow(4 * time.Second)) }, false,
			except("warn latency: wrap: p50 4000ms, p99 4000ms; only 3 of 20 calls in 10s"), Warn,
		},
		{
			"stalls", Worker, func(s *stub) { s.ScriptWrap(kmstest.Stall()) }, false,
			except("fail wraps: unavailable: no answer within 10s [unavailable]", nothing, untested, noCalls), Fail,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStub("k")
				var samples []Sample
				if tc.sample {
					samples = []Sample{{KeyID: "fake://other"}, sampleOf(t, s)}
				}
				if tc.change != nil {
					tc.change(s)
				}
				got := examineStub(t, s, Config{Role: tc.role}, samples...)
				if diff := cmp.Diff(tc.want, told(got)); diff != "" {
					t.Error(diff)
				}
				if got.Status() != tc.status || got.Name != "k" || got.Namespace != "payments" || got.URI != "fake://k" || got.ID != "fake://k" {
					t.Errorf("got %s, %+v", got.Status(), got)
				}
			})
		})
	}
}

func TestOpenFails(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"typo", &kms.Error{Class: kms.Invalid, Op: "parse key URI", Detail: "it is empty", Advice: "x"}, "fail opens: invalid: it is empty [invalid]\n"},
		{"denied", &kms.Error{Class: kms.Denied, Detail: "no right", Advice: "x"}, "fail opens: denied: no right [denied]\n"},
		{"no detail", &kms.Error{Class: kms.NotFound, Advice: "x"}, "fail opens: not found [not found]\n"},
		{"of another package", errors.New("canary"), "fail opens: a *errors.errorString [internal]\nhint \"\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			results, err := Examine(t.Context(), []Key{{Open: func(context.Context) (kms.Key, error) { return nil, tc.err }}}, Config{})
			if err != nil {
				t.Fatal(err)
			}
			got := told(results[0])
			if !strings.HasPrefix(got, tc.want+"skip reachable: not tested: it could not be opened\n") || strings.Count(got, "skip ") != 9 {
				t.Errorf("got %s", got)
			}
			if results[0].Status() != Fail || results[0].Times != nil {
				t.Errorf("got %+v", results[0])
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		results, err := Examine(t.Context(), []Key{{Open: func(ctx context.Context) (kms.Key, error) {
			<-ctx.Done()
			return nil, &kms.Error{Class: kms.Canceled, Detail: "the caller gave up", Err: ctx.Err()}
		}}}, Config{Timeout: 3 * time.Second})
		if err != nil || results[0].Checks[0].Detail != "unavailable: no answer within 3s" {
			t.Errorf("stalled: %v, %+v", err, results[0].Checks[0])
		}
	})
}

// Keys are examined side by side, a few at a time, and reported in order.
func TestManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []Key
		var open, most, done atomic.Int32
		for i := range 10 {
			keys = append(keys, Key{Name: fmt.Sprint(i), Context: testContext, Open: func(context.Context) (kms.Key, error) {
				most.Store(max(most.Load(), open.Add(1)))
				time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
				open.Add(-1)
				return newStub(fmt.Sprint(i)).key(), nil
			}})
		}
		began := time.Now()
		results, err := Examine(t.Context(), keys, Config{Calls: -1, Done: func() { done.Add(1) }})
		if err != nil || len(results) != 10 || done.Load() != 10 {
			t.Fatalf("%d results, %d done, %v", len(results), done.Load(), err)
		}
		for i, r := range results {
			if r.Name != fmt.Sprint(i) || r.ID != "fake://"+r.Name || r.Status() != Pass || r.Times != nil {
				t.Errorf("%d: %+v", i, r)
			}
		}
		if most.Load() != parallel || time.Since(began) != 3*time.Second {
			t.Errorf("%d at a time, %v", most.Load(), time.Since(began))
		}
		if last := results[0].Checks[len(results[0].Checks)-1]; last.Name != Latency || last.Status != Skip || last.Detail != "not asked for" {
			t.Errorf("latency: %+v", last)
		}
	})
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	keys := make([]Key, 20)
	for i := range keys {
		keys[i].Open = func(ctx context.Context) (kms.Key, error) {
			cancel()
			<-ctx.Done()
			return nil, &kms.Error{Class: kms.Canceled, Err: ctx.Err()}
		}
	}
	if _, err := Examine(ctx, keys, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The data keys that were unwrapped are zeroed.
func TestWipes(t *testing.T) {
	s := newStub("k")
	e := examination{cfg: Config{Timeout: time.Minute}, kek: s.key(), key: Key{Context: testContext}}
	sample := sampleOf(t, s)
	var kept []byte
	if err := e.unwrapOne(t.Context(), &sample, sample.Context, func(dataKey []byte) error {
		kept = dataKey
		return right(&sample)(dataKey)
	}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, make([]byte, kms.DataKeySize)) {
		t.Error("the data key was not wiped")
	}
}

func TestTimes(t *testing.T) {
	times := Times{}
	for i := range 20 {
		times.Each = append(times.Each, time.Duration((i*7)%20+1)*time.Millisecond)
	}
	got := []time.Duration{times.Min(), times.Percentile(1), times.Percentile(50), times.Percentile(95), times.Percentile(99), times.Percentile(100), times.Max()}
	want := []time.Duration{1e6, 1e6, 10e6, 19e6, 20e6, 20e6, 20e6}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for d, want := range map[time.Duration]string{0: "0.00ms", 4567 * time.Nanosecond: "0.00ms", 1234567: "1.23ms", 12345678: "12.3ms", 123456789: "123ms", 12 * time.Second: "12000ms"} {
		if got := Short(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	for s, want := range map[Status]string{Pass: "pass", Skip: "skip", Warn: "warn", Fail: "fail", 9: "unknown"} {
		if s.String() != want {
			t.Errorf("%d: %s", s, s)
		}
	}
}
