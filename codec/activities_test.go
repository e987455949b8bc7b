package codec_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// outage makes the KMS fail for a while from now on.
func (a *act) outage(class kms.Class, length time.Duration) {
	a.backend.Fake("a").Always(kmstest.Fail(class))
	time.AfterFunc(length, a.backend.Fake("a").Heal)
}

// TestHeartbeatsKeepTheirDetails waits for several heartbeats without new details: afterwards
// the server must have the same details as before.
func TestHeartbeatsKeepTheirDetails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before string // details of the attempt before
		record func(ctx context.Context)
		want   string
	}{
		{name: "none", record: func(context.Context) {}},
		{name: "of this attempt", record: func(ctx context.Context) { activity.RecordHeartbeat(ctx, "CANARY 1") }, want: "CANARY 1"},
		{name: "of the attempt before", before: "CANARY 0", record: func(context.Context) {}, want: "CANARY 0"},
		{
			name: "new ones", before: "CANARY 0", record: func(ctx context.Context) { activity.RecordHeartbeat(ctx, "CANARY 1") }, want: "CANARY 1",
		},
		{
			name: "taken back", before: "CANARY 0", record: func(ctx context.Context) { activity.RecordHeartbeat(ctx) },
		},
		{
			name: "taken back with nil", before: "CANARY 0", record: func(ctx context.Context) { activity.RecordHeartbeat(ctx, nil) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAct(t, onePolicy, 0)
				a.info = func(i *activity.Info) { i.HeartbeatTimeout = 4 * time.Second }
				if tc.before != "" {
					a.setHeartbeatDetails(t, tc.before)
				}
				var mu sync.Mutex
				var sent []*commonpb.Payloads
				a.env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
					mu.Lock()
					defer mu.Unlock()
					sent = append(sent, details.(interface{ Payloads() *commonpb.Payloads }).Payloads())
				})
				if _, err := a.run(func(ctx context.Context) (string, error) {
					tc.record(ctx)
					// The test environment sends one heartbeat in 30 s.
					a.outage(kms.Unavailable, 100*time.Second)
					_, err := a.converter(ctx).ToPayload("x")
					return "", err
				}); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if len(sent) < 3 {
					t.Fatalf("%d heartbeats", len(sent))
				}
				for _, details := range sent {
					var got string
					if err := a.options.DataConverter.FromPayloads(details, &got); err != nil || got != tc.want || (details != nil) != (tc.want != "") {
						t.Errorf("a heartbeat has the details %q, %v, want %q", got, err, tc.want)
					}
					if diff := cmp.Diff(sent[0], details, protocmp.Transform()); diff != "" {
						t.Errorf("it was sealed anew: %s", diff)
					}
					if strings.Contains(details.String(), "CANARY") {
						t.Error("a heartbeat is plaintext")
					}
				}
			})
		})
	}
}

// TestOtherWorkersKeepTheirDetails: an activity of a worker without the plugin may use a client
// with it. A heartbeat without details would make the server forget them.
func TestOtherWorkersKeepTheirDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAct(t, onePolicy, 0)
		a.unplug()
		a.info = func(i *activity.Info) { i.HeartbeatTimeout = 20 * time.Second }
		a.setHeartbeatDetails(t, "CANARY")
		if _, err := a.run(func(ctx context.Context) (string, error) {
			a.outage(kms.Unavailable, time.Hour)
			defer a.backend.Fake("a").Heal()
			start := time.Now()
			_, err := a.converter(ctx).ToPayload("x")
			wantClass(t, err, kms.Unavailable)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it waited for %v", took)
			}
			return "", nil
		}); err != nil {
			t.Error(err)
		}
		if len(a.beats) > 0 {
			t.Errorf("%d heartbeats", len(a.beats))
		}
	})
}

// setHeartbeatDetails sets the details of an earlier attempt, in another process.
func (a *act) setHeartbeatDetails(t *testing.T, value any) {
	t.Helper()
	a.env.SetDataConverter(codec.NewDataConverter(newCodecOn(t, onePolicy, a.backend), testNamespace, nil))
	a.env.SetHeartbeatDetails(value)
	a.env.SetDataConverter(a.options.DataConverter)
}

func TestHeartbeatDetailsOpenAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAct(t, onePolicy, 0)
		a.setHeartbeatDetails(t, 7)
		if _, err := a.run(func(ctx context.Context) (string, error) {
			a.outage(kms.Unavailable, 30*time.Second)
			start := time.Now()
			var step int
			if err := activity.GetHeartbeatDetails(ctx, &step); err != nil || step != 7 {
				t.Errorf("step %d, %v", step, err)
			}
			if took := time.Since(start); took < 30*time.Second || took > 30*time.Second+soon {
				t.Errorf("it took %v", took)
			}
			return "", nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestHeartbeatDetailsThatDoNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAct(t, failRefused, 0)
		a.setHeartbeatDetails(t, 7)
		if _, err := a.run(func(ctx context.Context) (string, error) {
			a.outage(kms.Denied, time.Second)
			defer time.Sleep(2 * time.Second) //nolint:forbidigo // the clock is the test's
			wantClass(t, activity.GetHeartbeatDetails(ctx, new(int)), kms.Denied)
			return "", nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestNoHeartbeatDetails(t *testing.T) {
	a := newAct(t, onePolicy, 0)
	if _, err := a.run(func(ctx context.Context) (string, error) {
		if err := activity.GetHeartbeatDetails(ctx, new(int)); !errors.Is(err, temporal.ErrNoData) {
			t.Errorf("got %v", err)
		}
		return "", nil
	}); err != nil {
		t.Error(err)
	}
}

// TestHeartbeatsWaitToBeSealed: the SDK panics where details cannot be encoded.
func TestHeartbeatsWaitToBeSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAct(t, onePolicy, 0)
		a.info = func(i *activity.Info) { i.HeartbeatTimeout = 4 * time.Second }
		if _, err := a.run(func(ctx context.Context) (string, error) {
			a.outage(kms.Unavailable, 30*time.Second)
			start := time.Now()
			activity.RecordHeartbeat(ctx, "CANARY")
			if took := time.Since(start); took < 30*time.Second || took > 30*time.Second+soon {
				t.Errorf("it took %v", took)
			}
			return "", nil
		}); err != nil {
			t.Error(err)
		}
	})
}

// TestFinalErrorsWait lets an activity fail during an outage. An error that ends the activity
// keeps its message and details. An error that is retried does not wait.
func TestFinalErrorsWait(t *testing.T) {
	const outage = 30 * time.Second
	attempts := func(attempt, of int32, types ...string) func(*activity.Info) {
		return func(i *activity.Info) {
			i.Attempt, i.RetryPolicy = attempt, &temporal.RetryPolicy{MaximumAttempts: of, NonRetryableErrorTypes: types}
		}
	}
	for _, tc := range []struct {
		name  string
		err   error
		info  func(*activity.Info)
		wait  time.Duration
		waits bool
	}{
		{name: "not to be retried", err: temporal.NewNonRetryableApplicationError("CANARY", "Refused", nil), waits: true},
		{name: "off", err: temporal.NewNonRetryableApplicationError("CANARY", "Refused", nil), wait: -1},
		{name: "to be retried", err: errors.New("CANARY")},
		{name: "the last attempt", err: errors.New("CANARY"), info: attempts(3, 3), waits: true},
		{name: "the last but one", err: errors.New("CANARY"), info: attempts(2, 3)},
		{name: "attempts without end", err: errors.New("CANARY"), info: attempts(3, 0)},
		{name: "of a type that is not retried", err: temporal.NewApplicationError("CANARY", "Refused"), info: attempts(1, 0, "Refused"), waits: true},
		{name: "of a Go type that is not retried", err: &refusedError{}, info: attempts(1, 0, "refusedError"), waits: true},
		{name: "around one that is not to be retried", err: fmt.Errorf("CANARY: %w", temporal.NewNonRetryableApplicationError("x", "Refused", nil))},
		{name: "of another type", err: temporal.NewApplicationError("CANARY", "Other"), info: attempts(1, 0, "Refused")},
		{name: "of a KMS, waited for already", err: &kms.Error{Class: kms.Unavailable, Op: "CANARY"}, info: attempts(3, 3)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAct(t, onePolicy, tc.wait)
				a.info = tc.info
				start := time.Now()
				_, err := a.run(func(context.Context) (string, error) {
					a.outage(kms.Unavailable, outage)
					return "", tc.err
				})
				took := time.Since(start)
				time.Sleep(outage) //nolint:forbidigo // the clock is the test's
				var app *temporal.ApplicationError
				if !errors.As(err, &app) {
					t.Fatalf("got %v", err)
				}
				if got := strings.Contains(app.Error(), "CANARY"); got != tc.waits || took > outage+soon || (took >= outage) != tc.waits {
					t.Errorf("after %v: %v", took, app)
				}
			})
		})
	}
}

// refusedError is an error of a program.
type refusedError struct{}

func (*refusedError) Error() string { return "CANARY" }

// TestLocalActivitiesWait seals the result of a local activity, without its input.
func TestLocalActivitiesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAct(t, onePolicy, 0)
		a.info = func(i *activity.Info) { i.HeartbeatTimeout = 4 * time.Second } // ignored for a local activity
		a.env.SetTestTimeout(time.Minute)
		ran, start := 0, time.Now()
		out, err := a.env.ExecuteLocalActivity(func(context.Context) (string, error) {
			ran++
			a.outage(kms.Unavailable, 30*time.Second)
			return "CANARY", nil
		})
		if took := time.Since(start); err != nil || took < 30*time.Second || took > 30*time.Second+soon || ran != 1 {
			t.Fatalf("ran %d times, %v, %v", ran, took, err)
		}
		var got string
		if err := out.Get(&got); err != nil || got != "CANARY" {
			t.Errorf("got %q, %v", got, err)
		}
		if len(a.beats) > 0 {
			t.Errorf("%d heartbeats", len(a.beats))
		}
	})
}

// TestLocalActivitiesFailAtOnce: the workflow task is held if necessary.
func TestLocalActivitiesFailAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAct(t, onePolicy, 0)
		a.env.SetTestTimeout(time.Minute)
		start := time.Now()
		_, err := a.env.ExecuteLocalActivity(func(context.Context) (string, error) {
			a.outage(kms.Unavailable, 30*time.Second)
			return "", temporal.NewNonRetryableApplicationError("CANARY", "Refused", nil)
		})
		if took := time.Since(start); err == nil || took > time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		time.Sleep(30 * time.Second) //nolint:forbidigo // the clock is the test's
	})
}

// TestLocalActivityIsNoWorkflowCode: the SDK gives a local activity the converter of its
// workflow, in which an outage panics.
func TestLocalActivityIsNoWorkflowCode(t *testing.T) {
	a := newAct(t, onePolicy, -1)
	var inWorkflow converter.DataConverter
	if err := runWorkflow(t, a.options.DataConverter, func(ctx workflow.Context) error {
		inWorkflow = a.options.DataConverter.(workflow.ContextAware).WithWorkflowContext(ctx)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a.env.RegisterActivityWithOptions(func(ctx context.Context) error {
		a.backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
		defer a.backend.Fake("a").Heal()
		_, err := inWorkflow.(workflow.ContextAware).WithContext(ctx).ToPayload("x")
		wantClass(t, err, kms.Unavailable)
		return nil
	}, activity.RegisterOptions{Name: "Do"})
	if _, err := a.env.ExecuteActivity("Do"); err != nil {
		t.Error(err)
	}
}

// reader is a propagator that sends the header it reads to a channel.
type reader struct {
	workflow.ContextPropagator
	got chan<- *commonpb.Payload
}

func (r reader) Extract(ctx context.Context, in workflow.HeaderReader) (context.Context, error) {
	p, _ := in.Get("k")
	r.got <- proto.CloneOf(p)
	return ctx, nil
}

// first is the plugin's propagator. It records a panic or a returned error.
type first struct {
	workflow.ContextPropagator
	panicked *any
	failed   *error
}

func (f first) Extract(ctx context.Context, in workflow.HeaderReader) (context.Context, error) {
	defer func() {
		if *f.panicked = recover(); *f.panicked != nil {
			panic(*f.panicked)
		}
	}()
	ctx, *f.failed = f.ContextPropagator.Extract(ctx, in)
	return ctx, *f.failed
}

func TestHeadersOpenAfterAnOutage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		class  kms.Class
		outage time.Duration
		sealed bool // it stays sealed
		fails  bool
		local  bool // a local activity
	}{
		{name: "unavailable", class: kms.Unavailable, outage: 30 * time.Second},
		{name: "throttled", class: kms.Throttled, outage: 30 * time.Second},
		{name: "for too long", class: kms.Unavailable, outage: time.Hour, fails: true},
		{name: "for too long, in a local activity", class: kms.Unavailable, outage: time.Hour, fails: true, local: true},
		{name: "denied", class: kms.Denied, outage: 30 * time.Second},
		{name: "denied, onDenied: fail", class: kms.Denied, outage: 30 * time.Second, sealed: true},
		{name: "well", class: kms.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAct(t, map[bool]string{true: failRefused, false: onePolicy}[tc.sealed], 0)
				got := make(chan *commonpb.Payload, 1)
				a.info = func(i *activity.Info) { i.IsLocalActivity = tc.local }
				var panicked any
				var failed error
				a.env.SetContextPropagators([]workflow.ContextPropagator{first{a.options.ContextPropagators[0], &panicked, &failed}, reader{got: got}})
				want := payload(t, "CANARY")
				header := &commonpb.Header{Fields: map[string]*commonpb.Payload{"k": a.sealedElsewhere(t, "CANARY"), "plain": payload(t, 1)}}
				a.env.SetHeader(header)
				if tc.sealed {
					want = proto.CloneOf(header.GetFields()["k"])
				}
				if tc.outage > 0 {
					a.outage(tc.class, tc.outage)
				}
				start, ran := time.Now(), false
				_, err := a.run(func(context.Context) (string, error) {
					ran = true
					if tc.sealed {
						a.backend.Fake("a").Heal() // for the result
					}
					return "", nil
				})
				took := time.Since(start)
				time.Sleep(tc.outage) //nolint:forbidigo // the clock is the test's
				if tc.fails {
					// The SDK reports a panic, but no returned error; in a local activity the
					// other way round.
					if tc.local && panicked == nil {
						panicked = failed
					} else if tc.local {
						t.Error("it panics")
					}
					if why, ok := panicked.(error); !ok || ran || took < 9*time.Minute {
						t.Errorf("ran %v, after %v: %v, %v", ran, took, panicked, err)
					} else {
						wantClass(t, why, tc.class)
					}
					return
				}
				if err != nil || took > tc.outage+soon || took < tc.outage && !tc.sealed {
					t.Errorf("after %v: %v", took, err)
				}
				if diff := cmp.Diff(want, <-got, protocmp.Transform()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestNexusInputIsRetried: the SDK reports any other error to the caller as a bad request,
// which is final.
func TestNexusInputIsRetried(t *testing.T) {
	sealed := sealedElsewhere(t, "fake://a")
	for _, class := range []kms.Class{kms.Unavailable, kms.Throttled, kms.Denied, kms.NotFound} {
		for _, tc := range []struct {
			name, policy string
			held         bool
		}{{"onDenied: fail", failRefused, class.Transient()}, {"by default", onePolicy, true}} {
			t.Run(tc.name+"/"+class.String(), func(t *testing.T) {
				c, backend := newCodec(t, tc.policy)
				backend.Fake("a").Always(kmstest.Fail(class))
				dc := codec.NewDataConverter(c, testNamespace, nil)
				nexus := converter.WithDataConverterSerializationContext(dc, converter.NexusSerializationContext{Endpoint: "e"})
				err := nexus.FromPayload(sealed, new(string))
				wantClass(t, err, class)
				// The SDK looks at the type of this very error.
				app, ok := err.(*temporal.ApplicationError) //nolint:errorlint // as above
				if ok != tc.held || ok && app.NonRetryable() {
					t.Errorf("%T: %v", err, err)
				}
				err = dc.FromPayload(sealed, new(string))
				if _, ok := errors.AsType[*temporal.ApplicationError](err); ok {
					t.Errorf("elsewhere: %v", err)
				}
			})
		}
	}
}
