package replays

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/replaytest"
)

// add is off in tests: a stored corpus that tests write proves nothing.
var add = flag.Bool("add", false, "add to codec/testdata/replays the histories that are not there yet; see its README.md")

const corpus = "../../codec/testdata/replays"

// TestRecord records every history and replays it. Every payload of a namespace
// that requires sealed ones is sealed.
func TestRecord(t *testing.T) {
	keyring := filepath.Join(t.TempDir(), replaytest.KeyringFile)
	if *add {
		takeKeyring(t, keyring)
	}
	r := newRecorder(t, keyring)
	r.drive(t)
	histories, err := r.histories(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(histories) < 50 {
		t.Errorf("only %d histories: %q", len(histories), slices.Sorted(maps.Keys(histories)))
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	replayer := r.replayer(t)
	for name, h := range histories {
		if err := replayer.ReplayWorkflowHistory(quiet{}, h); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		plain, err := replaytest.Plaintexts(h, r.open)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if *add && strings.Contains(plain, root) {
			t.Fatalf("%s: a stack trace names this machine's folders: add -trimpath to the command", name)
		}
		if *add && !t.Failed() {
			store(t, name, h, plain)
		}
	}
	if *add {
		writeSums(t)
	}
}

func (r *recorder) open(p *commonpb.Payload) (*commonpb.Payload, bool, error) {
	d := r.codec.Decode(context.Background(), codec.DecodeOptions{}, []*commonpb.Payload{p})[0]
	return d.Payload, d.Sealed, d.Err
}

func (r *recorder) replayer(t *testing.T) worker.WorkflowReplayer {
	t.Helper()
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
		Plugins: []worker.Plugin{codec.NewPlugin(r.codec)}, ContextPropagators: []workflow.ContextPropagator{replaytest.Propagator{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range new(replaytest.Script).Workflows() {
		replayer.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	return replayer
}

// takeKeyring has the recorder seal with the corpus' keyring, if there is one;
// otherwise the one that it makes becomes that.
func takeKeyring(t *testing.T, keyring string) {
	t.Helper()
	stored := filepath.Join(corpus, replaytest.KeyringFile)
	switch b, err := os.ReadFile(stored); {
	case err == nil:
		if err := os.WriteFile(keyring, b, 0o600); err != nil {
			t.Fatal(err)
		}
	case errors.Is(err, fs.ErrNotExist):
		t.Cleanup(func() {
			if t.Failed() {
				return
			}
			b, err := os.ReadFile(keyring)
			if err != nil {
				t.Fatal(err)
			}
			put(t, replaytest.KeyringFile, b)
			writeSums(t)
		})
	default:
		t.Fatal(err)
	}
}

// store adds a history to the corpus, and what is in it; one of them also as
// proto.
func store(t *testing.T, name string, h *historypb.History, plain string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(corpus, name+".json")); err == nil {
		return // what is stored stays
	}
	json, err := replaytest.JSON(h)
	if err != nil {
		t.Fatal(err)
	}
	put(t, name+".json", json)
	put(t, name+".txt", []byte(plain))
	if name == replaytest.Orders+"/markers" {
		binary, err := proto.MarshalOptions{Deterministic: true}.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		put(t, name+".binpb", binary)
	}
	t.Logf("added %s", name)
}

// put writes a file that does not exist yet.
func put(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(corpus, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeSums adds the sums of new files. Those of others stay as they are, so
// that a stored file that has changed fails codec's tests.
func writeSums(t *testing.T) {
	t.Helper()
	file := filepath.Join(corpus, replaytest.SumsFile)
	stored, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(stored)), "\n")
	files := os.DirFS(corpus)
	if err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !replaytest.Summed(d.Name()) || slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, "  "+name) }) {
			return err
		}
		b, err := fs.ReadFile(files, name)
		lines = append(lines, fmt.Sprintf("%x  %s", sha256.Sum256(b), name))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[min(len(a), 64):], b[min(len(b), 64):]) })
	if err := os.WriteFile(file, []byte(strings.TrimSpace(strings.Join(lines, "\n"))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
