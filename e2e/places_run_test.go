package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// outcome is what a trouble at a place leads to.
type outcome int

const (
	// held workflows have their task tried again, with a text that says why, and end
	// as if nothing had been.
	held outcome = iota
	// goesOn is a workflow that nothing happens to: activities are tried again, queries
	// get an error. In the end it is as if nothing had been.
	goesOn
	// fails is a workflow that fails, with the class of the trouble in its failure.
	fails
	// otherwise is one that ends with another result.
	otherwise
)

// trouble is a KMS that answers with one class of error.
type trouble struct {
	name    string
	class   kms.Class
	refusal bool // with onDenied: fail: an error, not a matter of waiting
	hold    bool // onDenied: hold
}

func troubles() []trouble {
	return []trouble{
		{"unavailable", kms.Unavailable, false, false},
		{"throttled", kms.Throttled, false, false},
		{"denied-fail", kms.Denied, true, false},
		{"denied-hold", kms.Denied, false, true},
		{"not-found", kms.NotFound, true, false},
		{"disabled", kms.Disabled, true, false},
		{"corrupt", kms.Corrupt, true, false},
	}
}

// site is a worker of its own kind, and what its KMS does.
type site struct {
	queue   string
	backend *kmstest.Backend
	client  client.Client
}

// ills are the workers, and clients, of one kind of trouble: one where all is well,
// one that cannot seal, and one that cannot open.
type ills struct {
	trouble
	keyID string
	sick  atomic.Bool
	bare  client.Client
	codec *codec.Codec // a well one
	told  *told

	well, seals, opens *site

	waiting sync.WaitGroup // places that have not met their trouble yet
	healed  chan struct{}  // closed when the KMS is well
}

func startIlls(t *testing.T, server *servers.Temporal, tr trouble) *ills {
	t.Helper()
	il := &ills{trouble: tr, keyID: "fake://" + tr.name, told: newTold(), healed: make(chan struct{})}
	il.sick.Store(true)
	logs := new(lines)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the SDK's log ends:\n%s", logs)
		}
	})
	dial := func(plugins ...client.Plugin) client.Client {
		c, err := client.DialContext(t.Context(), client.Options{
			HostPort: server.HostPort, Plugins: plugins, ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithStatsHandler(il.told)}}, Logger: log.NewStructuredLogger(slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelError}))),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	il.bare = dial()
	p, err := policy.Parse("test.yaml", fmt.Appendf(nil,
		`{keys: {a: {uri: %q, resilience: {attempts: 1}}}, seal: [{match: {namespace: "*"}, keys: [a], onDenied: %s}]}`, il.keyID, map[bool]string{true: "hold", false: "fail"}[tr.hold]))
	if err != nil {
		t.Fatal(err)
	}
	key := kmstest.NewFake(tr.name)
	start := func(name string, ill ...kmstest.Op) *site {
		handle := key.Reopen()
		handle.Each(func(c kmstest.Call) kmstest.Fault {
			for _, op := range ill {
				if c.Op == op && il.sick.Load() {
					return kmstest.Fail(tr.class)
				}
			}
			return kmstest.Healthy()
		})
		s := &site{queue: tr.name + "-" + name, backend: kmstest.NewBackend(handle)}
		c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(s.backend)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if len(ill) == 0 {
			il.codec = c
		}
		s.client = dial(codec.NewPlugin(c))
		return s
	}
	il.well, il.seals, il.opens = start("well"), start("seals", kmstest.OpWrap), start("opens", kmstest.OpUnwrap)
	return il
}

// work starts the workers, which know the workflows of all places.
func (il *ills) work(t *testing.T, all []place) {
	t.Helper()
	for _, s := range []*site{il.well, il.seals, il.opens} {
		// A task that waits for its KMS takes a poller: with the usual two, those of some twenty
		// held workflows keep queries and updates waiting.
		w := worker.New(s.client, s.queue, worker.Options{MaxConcurrentWorkflowTaskPollers: 10})
		for _, p := range all {
			w.RegisterWorkflowWithOptions(p.workflow(il), workflow.RegisterOptions{Name: p.name})
		}
		registerHelpers(w)
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
	}
}

// at returns a context for activities and children on a task queue.
func at(ctx workflow.Context, s *site) workflow.Context {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: s.queue, ScheduleToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: 10 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 1},
	})
	return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{TaskQueue: s.queue})
}

// run starts the workflow of a place, waits for its trouble and what is documented to
// come of it, and after the trouble for the result.
func (il *ills) run(t *named, p place) {
	met := sync.OnceFunc(il.waiting.Done)
	defer met()
	where := il.opens
	switch p.ill {
	case sealing:
		where = il.seals
	case nothing:
		where = il.well
	case opening:
	}
	id := il.name + " " + strings.ReplaceAll(p.name, " ", "-")
	run, err := il.well.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: where.queue}, p.name, p.input...)
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	want := p.outcome(il.trouble)
	after := func() error { return nil }
	if p.do != nil {
		if after, err = p.do(t.Context(), il, id); err != nil {
			t.Errorf("%v", err)
			return
		}
	}
	switch want {
	case held:
		il.waitHeld(t, p, run)
	case goesOn:
	case fails, otherwise:
		if p.afterwards == nil {
			il.waitEnd(t, p, run, want)
			met()
			il.noPlaintext(t, p, run)
			return
		}
	}
	if want != held && p.started != nil {
		if err := eventually(t.Context(), p.name+" has its trouble", func() (bool, error) { return p.started(t.Context(), il, id) }); err != nil {
			t.Errorf("%v", err)
		}
	}
	if d, err := describe(t.Context(), il.bare, run.GetID(), run.GetRunID()); err != nil || d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Errorf("the workflow is %v, %v", d.GetWorkflowExecutionInfo().GetStatus(), err)
	}
	met()
	<-il.healed
	if err := after(); err != nil {
		t.Errorf("after the trouble: %v", err)
	}
	if p.afterwards != nil {
		if err := p.afterwards(t.Context(), il, id, want); err != nil {
			t.Errorf("after the trouble: %v", err)
		}
	}
	il.waitEnd(t, p, run, want)
	il.noPlaintext(t, p, run)
}

// waitEnd waits for the end of a workflow.
func (il *ills) waitEnd(t *named, p place, run client.WorkflowRun, want outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got string
	err := run.Get(ctx, &got)
	failure, failed := errors.AsType[*temporal.WorkflowExecutionError](err)
	switch {
	case want == fails:
		if !failed || !strings.Contains(failure.Error(), il.class.String()) || strings.Contains(failure.Error(), "CANARY") {
			t.Errorf("the workflow ended with %q, %v", got, err)
		}
	case want == otherwise:
		if err != nil || !strings.Contains(got, p.otherwise) {
			t.Errorf("the workflow ended with %q, %v; want %q", got, err, p.otherwise)
		}
	case p.fails != "":
		if !failed || !strings.Contains(failure.Error(), p.fails) {
			t.Errorf("the workflow ended with %q, %v; it should fail with %q", got, err, p.fails)
		}
	case err != nil || got != p.want:
		t.Errorf("the workflow ended with %q, %v; want %q", got, err, p.want)
	}
}

// waitHeld waits until a worker reported that the task of a workflow failed, and checks
// the reason.
func (il *ills) waitHeld(t *named, p place, run client.WorkflowRun) {
	t.Helper()
	var failed []*failurepb.Failure
	if err := eventually(t.Context(), p.name+": a workflow task was held", func() (bool, error) {
		failed = il.told.of(run.GetRunID())
		return len(failed) > 0, nil
	}); err != nil {
		t.Errorf("%v", err)
		return
	}
	converter := codec.NewFailureConverter(codec.NewDataConverter(il.codec, client.DefaultNamespace, nil))
	said := converter.FailureToError(failed[0]).Error()
	texts := []string{il.keyID, il.class.String()}
	switch {
	case p.says != nil:
		texts = p.says
	case il.refusal && p.saysRefused != nil:
		texts = p.saysRefused
	case !il.refusal:
		texts = append(texts, "waxseal: workflow task held")
	}
	for _, text := range texts {
		if !strings.Contains(said, text) {
			t.Errorf("the failed task says %q, without %q", said, text)
		}
	}
	if strings.Contains(said, "CANARY") {
		t.Errorf("it tells a secret: %q", said)
	}
}

func (il *ills) events(ctx context.Context, run client.WorkflowRun, kind enumspb.EventType) (found []*historypb.HistoryEvent, err error) {
	all := il.bare.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for all.HasNext() {
		e, err := all.Next()
		if err != nil {
			return nil, err
		}
		if kind == enumspb.EVENT_TYPE_UNSPECIFIED || e.GetEventType() == kind {
			found = append(found, e)
		}
	}
	return found, nil
}

// noPlaintext looks at all that the server has of a workflow.
func (il *ills) noPlaintext(t *named, p place, run client.WorkflowRun) {
	t.Helper()
	all, err := il.events(t.Context(), run, enumspb.EVENT_TYPE_UNSPECIFIED)
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, e := range all {
		if text := prototext.Format(e); strings.Contains(text, "CANARY") {
			t.Errorf("%s is in plaintext in %s", p.name, text)
		}
	}
	d, err := describe(t.Context(), il.bare, run.GetID(), run.GetRunID())
	if err != nil || strings.Contains(prototext.Format(d), "CANARY") {
		t.Errorf("%s is in plaintext in %v, %v", p.name, d, err)
	}
}

// TestPlaces has workflows meet a KMS that fails at every place where the SDK seals
// or opens something, on a real server: docs/what-holds-a-workflow.md says what happens there.
func TestPlaces(t *testing.T) {
	t.Parallel()
	server := servers.StartTemporal(t, servers.TemporalOptions{})
	// All at once, and not as many at a time as there are cores: none is healed before
	// each has met its trouble.
	var running sync.WaitGroup
	for _, tr := range troubles() {
		il, all := startIlls(t, server, tr), places(tr)
		il.work(t, all)
		il.waiting.Add(len(all))
		running.Go(func() {
			il.waiting.Wait()
			il.sick.Store(false)
			close(il.healed)
		})
		for _, p := range all {
			running.Go(func() { il.run(&named{t, tr.name + ": " + p.name}, p) })
		}
	}
	running.Wait()
}

// named is a test that puts a name before its errors.
type named struct {
	*testing.T
	name string
}

func (n *named) Errorf(format string, args ...any) {
	n.Helper()
	n.T.Errorf("%s: %s", n.name, fmt.Sprintf(format, args...))
}
