package codec_test

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// A worker reports refused credentials in its log, and in a metric, once, with the key
// and what to do: without that, its workflows wait or fail in silence.
func TestAWorkerLogsRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		policy, level, end string
		held               bool
	}{
		"by default":     {onePolicy, "WARN", taskFails, true},
		"onDenied: fail": {failRefused, "ERROR", workflowFails, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.Parse("waxseal.yaml", []byte(tc.policy))
			if err != nil {
				t.Fatal(err)
			}
			backend := kmstest.NewBackend()
			var counted atomic.Int64
			c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend), Hooks: codec.Hooks{Refused: func(class kms.Class, held bool) {
				if class == kms.Denied && held == tc.held {
					counted.Add(1)
				}
			}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			backend.Fake("a").Always(kmstest.Fail(kms.Denied))
			logs := new(logged)
			s := newStation(t, client.Options{
				Namespace: "n", Plugins: []client.Plugin{codec.NewPlugin(c)},
				Logger: log.NewStructuredLogger(slog.New(slog.NewTextHandler(logs, nil))),
			}, func(worker.Registry) {})
			s.workflow(worker.BlockWorkflow, func(workflow.Context) error { return nil })
			s.give(begun(payload(t, "CANARY")).poll("t"))
			if got := s.ends(); got != tc.end {
				t.Errorf("%s, want: %s", got, tc.end)
			}
			var lines []string
			for line := range strings.Lines(logs.String()) {
				if strings.Contains(line, "msg=\"waxseal:") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 {
				t.Fatalf("%d lines:\n%s", len(lines), logs)
			}
			for _, want := range []string{"level=" + tc.level, "class=denied", "key=fake://a", "a test asked for it"} {
				if !strings.Contains(lines[0], want) {
					t.Errorf("the line lacks %q: %s", want, lines[0])
				}
			}
			if strings.Contains(lines[0], "CANARY") || counted.Load() == 0 {
				t.Errorf("counted %d times, logged: %s", counted.Load(), lines[0])
			}
		})
	}
}
