package codec_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// embedding is a program's own plugin around ours.
type embedding struct{ *codec.Plugin }

// renamed also has its own name.
type renamed struct{ *codec.Plugin }

func (renamed) Name() string { return "renamed" }

// newWorker returns a worker of a client, or what worker.New panicked with.
func newWorker(t *testing.T, clients []client.Plugin, workers []worker.Plugin) (w worker.Worker, err error) {
	t.Helper()
	cl, err := client.NewLazyClient(client.Options{Plugins: clients})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	return worker.New(cl, "q", worker.Options{Plugins: workers}), nil
}

// In worker.Options alone the plugin would seal nothing, and the worker would run.
func TestWorkerPluginIsRefused(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	used := codec.NewPlugin(c)
	if _, err := newWorker(t, []client.Plugin{used}, nil); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		clients []client.Plugin
		workers []worker.Plugin
		refused bool
	}{
		"in the client's options":            {[]client.Plugin{codec.NewPlugin(c)}, nil, false},
		"wrapped in the client's options":    {[]client.Plugin{renamed{codec.NewPlugin(c)}}, nil, false},
		"in neither":                         {nil, nil, false},
		"in the worker's options":            {nil, []worker.Plugin{codec.NewPlugin(c)}, true},
		"in the worker's, used for a client": {nil, []worker.Plugin{used}, true},
		"in the worker's, embedded":          {nil, []worker.Plugin{embedding{used}}, true},
		"in the worker's, renamed":           {nil, []worker.Plugin{renamed{codec.NewPlugin(c)}}, true},
		"in both, the same":                  {[]client.Plugin{used}, []worker.Plugin{used}, true},
		"in both, one each":                  {[]client.Plugin{codec.NewPlugin(c)}, []worker.Plugin{codec.NewPlugin(c)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newWorker(t, tc.clients, tc.workers)
			if errors.Is(err, codec.ErrWorkerPlugin) != tc.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPluginTwiceIsRefused(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	p := codec.NewPlugin(c)
	for name, second := range map[string]*codec.Plugin{"the same": p, "another": codec.NewPlugin(c)} {
		t.Run(name, func(t *testing.T) {
			if _, err := client.NewLazyClient(client.Options{Plugins: []client.Plugin{p, second}}); !errors.Is(err, codec.ErrPluginTwice) {
				t.Errorf("client: %v", err)
			}
			if _, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: []worker.Plugin{p, second}}); !errors.Is(err, codec.ErrPluginTwice) {
				t.Errorf("replayer: %v", err)
			}
		})
	}
}

// A replayer has no client: the plugin works alone there.
func TestReplayerTakesThePluginAlone(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: []worker.Plugin{codec.NewPlugin(c)}})
	if err != nil {
		t.Fatal(err)
	}
	r.RegisterWorkflow(func(workflow.Context) error { return nil })
}

func TestRefusedOptionsSayWhatToDo(t *testing.T) {
	for _, err := range []error{codec.ErrWorkerPlugin, codec.ErrPluginTwice, codec.ErrFailureConverterSet, codec.ErrUnguarded} {
		var hinted interface{ Hint() string }
		if !errors.As(fmt.Errorf("dial: %w", err), &hinted) || !strings.Contains(hinted.Hint(), "codec.NewPlugin") {
			t.Errorf("%v: no hint", err)
		}
		if kms.ClassOf(err) != kms.Invalid || !strings.HasPrefix(err.Error(), "codec: ") {
			t.Errorf("%v: %v", err, kms.ClassOf(err))
		}
	}
}
