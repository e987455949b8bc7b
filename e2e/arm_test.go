package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/e2e/internal/wiretap"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/policy"
)

const (
	orders  = "orders"  // the namespace where the workflows run
	billing = "billing" // the namespace of children, signals and Nexus operations from orders
)

// policyYAML seals all that can be sealed; %s is the keyring's URI without the
// name of a key.
const policyYAML = `
keys:
  orders: {uri: "%[1]s#orders"}
  billing: {uri: "%[1]s#billing"}
seal:
  - match: {namespace: orders}
    keys: [orders]
    sealHeaders: true
    requireSealed: true
    accept: [billing]
    claims: [activityType]
  - match: {namespace: billing}
    keys: [billing]
    sealHeaders: true
    requireSealed: true
    accept: [orders]
`

// newCodec returns a codec with the policy above over a keyring file, which it
// makes if need be.
func newCodec(t *testing.T, keyring string, backends ...kms.Backend) *codec.Codec {
	t.Helper()
	if len(backends) == 0 {
		backends = []kms.Backend{localkms.Backend}
	}
	p, err := policy.Parse("test.yaml", fmt.Appendf(nil, policyYAML, strings.TrimSuffix(localkms.URI(keyring, ""), "#")))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backends...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// arm is a Temporal server with a tap before it, and the clients and workers of
// two namespaces, which run the script.
type arm struct {
	*script
	server          *servers.Temporal
	tap             *wiretap.Tap
	codec           *codec.Codec // nil when nothing is sealed
	keyring         string       // the keyring file
	orders, billing client.Client
	logs            *lines
	stop            func() // stops workers, clients and the tap
}

// newArm starts all of it. Without sealing it is the control: the same
// programs, without the plugin.
func newArm(t *testing.T, sealing bool) *arm {
	t.Helper()
	dir := t.TempDir()
	a := &arm{script: newScript(billing), logs: new(lines)}
	a.server = servers.StartTemporal(t, servers.TemporalOptions{
		Namespaces: []string{orders, billing}, DBFile: filepath.Join(dir, "temporal.db"),
		SearchAttributes: map[string]enumspb.IndexedValueType{
			attributeCustomer: enumspb.INDEXED_VALUE_TYPE_KEYWORD, attributeTier: enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		},
	})
	var err error
	if a.tap, err = wiretap.Open(t.Context(), a.server.HostPort); err != nil {
		t.Fatal(err)
	}
	var plugins []client.Plugin
	if sealing {
		a.keyring = filepath.Join(dir, "keyring")
		a.codec = newCodec(t, a.keyring)
		plugins = append(plugins, codec.NewPlugin(a.codec))
	}
	a.orders, a.billing = a.dial(t, orders, plugins), a.dial(t, billing, plugins)
	if _, err := a.orders.OperatorService().CreateNexusEndpoint(t.Context(), &operatorservice.CreateNexusEndpointRequest{Spec: &nexuspb.EndpointSpec{
		Name: a.c("nexus-endpoint"), Description: a.payloads("nexus-endpoint-description").GetPayloads()[0],
		Target: &nexuspb.EndpointTarget{Variant: &nexuspb.EndpointTarget_Worker_{
			Worker: &nexuspb.EndpointTarget_Worker{Namespace: billing, TaskQueue: a.c("task-queue")},
		}},
	}}); err != nil {
		t.Fatal(err)
	}
	workers := []worker.Worker{a.startWorker(t, a.orders, a.register), a.startWorker(t, a.billing, a.registerBilling)}
	a.stop = sync.OnceFunc(func() {
		close(a.release)
		var wg sync.WaitGroup
		for _, w := range workers {
			wg.Go(w.Stop)
		}
		wg.Wait()
		a.orders.Close()
		a.billing.Close()
		if err := a.tap.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		a.stop()
		if t.Failed() {
			t.Logf("the SDK's log ends:\n%s", a.logs)
		}
	})
	return a
}

func (a *arm) dial(t *testing.T, namespace string, plugins []client.Plugin) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: a.tap.HostPort, Namespace: namespace, Identity: a.c("identity"), Plugins: plugins,
		ContextPropagators: []workflow.ContextPropagator{propagator{key: a.c("header-key")}},
		Logger:             a.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// logger logs into what a failed test shows.
func (a *arm) logger() log.Logger {
	return log.NewStructuredLogger(slog.New(slog.NewTextHandler(a.logs, &slog.HandlerOptions{Level: slog.LevelWarn})))
}

func (a *arm) startWorker(t *testing.T, c client.Client, register func(worker.Worker)) worker.Worker {
	t.Helper()
	w := worker.New(c, a.c("task-queue"), worker.Options{
		MaxHeartbeatThrottleInterval: 20 * time.Millisecond, // heartbeats are sent, not saved up
		Interceptors:                 []interceptor.WorkerInterceptor{&nexusHeaders{value: a.c("nexus-header")}},
	})
	register(w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// start starts a workflow in the first namespace under its type as ID.
func (a *arm) start(ctx context.Context, workflowType string, args ...any) (client.WorkflowRun, error) {
	return a.orders.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflowType, TaskQueue: a.c("task-queue")}, workflowType, args...)
}

// eventually waits for a condition; what it waits for is for the error.
func eventually(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited in vain until %s", what), err)
		case <-tick.C:
		}
	}
}

// eventsOf returns the events of a kind in the history of a run, as the server has them.
func eventsOf(ctx context.Context, c client.Client, run client.WorkflowRun, kind enumspb.EventType) (found []*historypb.HistoryEvent, err error) {
	all := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for all.HasNext() {
		e, err := all.Next()
		if err != nil {
			return nil, err
		}
		if e.GetEventType() == kind {
			found = append(found, e)
		}
	}
	return found, nil
}

// lines keeps the end of a log. Safe for concurrent use.
type lines struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lines) Write(b []byte) (int, error) {
	const keep, keepOfOne = 16 << 10, 400
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(append(l.buf, bytes.TrimSpace(b[:min(len(b), keepOfOne)])...), '\n')
	if over := len(l.buf) - keep; over > 0 {
		l.buf = append(l.buf[:0], l.buf[over:]...)
	}
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}

// describe returns what the server says of a workflow.
func describe(ctx context.Context, c client.Client, id, run string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	d, err := c.DescribeWorkflow(ctx, id, run)
	if err != nil {
		return nil, err
	}
	return d.RawResponse, nil
}
