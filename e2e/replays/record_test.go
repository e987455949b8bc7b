package replays

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-rpc/sdk-go/nexus"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/operatorservice/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporalnexus"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/internal/replaytest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/policy"
)

// taskQueue is one for all: each namespace has its own.
const taskQueue = "tasks"

// identity takes the place of the machine's name in histories.
const identity = "recorder"

// recorder runs the workflows on a Temporal server.
type recorder struct {
	server  *servers.Temporal
	codec   *codec.Codec
	plain   client.Client                 // without the plugin, in Migrating
	sealed  map[string]client.Client      // by namespace
	scripts map[string]*replaytest.Script // by namespace
}

// newCodec returns a codec with the corpus' policy over a keyring file.
func newCodec(t *testing.T, keyring string) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("replays.yaml", replaytest.Policy(strings.TrimSuffix(localkms.URI(keyring, ""), "#")))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(localkms.Backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newRecorder(t *testing.T, keyring string) *recorder {
	t.Helper()
	r := &recorder{
		server: servers.StartTemporal(t, servers.TemporalOptions{
			Namespaces: replaytest.Namespaces(), DBFile: filepath.Join(t.TempDir(), "temporal.db"),
			SearchAttributes: map[string]enumspb.IndexedValueType{
				replaytest.AttributeCustomer: enumspb.INDEXED_VALUE_TYPE_KEYWORD, replaytest.AttributeTier: enumspb.INDEXED_VALUE_TYPE_KEYWORD,
			},
		}),
		codec: newCodec(t, keyring), sealed: make(map[string]client.Client), scripts: make(map[string]*replaytest.Script),
	}
	// No task queues with the machine's name in histories.
	worker.SetStickyWorkflowCacheSize(0)
	r.plain = r.dial(t, replaytest.Migrating)
	if _, err := r.plain.OperatorService().CreateNexusEndpoint(t.Context(), &operatorservice.CreateNexusEndpointRequest{Spec: &nexuspb.EndpointSpec{
		Name: replaytest.NexusEndpoint, Target: &nexuspb.EndpointTarget{Variant: &nexuspb.EndpointTarget_Worker_{
			Worker: &nexuspb.EndpointTarget_Worker{Namespace: replaytest.Billing, TaskQueue: taskQueue},
		}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, namespace := range replaytest.Namespaces() {
		r.scripts[namespace] = newScript()
		r.sealed[namespace] = r.dial(t, namespace, codec.NewPlugin(r.codec))
		if namespace != replaytest.Migrating { // where the first worker is one without the plugin
			t.Cleanup(r.work(t, r.sealed[namespace], namespace))
		}
	}
	t.Cleanup(func() {
		for _, s := range r.scripts {
			close(s.Release)
		}
	})
	return r
}

func newScript() *replaytest.Script {
	var stumbled atomic.Bool
	return &replaytest.Script{Tokens: make(chan []byte), Release: make(chan struct{}), Stumble: func() {
		if stumbled.CompareAndSwap(false, true) {
			panic("the first workflow task fails")
		}
	}}
}

func (r *recorder) dial(t *testing.T, namespace string, plugins ...client.Plugin) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: r.server.HostPort, Namespace: namespace, Identity: identity, Plugins: plugins,
		ContextPropagators: []workflow.ContextPropagator{replaytest.Propagator{}}, Logger: quiet{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// work starts a worker, and returns what stops it.
func (r *recorder) work(t *testing.T, c client.Client, namespace string) (stop func()) {
	t.Helper()
	w := worker.New(c, taskQueue, worker.Options{MaxHeartbeatThrottleInterval: 20 * time.Millisecond})
	for name, f := range r.scripts[namespace].Workflows() {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	for name, f := range r.scripts[namespace].Activities() {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	service := nexus.NewService(replaytest.NexusService)
	if err := service.Register(nexus.NewSyncOperation(replaytest.NexusSync, answer),
		temporalnexus.NewWorkflowRunOperation(replaytest.NexusAsync, replaytest.NexusWorkflow, func(_ context.Context, in string, _ nexus.StartOperationOptions) (client.StartWorkflowOptions, error) {
			return client.StartWorkflowOptions{ID: "nexus " + in}, nil
		})); err != nil {
		t.Fatal(err)
	}
	w.RegisterNexusService(service)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(w.Stop)
}

func answer(_ context.Context, in string, _ nexus.StartOperationOptions) (string, error) {
	if in == replaytest.NexusFails {
		return "", nexus.NewOperationFailedErrorf("%s", replaytest.NexusSyncFailure)
	}
	return in, nil
}

// quiet is a logger that drops everything: workflows fail on purpose here.
type quiet struct{}

var _ log.Logger = quiet{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// histories returns those of all namespaces by "namespace/name", as the server
// has them. A name is the workflow's ID; later runs have a number behind it.
func (r *recorder) histories(ctx context.Context) (map[string]*historypb.History, error) {
	all := make(map[string]*historypb.History)
	for _, namespace := range replaytest.Namespaces() {
		runs, err := r.runs(ctx, namespace)
		if err != nil {
			return nil, err
		}
		for _, run := range runs {
			h, err := r.history(ctx, namespace, run)
			if err != nil {
				return nil, err
			}
			id, _, _ := strings.Cut(run.GetExecution().GetWorkflowId(), "-20") // a schedule appends the time
			name := namespace + "/" + strings.ReplaceAll(id, " ", "-")
			for n := 2; all[name] != nil; n++ {
				name = fmt.Sprintf("%s/%s-run%d", namespace, strings.ReplaceAll(id, " ", "-"), n)
			}
			all[name] = h
		}
	}
	// The third run of a cron workflow is there or not, and no more than the others.
	maps.DeleteFunc(all, func(name string, _ *historypb.History) bool {
		return strings.Contains(name, "/cron-run") && !strings.HasSuffix(name, "/cron-run2")
	})
	return all, nil
}

// runs lists the script's own workflows, the oldest first.
func (r *recorder) runs(ctx context.Context, namespace string) (runs []*workflowpb.WorkflowExecutionInfo, err error) {
	for token := []byte(nil); ; {
		page, err := r.plain.WorkflowService().ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace, NextPageToken: token})
		if err != nil {
			return nil, err
		}
		for _, run := range page.GetExecutions() {
			if !strings.HasPrefix(run.GetExecution().GetWorkflowId(), "temporal-sys-") {
				runs = append(runs, run)
			}
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			break
		}
	}
	slices.SortFunc(runs, func(a, b *workflowpb.WorkflowExecutionInfo) int {
		return cmp.Or(a.GetStartTime().AsTime().Compare(b.GetStartTime().AsTime()), cmp.Compare(a.GetHistoryLength(), b.GetHistoryLength()))
	})
	return runs, nil
}

func (r *recorder) history(ctx context.Context, namespace string, run *workflowpb.WorkflowExecutionInfo) (*historypb.History, error) {
	h := new(historypb.History)
	for token := []byte(nil); ; {
		page, err := r.plain.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
			Namespace: namespace, Execution: run.GetExecution(), NextPageToken: token,
		})
		if err != nil {
			return nil, err
		}
		h.Events = append(h.Events, page.GetHistory().GetEvents()...)
		if token = page.GetNextPageToken(); len(token) == 0 {
			return h, nil
		}
	}
}
