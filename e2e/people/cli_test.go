package people

import (
	"encoding/base64"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/waxseal/waxseal/e2e/internal/servers"
)

// temporalCLI runs the temporal command and returns what it printed.
func (s *stack) temporalCLI(t *testing.T, args ...string) string {
	t.Helper()
	out, err := servers.CLI(t, append(args, "--address", s.temporal.HostPort)...).CombinedOutput()
	if err != nil {
		t.Fatalf("temporal %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// readable returns what was printed and, behind it, everything in it that is
// base64: where payloads are printed whole, their data is.
func readable(printed string) string {
	var b strings.Builder
	b.WriteString(printed)
	for _, word := range regexp.MustCompile(`[A-Za-z0-9+/]{8,}={0,2}`).FindAllString(printed, -1) {
		if data, err := base64.StdEncoding.DecodeString(word); err == nil {
			b.WriteByte('\n')
			b.Write(data)
		}
	}
	return b.String()
}

func TestCLI(t *testing.T) {
	s := newStack(t, servers.TemporalOptions{})
	run := s.startOrder(t, "cli-order")
	codecFlag := []string{"--codec-endpoint", s.endpoint}

	// A query with an argument: the CLI seals it, the worker opens it, and the
	// other way round.
	query := []string{"workflow", "query", "--workflow-id", "cli-order", "--name", "echo", "--input", `"` + canary + `-asked"`}
	if out := s.temporalCLI(t, append(query, codecFlag...)...); !strings.Contains(out, canary+"-asked "+canary+"-state") {
		t.Errorf("query: %s", out)
	}
	s.temporalCLI(t, append([]string{"workflow", "signal", "--workflow-id", "cli-order", "--name", "approve", "--input", `"` + canary + `-from-cli"`}, codecFlag...)...)
	var result string
	if err := run.Get(t.Context(), &result); err != nil || !strings.HasSuffix(result, canary+"-from-cli") {
		t.Fatalf("the worker got %q, %v", result, err)
	}

	// Started by the CLI: sealed by /encode, opened by the worker.
	s.temporalCLI(t, append([]string{"workflow", "start", "--workflow-id", "cli-started", "--type", "Order", "--task-queue", queue, "--input", `"` + canary + `-cli-card"`, "--memo", `note="` + canary + `-cli-memo"`}, codecFlag...)...)
	s.approve(t, s.client.GetWorkflow(t.Context(), "cli-started", ""))
	if _, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "cli-failed", TaskQueue: queue}, Fail); err != nil {
		t.Fatal(err)
	}
	if err := s.client.GetWorkflow(t.Context(), "cli-failed", "").Get(t.Context(), nil); err == nil {
		t.Fatal("the failing workflow did not fail")
	}

	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"show", []string{"workflow", "show", "--workflow-id", "cli-order"}, []string{"-result", "-from-cli"}},
		{"show in detail", []string{"workflow", "show", "--workflow-id", "cli-order", "--detailed"}, []string{"-card", "-charged", "-side-effect", "-result", "-from-cli"}},
		{"show as JSON", []string{"workflow", "show", "--workflow-id", "cli-order", "-o", "json"}, []string{"-card", "-charged", "-memo", "-summary", "-from-cli"}},
		{"describe", []string{"workflow", "describe", "--workflow-id", "cli-order", "-o", "json"}, []string{"-memo", "-summary", "-result"}},
		{"started by the CLI", []string{"workflow", "show", "--workflow-id", "cli-started", "-o", "json"}, []string{"-cli-card", "-cli-memo"}},
		// The CLI opens the failure's attributes and does not put them back into the message: people see "Encoded failure".
		{"failure", []string{"workflow", "show", "--workflow-id", "cli-failed"}, nil},
		{"failure as JSON", []string{"workflow", "show", "--workflow-id", "cli-failed", "-o", "json"}, []string{"-failure", "-detail"}},
		{"list", []string{"workflow", "list", "-o", "json"}, []string{"-memo", "-cli-memo"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if out := readable(s.temporalCLI(t, tc.args...)); strings.Contains(out, canary) {
				t.Errorf("without the codec server it shows plaintext:\n%s", out)
			}
			out := readable(s.temporalCLI(t, append(tc.args, codecFlag...)...))
			for _, want := range tc.want {
				if !strings.Contains(out, canary+want) {
					t.Errorf("does not show %s:\n%s", want, out)
				}
			}
		})
	}
	t.Run("waxseal decode reads the CLI's JSON", func(t *testing.T) {
		out := s.decodeHistory(t, "cli-order")
		for _, want := range []string{"-card", "-charged", "-side-effect", "-memo", "-header", "-from-cli"} {
			if !strings.Contains(readable(out), canary+want) {
				t.Errorf("does not show %s", want)
			}
		}
		if out := s.decodeHistory(t, "cli-failed"); !strings.Contains(out, `"message": "`+canary+`-failure"`) {
			t.Errorf("does not put the failure's message back:\n%s", out)
		}
	})
}

// decodeHistory pipes a history from the temporal command into waxseal decode.
func (s *stack) decodeHistory(t *testing.T, workflowID string) string {
	t.Helper()
	decode := exec.CommandContext(t.Context(), "go", "run", "./cmd/waxseal", "decode", "--data-dir", filepath.Dir(s.keyring))
	decode.Dir = filepath.Join("..", "..")
	decode.Stdin = strings.NewReader(s.temporalCLI(t, "workflow", "show", "--workflow-id", workflowID, "-o", "json"))
	out, err := decode.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
