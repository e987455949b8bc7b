package codec_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// lane is one client and one worker with their own codec and KMS. It makes one call at a time,
// so that its seed reproduces its calls.
type lane struct {
	n         int
	server    *wireServer
	namespace string
	codec     *codec.Codec
	client    client.Client

	mu      sync.Mutex // guards r, which decides what the KMS does
	r       *rand.Rand
	failing atomic.Int64 // how many of 100 KMS calls fail

	current   atomic.Pointer[call]
	responded chan response
	echoes    atomic.Int64 // ends of tasks that were seen and will be logged
}

// kindNow is the kind of the call that is under way.
func (l *lane) kindNow() string {
	if c := l.current.Load(); c != nil {
		return c.kind
	}
	return ""
}

// response is the outcome of a worker's answer to a task.
type response struct {
	token  string
	failed bool // the answer says that the task failed
	err    error
}

// lanePolicy returns one of several policies, so that all kinds of rules are tried.
func lanePolicy(n int) string {
	rule := []string{
		`keys: [a], sealHeaders: true, claims: [workflowId, workflowType]`,
		`keys: [a, b], sealHeaders: true, compression: zstd`,
		`keys: [a], sealHeaders: true, dataKey: {maxPayloads: 1000}`,
		`keys: [b], claims: [taskQueue]`,
	}[n%4]
	return fmt.Sprintf("keys: {a: {uri: \"fake://a%d\"}, b: {uri: \"fake://b%d\"}}\nseal: [{match: {namespace: \"*\"}, %s}]\n", n, n, rule)
}

// openerOf returns a codec for the keys of all lanes, none of which fails.
func openerOf(t *testing.T, fakes []*kmstest.Fake) *codec.Codec {
	t.Helper()
	var keys []string
	handles := make([]*kmstest.Fake, len(fakes))
	for i, f := range fakes {
		keys = append(keys, fmt.Sprintf("k%d: {uri: %q}", i, f.ID()))
		handles[i] = f.Reopen()
	}
	return newCodecOn(t, "keys: {"+strings.Join(keys, ", ")+"}\nseal: [{match: {namespace: \"*\"}, keys: [k0]}]\n", kmstest.NewBackend(handles...))
}

func newLane(t *testing.T, n int, seed uint64, server *wireServer, fakes ...*kmstest.Fake) *lane {
	t.Helper()
	l := &lane{
		n: n, server: server, namespace: fmt.Sprintf("lane%d", n),
		r: rand.New(rand.NewPCG(seed, uint64(n))), responded: make(chan response, 100),
	}
	for _, f := range fakes {
		f.Each(l.fault)
	}
	p, err := policy.Parse("lane.yaml", []byte(lanePolicy(n)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Seal { // less than a file may set: nearly every call must reach the KMS
		p.Seal[i].DataKey.MaxAge = time.Millisecond
	}
	l.codec, err = codec.New(t.Context(), codec.Config{
		Policy: p, Registry: kms.NewRegistry(kmstest.NewBackend(fakes...)), Fresh: time.Millisecond, Stale: -1, CallTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.codec.Close)
	l.client, err = client.DialContext(t.Context(), client.Options{
		HostPort: server.addr, Namespace: l.namespace, Plugins: []client.Plugin{codec.NewPlugin(l.codec), &behind{lane: l}}, Logger: dropped{l},
		ContextPropagators: []workflow.ContextPropagator{secretHeader{}},
		ConnectionOptions:  client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(l.observe)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	l.startWorker(t)
	return l
}

// fault is the fault of a KMS call.
func (l *lane) fault(kmstest.Call) kmstest.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.r.Int64N(100) >= l.failing.Load() {
		return kmstest.Healthy()
	}
	classes := []kms.Class{kms.Unavailable, kms.Throttled, kms.Denied, kms.NotFound, kms.Disabled, kms.Corrupt, kms.Canceled, kms.Internal}
	switch l.r.IntN(10) {
	case 0:
		return kmstest.Fault{Drop: true}
	case 1:
		return kmstest.FailItem(0, classes[l.r.IntN(len(classes))])
	case 2:
		return kmstest.Fault{Hook: func(context.Context) error { panic("a backend that panics") }}
	}
	return kmstest.Fail(classes[l.r.IntN(len(classes))])
}

// observe sees each attempt of a request before the guard does. When the SDK retries, the KMS
// heals, unless the call is stubborn.
func (l *lane) observe(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	again := status.Code(err) == codes.Unavailable
	if c := l.current.Load(); again && c != nil && !c.stubborn {
		l.failing.Store(0)
	}
	r, ok := req.(interface{ GetTaskToken() []byte })
	name := path.Base(method)
	if ok && strings.HasPrefix(name, "Respond") && !again {
		if _, works := workerCalls()[l.kindNow()]; works && err != nil {
			l.echoes.Add(1)
		}
		l.responded <- response{string(r.GetTaskToken()), strings.HasSuffix(name, "TaskFailed"), err}
	}
	return err
}

// behind sees the guard's own requests, which report failed tasks.
type behind struct {
	client.PluginBase
	lane *lane
}

func (*behind) Name() string { return "behind the guard" }

func (b *behind) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	c := &o.ClientOptions.ConnectionOptions
	c.DialOptions = append(slices.Clip(c.DialOptions), grpc.WithChainUnaryInterceptor(b.observe))
	return nil
}

func (b *behind) observe(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if r, ok := req.(*workflowservice.RespondWorkflowTaskFailedRequest); ok {
		b.lane.responded <- response{string(r.GetTaskToken()), true, err}
	}
	return err
}

// call is one call of the 10,000.
type call struct {
	*lane

	n        int
	kind     string
	r        *rand.Rand
	stubborn bool // its KMS keeps failing; others heal when the SDK retries

	fails atomic.Bool // the task should fail

	mu   sync.Mutex
	must []string // secrets that the server must get if the call succeeds
	may  []string // secrets that may be withheld from it
}

// secret returns a secret that comes with the call.
func (c *call) secret(what string) string {
	s := c.server.secrets.of(c.n, what)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.must = append(c.must, s)
	return s
}

// perhaps returns a secret that may be left out: the message of a failure that cannot be
// sealed, or a value that the SDK does not always send.
func (c *call) perhaps(what string) string {
	s := c.server.secrets.of(c.n, what)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.may = append(c.may, s)
	return s
}

func plainConverter() converter.DataConverter { return converter.GetDefaultDataConverter() }

// hidden returns a secret that is sealed twice, or not sent at all.
func (c *call) hidden(what string) string { return c.server.secrets.of(c.n, what) }

// meant notes that the task should fail, and returns the error.
func (c *call) meant(err error) error {
	c.fails.Store(true)
	return err
}

func (c *call) sometimes() bool { return c.r.IntN(2) == 0 }

// secretsOf returns at most most secrets.
func (c *call) secretsOf(what string, most int) []any {
	out := make([]any, c.r.IntN(most+1))
	for i := range out {
		out[i] = c.secret(fmt.Sprintf("%s-%d", what, i))
	}
	return out
}

func (c *call) memo(what string) map[string]any {
	out := make(map[string]any)
	for i, s := range c.secretsOf(what, 3) {
		out[fmt.Sprint("k", i)] = s
	}
	return out
}

// id is not secret.
func (c *call) id() string { return fmt.Sprintf("id-%d", c.n) }

// context sometimes adds a header.
func (c *call) context(ctx context.Context) context.Context {
	if c.r.IntN(3) == 0 {
		return context.WithValue(ctx, headerKey{}, c.secret("header"))
	}
	return ctx
}

// sealed converts as a program with bare requests does: by itself. Sometimes it forgets to
// seal, which the guard must notice.
func (c *call) sealed(what string) (*commonpb.Payloads, error) {
	dc := codec.NewDataConverter(c.codec, c.namespace, nil)
	if c.r.IntN(4) == 0 {
		dc = plainConverter()
	}
	return dc.ToPayloads(c.secret(what))
}

func (c *call) sealedOne(what string) (*commonpb.Payload, error) {
	ps, err := c.sealed(what)
	if err != nil {
		return nil, err
	}
	return ps.GetPayloads()[0], nil
}

// result is how a call ended.
type result int

const (
	sent     result = iota // everything arrived, sealed
	withheld               // it was sent without the values that could not be sealed
	refused                // it was not sent
)

// errPanic is the error of a call that panicked.
var errPanic = errors.New("panic")

// run makes the call and returns how it ended. problems are violations.
func (c *call) run(ctx context.Context, do func(context.Context, *call) error) (how result, problems []string) {
	c.failing.Store([]int64{0, 0, 0, 30, 70, 100}[c.r.IntN(6)])
	c.stubborn = c.stubborn && c.r.IntN(4) == 0
	c.current.Store(c)
	defer c.current.Store(nil)
	timeout := 10 * time.Second
	if c.stubborn {
		timeout = 100 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%w: %v", errPanic, p)
				if !strings.Contains(err.Error(), "codec: seal payload") { // in some places the SDK panics with an encoding error
					problems = append(problems, err.Error())
				}
			}
		}()
		return do(ctx, c)
	}()
	if errors.Is(err, errSilent) {
		problems = append(problems, err.Error())
	}
	if err != nil {
		if where := c.server.secrets.find([]byte(err.Error())); where != "" {
			problems = append(problems, "its error holds a secret, "+where)
		}
		return refused, problems
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.must {
		if !c.server.hasOpened(s) {
			problems = append(problems, "it succeeded, and no envelope has "+s)
		}
	}
	for _, s := range c.may {
		if !c.server.hasOpened(s) {
			return withheld, problems
		}
	}
	return sent, problems
}

// secretHeader propagates a secret that the context holds.
type secretHeader struct{}

type headerKey struct{}

func (secretHeader) inject(v any, w workflow.HeaderWriter) error {
	s, ok := v.(string)
	if !ok {
		return nil
	}
	p, err := converter.GetDefaultDataConverter().ToPayload(s)
	w.Set("secret", p)
	return err
}

func (h secretHeader) Inject(ctx context.Context, w workflow.HeaderWriter) error {
	return h.inject(ctx.Value(headerKey{}), w)
}

func (h secretHeader) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	return h.inject(ctx.Value(headerKey{}), w)
}

func (secretHeader) Extract(ctx context.Context, _ workflow.HeaderReader) (context.Context, error) {
	return ctx, nil
}

func (secretHeader) ExtractToWorkflow(ctx workflow.Context, _ workflow.HeaderReader) (workflow.Context, error) {
	return ctx, nil
}

// dropped discards the SDK's log, which is plaintext. Only the log shows that the SDK drops a
// task because converting its outcome panicked: then nothing is sent, and the server hands the
// task out again.
type dropped struct{ *lane }

var _ log.Logger = dropped{}

func (dropped) Debug(string, ...any)                 {}
func (d dropped) Info(message string, about ...any)  { d.look(message, about) }
func (dropped) Warn(string, ...any)                  {}
func (d dropped) Error(message string, about ...any) { d.look(message, about) }

// look must not attribute a log entry to the wrong task, when the end of its task was seen and
// the next call is under way.
func (d dropped) look(message string, about []any) {
	c := d.current.Load()
	if c == nil {
		return
	}
	switch {
	case message == "Unhandled panic.":
	case message == "Workflow task processing panic." && slices.Contains(about, any(c.id())):
		d.echoes.Add(1)
	case strings.HasPrefix(message, "Task processing failed with"):
		if d.echoes.Add(-1) >= 0 {
			return
		}
		d.echoes.Add(1)
	default:
		return
	}
	d.responded <- response{token: c.token(), err: errLost}
}
