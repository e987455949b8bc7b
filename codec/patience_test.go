package codec_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// soon is the maximum time until an activity continues after its KMS recovers.
const soon = 10 * time.Second

// act runs activities in the SDK's test environment, as a worker with the plugin does.
type act struct {
	codec   *codec.Codec
	backend *kmstest.Backend
	env     *testsuite.TestActivityEnvironment
	options client.Options

	logs  *logged
	mu    sync.Mutex
	beats []time.Time
	// info changes the SDK's information about the activity.
	info func(*activity.Info)
}

func newAct(t *testing.T, yaml string, wait time.Duration) *act {
	t.Helper()
	a := &act{backend: kmstest.NewBackend(), logs: new(logged), options: client.Options{Namespace: testNamespace}}
	p, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	if a.codec, err = codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(a.backend), ActivityWait: wait}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.codec.Close)
	if err := codec.NewPlugin(a.codec).ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &a.options}); err != nil {
		t.Fatal(err)
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.NewTextHandler(a.logs, &slog.HandlerOptions{Level: slog.LevelWarn}))))
	a.env = suite.NewTestActivityEnvironment()
	a.env.SetDataConverter(a.options.DataConverter)
	a.env.SetFailureConverter(a.options.FailureConverter)
	a.env.SetContextPropagators(a.options.ContextPropagators)
	var interceptors []interceptor.WorkerInterceptor
	for _, i := range a.options.Interceptors {
		interceptors = append(interceptors, i.(interceptor.WorkerInterceptor))
	}
	a.env.SetWorkerOptions(worker.Options{Interceptors: append(interceptors, &watcher{act: a})})
	return a
}

// unplug runs activities in a worker without the plugin.
func (a *act) unplug() {
	a.env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&watcher{act: a}}})
}

// run runs f as an activity, and returns its error as a workflow would receive it.
func (a *act) run(f func(ctx context.Context) (string, error)) (string, error) {
	a.env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: "Do"})
	out, err := a.env.ExecuteActivity("Do")
	if err != nil {
		return "", err
	}
	var s string
	return s, out.Get(&s)
}

// sealedElsewhere returns a payload that another process sealed under the same key.
func (a *act) sealedElsewhere(t *testing.T, value any) *commonpb.Payload {
	t.Helper()
	return encode(t, newCodecOn(t, onePolicy, a.backend), testNamespace, payload(t, value))[0]
}

// converter is the converter that the SDK uses in an activity.
func (a *act) converter(ctx context.Context) converter.DataConverter {
	return a.options.DataConverter.(workflow.ContextAware).WithContext(ctx)
}

// watcher is a user's interceptor.
type watcher struct {
	interceptor.WorkerInterceptorBase
	act *act
}

func (w *watcher) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &watcherIn{interceptor.ActivityInboundInterceptorBase{Next: next}, w.act}
}

type watcherIn struct {
	interceptor.ActivityInboundInterceptorBase
	act *act
}

func (w *watcherIn) Init(out interceptor.ActivityOutboundInterceptor) error {
	return w.Next.Init(&watcherOut{interceptor.ActivityOutboundInterceptorBase{Next: out}, w.act})
}

type watcherOut struct {
	interceptor.ActivityOutboundInterceptorBase
	act *act
}

func (w *watcherOut) GetInfo(ctx context.Context) activity.Info {
	info := w.Next.GetInfo(ctx)
	if w.act.info != nil {
		w.act.info(&info)
	}
	return info
}

func (w *watcherOut) RecordHeartbeat(ctx context.Context, details ...any) {
	w.act.mu.Lock()
	w.act.beats = append(w.act.beats, time.Now())
	w.act.mu.Unlock()
	w.Next.RecordHeartbeat(ctx, details...)
}

// logged holds the SDK's log.
type logged struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// conversions are the conversions that an activity does with its context.
func conversions(t *testing.T, sealed *commonpb.Payload) map[string]func(converter.DataConverter) error {
	t.Helper()
	return map[string]func(converter.DataConverter) error{
		"opening": func(dc converter.DataConverter) error { return dc.FromPayload(sealed, new(string)) },
		"sealing": func(dc converter.DataConverter) error {
			_, err := dc.ToPayload("CANARY")
			return err
		},
	}
}

func TestActivitiesWait(t *testing.T) {
	const forever = 365 * 24 * time.Hour
	down := func(class kms.Class) kmstest.Fault { return kmstest.Fail(class) }
	for _, tc := range []struct {
		name         string
		policy       string // onePolicy if empty
		fault        kmstest.Fault
		outage       time.Duration // the KMS answers again after it
		wait         time.Duration // Config.ActivityWait
		deadline     time.Duration // of the context, if not 0
		cancel, stop time.Duration // when that happens, if not 0
		heartbeat    time.Duration // the activity's heartbeat timeout
		unplugged    bool          // without the plugin's interceptor
		want         kms.Class     // class of the error; ignored if the activity continues
		says         string
		from, to     time.Duration // how long it may take
	}{
		{name: "an outage", fault: down(kms.Unavailable), outage: 8 * time.Second, from: 8 * time.Second, to: 8*time.Second + soon},
		{name: "a long outage", fault: down(kms.Unavailable), outage: 9 * time.Minute, from: 9 * time.Minute, to: 9*time.Minute + soon},
		{name: "throttling", fault: down(kms.Throttled), outage: time.Minute, from: time.Minute, to: time.Minute + soon},
		{name: "a KMS that hangs", fault: kmstest.Stall(), outage: 20 * time.Second, from: 20 * time.Second, to: 20*time.Second + soon},
		{name: "refused for a while", fault: down(kms.Denied), outage: time.Minute, from: time.Minute, to: time.Minute + soon},
		{name: "disabled for a while", fault: down(kms.Disabled), outage: time.Minute, from: time.Minute, to: time.Minute + soon},
		{name: "refused, onDenied: fail", policy: failRefused, fault: down(kms.Denied), outage: forever, want: kms.Denied, to: time.Second},
		{name: "not found, onDenied: fail", policy: failRefused, fault: down(kms.NotFound), outage: forever, want: kms.NotFound, to: time.Second},
		{name: "a defect", fault: down(kms.Internal), outage: forever, want: kms.Internal, to: time.Second},
		{
			name: "until the deadline nears", fault: down(kms.Unavailable), outage: forever, deadline: 30 * time.Second,
			want: kms.Unavailable, says: "no time left", from: 25 * time.Second, to: 27 * time.Second,
		},
		{
			name: "a short deadline", fault: down(kms.Unavailable), outage: forever, deadline: 2 * time.Second,
			want: kms.Unavailable, says: "no time left", from: 1500 * time.Millisecond, to: 1800 * time.Millisecond,
		},
		{
			name: "a KMS that hangs and a deadline", fault: kmstest.Stall(), outage: forever, deadline: 30 * time.Second,
			want: kms.Unavailable, says: "no time left", from: 25 * time.Second, to: 27 * time.Second,
		},
		{
			name: "a KMS that throttles slowly and a deadline", fault: kmstest.Fault{Latency: time.Second, Err: &kms.Error{Class: kms.Throttled}},
			outage: forever, deadline: 30 * time.Second,
			want: kms.Throttled, says: "no time left", from: 25 * time.Second, to: 27 * time.Second,
		},
		{
			name: "until the activity's own timeout nears", fault: down(kms.Unavailable), outage: forever,
			want: kms.Unavailable, says: "no time left", from: 590 * time.Second, to: 595 * time.Second,
		},
		{
			name: "for ActivityWait", fault: down(kms.Unavailable), outage: forever, wait: 20 * time.Second,
			want: kms.Unavailable, says: "no time left", from: 18 * time.Second, to: 20 * time.Second,
		},
		{name: "off", fault: down(kms.Unavailable), outage: forever, wait: -1, want: kms.Unavailable, to: time.Second},
		{
			name: "cancellation", fault: down(kms.Unavailable), outage: forever, cancel: 3 * time.Second,
			want: kms.Unavailable, says: "context has ended", from: 3 * time.Second, to: 3 * time.Second,
		},
		{
			name: "cancellation during a try", fault: kmstest.Stall(), outage: forever, cancel: 8 * time.Second,
			want: kms.Unavailable, says: "context has ended", from: 8 * time.Second, to: 8 * time.Second,
		},
		{
			name: "the worker stops", fault: down(kms.Unavailable), outage: forever, stop: 3 * time.Second,
			want: kms.Unavailable, says: "the worker stops", from: 3 * time.Second, to: 4 * time.Second,
		},
		{
			name: "longer than the heartbeat timeout", fault: down(kms.Unavailable), outage: time.Minute, heartbeat: 4 * time.Second,
			from: time.Minute, to: time.Minute + soon,
		},
		{
			name: "a KMS that hangs longer than the heartbeat timeout", fault: kmstest.Stall(), outage: time.Minute, heartbeat: 4 * time.Second,
			from: time.Minute, to: time.Minute + soon,
		},
		{
			name: "for half of the heartbeat timeout without the plugin", fault: down(kms.Unavailable), outage: forever, heartbeat: 20 * time.Second, unplugged: true,
			want: kms.Unavailable, says: "no time left", from: 8 * time.Second, to: 10 * time.Second,
		},
	} {
		for name := range conversions(t, nil) {
			t.Run(tc.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if tc.policy == "" {
						tc.policy = onePolicy
					}
					a := newAct(t, tc.policy, tc.wait)
					a.info = func(i *activity.Info) { i.HeartbeatTimeout = tc.heartbeat }
					if tc.unplugged {
						a.unplug()
					}
					stop := make(chan struct{})
					a.env.SetWorkerStopChannel(stop)
					convert := conversions(t, a.sealedElsewhere(t, "CANARY"))[name]
					_, err := a.run(func(ctx context.Context) (string, error) {
						if tc.deadline > 0 {
							var cancel context.CancelFunc
							ctx, cancel = context.WithTimeout(ctx, tc.deadline)
							defer cancel()
						}
						ctx, cancel := context.WithCancel(ctx)
						defer cancel()
						if tc.cancel > 0 {
							time.AfterFunc(tc.cancel, cancel)
						}
						if tc.stop > 0 {
							time.AfterFunc(tc.stop, func() { close(stop) })
						}
						dc := a.converter(ctx)
						if tc.unplugged {
							dc = codec.NewDataConverter(a.codec, testNamespace, nil).(workflow.ContextAware).WithContext(ctx)
						}
						a.backend.Fake("a").Always(tc.fault)
						heal := time.AfterFunc(tc.outage, a.backend.Fake("a").Heal)
						defer heal.Stop()
						start := time.Now()
						err := convert(dc)
						took := time.Since(start)
						heal.Stop()
						a.backend.Fake("a").Heal()
						if took < tc.from || took > tc.to {
							t.Errorf("it took %v, want %v to %v (%v)", took, tc.from, tc.to, err)
						}
						if tc.outage != forever {
							if err != nil {
								t.Errorf("it failed: %v", err)
							}
						} else if wantClass(t, err, tc.want); !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "CANARY") {
							t.Errorf("%v does not contain %q", err, tc.says)
						}
						if err != nil && !tc.fault.Stall && strings.Contains(err.Error(), "no answer") {
							t.Errorf("%v does not contain the error of the KMS", err)
						}
						if tc.cancel > 0 && !errors.Is(err, context.Canceled) {
							t.Errorf("%v is not canceled", err)
						}
						if waits := took > time.Second; strings.Count(a.logs.String(), "waits for a KMS") != map[bool]int{true: 1}[waits] {
							t.Errorf("after %v the log is %q", took, a.logs)
						}
						if tc.heartbeat > 0 && !tc.unplugged {
							a.checkBeats(t, start, tc.heartbeat)
						} else if len(a.beats) > 0 {
							t.Errorf("%d heartbeats", len(a.beats))
						}
						return "", nil
					})
					if err != nil && tc.outage != forever {
						t.Error(err)
					}
				})
			})
		}
	}
}

const failRefused = `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], onDenied: fail}]}`

// checkBeats checks that there was a heartbeat in each part of the time since start, as long as
// the interval after which the SDK sends the latest heartbeat.
func (a *act) checkBeats(t *testing.T, start time.Time, timeout time.Duration) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	last := start
	for _, beat := range append(a.beats, time.Now()) {
		if gap := beat.Sub(last); gap > timeout*4/5 {
			t.Errorf("no heartbeat for %v", gap)
		}
		last = beat
	}
}
