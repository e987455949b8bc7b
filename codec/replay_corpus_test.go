package codec_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/replaytest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/policy"
)

const corpus = "testdata/replays"

// storedHistory is a recorded history of the corpus.
type storedHistory struct {
	namespace string
	name      string // unique within the namespace
	json      string // the file
	history   *historypb.History
}

// storedHistories reads the corpus. It fails the test if histories are missing: a replay test
// without histories would pass.
func storedHistories(t *testing.T) []storedHistory {
	t.Helper()
	files, err := filepath.Glob(corpus + "/*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d histories", len(files))
	}
	var all []storedHistory
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		namespace := filepath.Base(filepath.Dir(file))
		all = append(all, storedHistory{namespace, strings.TrimSuffix(filepath.Base(file), ".json"), file, h})
	}
	return all
}

// corpusCodec returns a codec with the policy and the keyring of the corpus.
func corpusCodec(t *testing.T) *codec.Codec {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(corpus, replaytest.KeyringFile))
	if err != nil {
		t.Fatal(err)
	}
	keyring := filepath.Join(t.TempDir(), replaytest.KeyringFile)
	if err := os.WriteFile(keyring, b, 0o600); err != nil { // the required mode of a keyring, which a checkout does not keep
		t.Fatal(err)
	}
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

// TestReplayCorpusIsComplete compares every stored file with its sum: the corpus grows, and its
// files never change.
func TestReplayCorpusIsComplete(t *testing.T) {
	sums, err := os.ReadFile(filepath.Join(corpus, replaytest.SumsFile))
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for lines := bufio.NewScanner(bytes.NewReader(sums)); lines.Scan(); {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		want[name] = sum
	}
	got := make(map[string]string)
	if err := fs.WalkDir(os.DirFS(corpus), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !replaytest.Summed(d.Name()) {
			return err
		}
		b, err := os.ReadFile(filepath.Join(corpus, name))
		got[name] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stored files differ from %s (-want +got):\n%s", replaytest.SumsFile, diff)
	}
}

// TestReplayCorpusOpens opens every payload as a codec server does.
func TestReplayCorpusOpens(t *testing.T) {
	c := corpusCodec(t)
	for _, stored := range storedHistories(t) {
		t.Run(stored.namespace+"/"+stored.name, func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(stored.json, ".json") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			got, err := replaytest.Plaintexts(stored.history, func(p *commonpb.Payload) (*commonpb.Payload, bool, error) {
				d := c.Decode(t.Context(), codec.DecodeOptions{}, []*commonpb.Payload{p})[0]
				return d.Payload, d.Sealed, d.Err
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestReplayCorpusReplays replays every history from its file.
func TestReplayCorpusReplays(t *testing.T) {
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
		Plugins: []worker.Plugin{codec.NewPlugin(corpusCodec(t))}, ContextPropagators: []workflow.ContextPropagator{replaytest.Propagator{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range new(replaytest.Script).Workflows() {
		replayer.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	logger := &corpusLog{}
	for _, stored := range storedHistories(t) {
		t.Run(stored.namespace+"/"+stored.name, func(t *testing.T) {
			if err := replayer.ReplayWorkflowHistoryFromJSONFile(logger, stored.json); err != nil {
				t.Error(err)
			}
		})
	}
	binaries, err := filepath.Glob(corpus + "/*/*.binpb")
	if err != nil || len(binaries) == 0 {
		t.Fatal("no history as proto: ", err)
	}
	for _, file := range binaries {
		t.Run(file, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h := new(historypb.History)
			if err := proto.Unmarshal(b, h); err != nil {
				t.Fatal(err)
			}
			if err := replayer.ReplayWorkflowHistory(logger, h); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("covers every workflow", func(t *testing.T) {
		missing := new(replaytest.Script).Workflows()
		for _, stored := range storedHistories(t) {
			delete(missing, stored.history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName())
		}
		if len(missing) > 0 {
			t.Errorf("no history of %q", slices.Sorted(maps.Keys(missing)))
		}
	})
}
