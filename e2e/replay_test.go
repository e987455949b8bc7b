package e2e

import (
	"context"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
)

// mayOnlyUnwrap opens local keys that refuse Wrap: those of a user with the right to read
// histories and to seal nothing.
type mayOnlyUnwrap struct{}

func (mayOnlyUnwrap) Scheme() string { return localkms.Scheme }

func (mayOnlyUnwrap) Open(ctx context.Context, uri *url.URL) (kms.Key, error) {
	key, err := localkms.Backend.Open(ctx, uri)
	return readOnlyKey{key}, err
}

type readOnlyKey struct{ kms.Key }

func (k readOnlyKey) Wrap(context.Context, [][]byte, kms.Context) ([]kms.Wrapped, error) {
	return nil, &kms.Error{Class: kms.Denied, Op: "wrap", KeyID: k.ID(), Detail: "refused by the test"}
}

func (k readOnlyKey) Close() error {
	if c, ok := k.Key.(kms.Closer); ok {
		return c.Close()
	}
	return nil
}

// TestReplay replays every history of the script as the server returned it, with sealed
// headers, and from JSON files, with keys that may not seal.
func TestReplay(t *testing.T) {
	t.Parallel()
	a := newArm(t, true)
	a.drive(t)
	histories := workflowHistories(readEverything(t, a))
	a.stop()
	if len(histories) < 30 {
		t.Fatalf("only %d histories", len(histories))
	}
	reader := newCodec(t, a.keyring, mayOnlyUnwrap{})
	if _, err := reader.Encode(t.Context(), codec.EncodeOptions{Namespace: orders}, []*commonpb.Payload{{Data: []byte("x")}}); kms.ClassOf(err) != kms.Denied {
		t.Fatalf("who may only unwrap seals: %v", err)
	}
	replayer := a.replayer(t, codec.NewPlugin(reader))
	dir := t.TempDir()
	for id, history := range histories {
		t.Run(id, func(t *testing.T) {
			sealed := strings.Contains(history.String(), codec.Encoding)
			if err := replayer.ReplayWorkflowHistory(a.logger(), history); err != nil {
				t.Errorf("as it came: %v", err)
			}
			if sealed != strings.Contains(history.String(), codec.Encoding) || strings.Contains(history.String(), a.c("header-start")) {
				t.Error("replaying opened the caller's history")
			}
			json, err := protojson.Marshal(history)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "history.json")
			if err := os.WriteFile(file, json, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := replayer.ReplayWorkflowHistoryFromJSONFile(a.logger(), file); err != nil {
				t.Errorf("from a file: %v", err)
			}
		})
	}
	everything := histories[a.c("workflow-id")]
	t.Run("without the plugin", func(t *testing.T) {
		if err := a.replayer(t).ReplayWorkflowHistory(a.logger(), everything); err == nil {
			t.Error("a sealed history replays")
		}
	})
	t.Run("of another workflow", func(t *testing.T) {
		other := proto.CloneOf(everything)
		other.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().WorkflowType.Name = "Mailbox"
		if err := replayer.ReplayWorkflowHistory(a.logger(), other); err == nil || !strings.Contains(err.Error(), "TMPRL1100") {
			t.Errorf("got %v", err)
		}
	})
}

// replayer returns a replayer of the script's workflows.
func (a *arm) replayer(t *testing.T, plugins ...worker.Plugin) worker.WorkflowReplayer {
	t.Helper()
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
		Plugins:            plugins,
		ContextPropagators: []workflow.ContextPropagator{propagator{key: a.c("header-key")}},
		Interceptors:       []interceptor.WorkerInterceptor{&nexusHeaders{value: a.c("nexus-header")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	all := a.workflows()
	maps.Copy(all, a.billingWorkflows())
	for name, f := range all {
		r.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	return r
}

// workflowHistories returns the histories of the script's own workflows, by ID;
// where runs share one, the later have their run ID behind it.
func workflowHistories(readings []reading) map[string]*historypb.History {
	histories := make(map[string]*historypb.History)
	for _, r := range readings {
		h, ok := r.message.(*workflowservice.GetWorkflowExecutionHistoryResponse)
		id, of := strings.CutPrefix(r.what, "history of ")
		if !ok || !of || strings.HasPrefix(id, systemWorkflow) {
			continue
		}
		if _, taken := histories[id]; taken {
			id += " " + h.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetOriginalExecutionRunId()
		}
		histories[id] = h.GetHistory()
	}
	return histories
}
