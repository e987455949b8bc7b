package people

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/policy"
)

// openOnly is the local backend with keys that unwrap and do not wrap.
type openOnly struct{}

func (openOnly) Scheme() string { return localkms.Scheme }

func (openOnly) Open(ctx context.Context, uri *url.URL) (kms.Key, error) {
	key, err := localkms.Backend.Open(ctx, uri)
	return openOnlyKey{key}, err
}

type openOnlyKey struct{ kms.Key }

func (k openOnlyKey) Wrap(context.Context, [][]byte, kms.Context) ([]kms.Wrapped, error) {
	return nil, &kms.Error{Class: kms.Denied, Op: "wrap", KeyID: k.ID()}
}

// replayer returns a replayer with a key that refuses to wrap.
func (s *stack) replayer(t *testing.T) worker.WorkflowReplayer {
	t.Helper()
	c, err := codec.New(t.Context(), codec.Config{Policy: policy.Default(localkms.URI(s.keyring, "default")), Registry: kms.NewRegistry(openOnly{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
		Plugins: []worker.Plugin{codec.NewPlugin(c)}, ContextPropagators: []workflow.ContextPropagator{tenant{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.RegisterWorkflow(Order)
	return r
}

func TestReplay(t *testing.T) {
	s := newStack(t, servers.TemporalOptions{})
	run := s.startOrder(t, "replayed")
	s.approve(t, run)

	bare := s.dial(t, client.Options{})
	history := &historypb.History{}
	for events := bare.GetWorkflowHistory(t.Context(), "replayed", run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); events.HasNext(); {
		e, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		history.Events = append(history.Events, e)
	}
	header := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetHeader().GetFields()["tenant"]
	if !codec.ClaimsSealed(header) || strings.Contains(history.String(), canary) {
		t.Fatalf("the history is not sealed: %s", history)
	}
	t.Run("as downloaded", func(t *testing.T) {
		if err := s.replayer(t).ReplayWorkflowHistory(nil, history); err != nil {
			t.Error(err)
		}
	})
	t.Run("from the CLI's JSON", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "history.json")
		if err := os.WriteFile(file, []byte(s.temporalCLI(t, "workflow", "show", "--workflow-id", "replayed", "-o", "json")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.replayer(t).ReplayWorkflowHistoryFromJSONFile(nil, file); err != nil {
			t.Error(err)
		}
	})
	t.Run("from the server", func(t *testing.T) {
		err := s.replayer(t).ReplayWorkflowExecution(t.Context(), bare.WorkflowService(), nil, client.DefaultNamespace, workflow.Execution{ID: "replayed", RunID: run.GetRunID()})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("other code does not replay", func(t *testing.T) {
		r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: []worker.Plugin{codec.NewPlugin(s.codec)}})
		if err != nil {
			t.Fatal(err)
		}
		r.RegisterWorkflowWithOptions(func(workflow.Context, string) (string, error) { return "", nil }, workflow.RegisterOptions{Name: "Order"})
		if err := r.ReplayWorkflowHistory(nil, history); err == nil {
			t.Error("no error")
		}
	})
}
