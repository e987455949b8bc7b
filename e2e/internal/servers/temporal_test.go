package servers

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nexus-rpc/sdk-go/nexus"
	enumspb "go.temporal.io/api/enums/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/temporalnexus"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func TestTemporalOptionsArgs(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    TemporalOptions
		want []string
	}{
		{"zero", TemporalOptions{}, []string{"--port", "0"}},
		{"no Web UI", TemporalOptions{UIPort: 8233, UICodecEndpoint: "http://x", UICodecPassToken: true}, []string{"--port", "0"}},
		{"all", TemporalOptions{
			Namespaces: []string{"a", "b"}, DBFile: "f.db", Port: 7233,
			SearchAttributes: map[string]enumspb.IndexedValueType{"Z": enumspb.INDEXED_VALUE_TYPE_INT, "C": enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST},
			UI:               true, UIPort: 8233, UICodecEndpoint: "http://x", UICodecPassToken: true,
		}, []string{
			"--port", "7233", "--namespaces", "a,b", "--search-attributes", "C=KeywordList,Z=Int", "--db", "f.db",
			"--ui-port", "8233", "--ui-codec-endpoint", "http://x", "--ui-codec-pass-token",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.o.args()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTemporalReadiness(t *testing.T) {
	for _, tc := range []struct{ name, line, want string }{
		{"not JSON", "starting", "read its readiness line"},
		{"not ready", `{"ready":false,"grpc":"127.0.0.1:1"}`, "names no address"},
		{"no address", `{"ready":true}`, "names no address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := new(Temporal).readiness(tc.line); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func dial(t *testing.T, hostPort, namespace string) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: hostPort, Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", url, resp.StatusCode, err)
	}
	return string(body)
}

// TestTemporalFile proves that what a client sends is found in the database
// file: a test that looks there for plaintext and finds none means something.
func TestTemporalFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "temporal.db")
	o := TemporalOptions{
		DBFile: file, UI: true, UICodecEndpoint: "http://127.0.0.1:9/codec",
		SearchAttributes: map[string]enumspb.IndexedValueType{"Customer": enumspb.INDEXED_VALUE_TYPE_KEYWORD},
	}
	s := StartTemporal(t, o)
	ctx := t.Context()
	run, err := dial(t, s.HostPort, "default").ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "w", TaskQueue: "nobody",
		Memo:                  map[string]any{"m": "canary-memo"},
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("Customer").ValueSet("canary-attribute")),
	}, "Workflow", "canary-input")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{"canary-input", "canary-memo", "canary-attribute"} {
		if !bytes.Contains(data, []byte(canary)) {
			t.Errorf("the database file lacks %q", canary)
		}
	}

	if page := get(t, s.UIURL+"/namespaces/default/workflows"); !strings.Contains(page, "<!doctype html>") {
		t.Errorf("the Web UI serves %.200q", page)
	}
	if settings := get(t, s.UIURL+"/api/v1/settings"); !strings.Contains(settings, o.UICodecEndpoint) {
		t.Errorf("the Web UI's settings lack the codec endpoint: %s", settings)
	}

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	again := StartTemporal(t, o)
	d, err := describe(ctx, dial(t, again.HostPort, "default"), "w", run.GetRunID())
	if err != nil {
		t.Fatal(err)
	}
	if got := d.GetWorkflowExecutionInfo().GetType().GetName(); got != "Workflow" {
		t.Errorf("after a restart the workflow's type is %q", got)
	}
}

func TestTemporalThatCannotStart(t *testing.T) {
	running := StartTemporal(t, TemporalOptions{})
	_, taken, _ := strings.Cut(running.HostPort, ":")
	for _, tc := range []struct {
		name, want string
		o          TemporalOptions
	}{
		{"bad flag", "holds an empty name", TemporalOptions{Namespaces: []string{""}}},
		{"port taken", "address already in use", TemporalOptions{Port: atoi(t, taken)}},
		{"folder missing", "prepare the database", TemporalOptions{DBFile: filepath.Join(t.TempDir(), "absent", "t.db")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := RunTemporal(t.Context(), tc.o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := RunTemporal(ctx, TemporalOptions{}); err == nil {
			t.Error("started all the same")
		}
	})
}

// TestTemporalFeatures runs what depends on the server's settings: Nexus both
// ways, an update, a child in another namespace, and a schedule.
func TestTemporalFeatures(t *testing.T) {
	ctx := t.Context()
	s := StartTemporal(t, TemporalOptions{Namespaces: []string{"default", "other"}})
	c, other := dial(t, s.HostPort, "default"), dial(t, s.HostPort, "other")

	const queue, endpoint = "queue", "endpoint"
	if _, err := c.OperatorService().CreateNexusEndpoint(ctx, &operatorservice.CreateNexusEndpointRequest{Spec: &nexuspb.EndpointSpec{
		Name: endpoint,
		Target: &nexuspb.EndpointTarget{Variant: &nexuspb.EndpointTarget_Worker_{
			Worker: &nexuspb.EndpointTarget_Worker{Namespace: "other", TaskQueue: queue},
		}},
	}}); err != nil {
		t.Fatal(err)
	}

	echo := func(_ workflow.Context, s string) (string, error) { return s, nil }
	service := nexus.NewService("service")
	if err := service.Register(
		nexus.NewSyncOperation("sync", func(_ context.Context, s string, _ nexus.StartOperationOptions) (string, error) { return s, nil }),
		temporalnexus.NewWorkflowRunOperation("run", echo, func(_ context.Context, _ string, o nexus.StartOperationOptions) (client.StartWorkflowOptions, error) {
			return client.StartWorkflowOptions{ID: "nexus-" + o.RequestID}, nil
		}),
	); err != nil {
		t.Fatal(err)
	}
	startWorker(t, other, queue, func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(echo, workflow.RegisterOptions{Name: "Echo"})
		w.RegisterNexusService(service)
	})
	startWorker(t, c, queue, func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context) ([]string, error) {
			got := make([]string, 4)
			updated := false
			if err := workflow.SetUpdateHandler(ctx, "update", func(_ workflow.Context, s string) error {
				got[3], updated = s, true
				return nil
			}); err != nil {
				return nil, err
			}
			nc := workflow.NewNexusClient(endpoint, "service")
			if err := nc.ExecuteOperation(ctx, "sync", "sync", workflow.NexusOperationOptions{}).Get(ctx, &got[0]); err != nil {
				return nil, err
			}
			if err := nc.ExecuteOperation(ctx, "run", "run", workflow.NexusOperationOptions{}).Get(ctx, &got[1]); err != nil {
				return nil, err
			}
			child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{Namespace: "other", TaskQueue: queue}) //nolint:staticcheck // deprecated, in use, and enabled here
			if err := workflow.ExecuteChildWorkflow(child, "Echo", "child").Get(ctx, &got[2]); err != nil {
				return nil, err
			}
			return got, workflow.Await(ctx, func() bool { return updated })
		}, workflow.RegisterOptions{Name: "All"})
	})

	schedule, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: "schedule", Paused: true,
		Action: &client.ScheduleWorkflowAction{ID: "all", Workflow: "All", TaskQueue: queue},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schedule.Describe(ctx); err != nil {
		t.Fatal(err)
	}

	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "all", TaskQueue: queue}, "All")
	if err != nil {
		t.Fatal(err)
	}
	update, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: "all", UpdateName: "update", Args: []any{"update"}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := update.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := run.Get(ctx, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"sync", "run", "child", "update"}, got); diff != "" {
		t.Error(diff)
	}
}

func startWorker(t *testing.T, c client.Client, queue string, register func(worker.Worker)) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	register(w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// describe returns what the server says of a workflow.
func describe(ctx context.Context, c client.Client, id, run string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	d, err := c.DescribeWorkflow(ctx, id, run)
	if err != nil {
		return nil, err
	}
	return d.RawResponse, nil
}
