package main

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/internal/vaulttest"
)

// process is a waxseal command that a test talks to while it runs.
type process struct {
	*exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr liveOutput
}

func startProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), "waxseal", args...)}
	p.Dir = t.TempDir()
	p.Env = append(baseEnv(p.Dir, os.Getenv("PATH")), env...)
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	var err error
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// interrupt sends SIGINT and checks that the command says so and ends with 130.
func (p *process) interrupt(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("ended with %v", err)
	}
	if got := p.stderr.String(); got != "waxseal: error: interrupted\n" {
		t.Errorf("said %q", got)
	}
	if got := p.stdout.String(); got != "" {
		t.Errorf("wrote %q", got)
	}
}

func TestInterruptedWhileReading(t *testing.T) {
	p := startProcess(t, nil, "decode")
	// More than a pipe holds: when it is written, the command reads.
	if _, err := p.stdin.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	p.interrupt(t)
}

func TestInterruptedWhileTheKMSStalls(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	config := writeFile(t, "waxseal.yaml", `
keys:
  k: {uri: "hashivault://transit/k?address=http://`+ln.Addr().String()+`"}
seal:
  - match: {namespace: "*"}
    keys: [k]
`)
	p := startProcess(t, []string{"VAULT_TOKEN=x"}, "encode", "--config", config, "--namespace", "default")
	if _, err := p.stdin.Write([]byte(`{"data":"aGk="}`)); err != nil {
		t.Fatal(err)
	}
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept() // it sends a request and gets no answer
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.interrupt(t)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The whole way with a real Vault: seal, inspect, open; and what happens when it is gone.
func TestVault(t *testing.T) {
	vault := vaulttest.Start(t)
	vault.EnableTransit(t, "transit")
	vault.CreateKey(t, "transit", "payments", nil)
	config := writeFile(t, "waxseal.yaml", `
keys:
  payments: {uri: "hashivault://transit/payments"}
seal:
  - match: {namespace: "*"}
    keys: [payments]
`)
	const payload = `{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhpIg=="}`
	run := func(stdin string, args ...string) (stdout, stderr string, code int) {
		p := startProcess(t, []string{"VAULT_ADDR=" + vault.Addr, "VAULT_TOKEN=" + vault.RootToken}, args...)
		if _, err := io.WriteString(p.stdin, stdin); err != nil {
			t.Fatal(err)
		}
		if err := p.stdin.Close(); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait() // the exit code says it
		return p.stdout.String(), p.stderr.String(), p.ProcessState.ExitCode()
	}
	sealed, stderr, code := run(payload, "encode", "--config", config, "-n", "default")
	if code != exitOK || strings.Contains(sealed, "ImhpIg") {
		t.Fatalf("encode: %d, %s", code, stderr)
	}
	if opened, stderr, code := run(sealed, "decode", "--config", config); code != exitOK || opened != payload {
		t.Errorf("decode: %d, %s, %s", code, opened, stderr)
	}
	if told, stderr, code := run(sealed, "inspect"); code != exitOK || !strings.Contains(told, "hashivault://transit/payments\n                version 1, ") {
		t.Errorf("inspect: %d, %s, %s", code, told, stderr)
	}
	vault.Stop()
	if out, stderr, code := run(sealed, "decode", "--config", config); code != exitTryLater || out != "" || !strings.Contains(stderr, "cannot reach") {
		t.Errorf("decode without Vault: %d, %s, %s", code, out, stderr)
	}
}

type order struct{ Item, Card string }

// A history that decode opened replays with the SDK alone, without Waxseal.
func TestDecodedHistoryReplays(t *testing.T) {
	var input order
	var note, message, details string
	// What testdata/history is a history of.
	orderWorkflow := func(ctx workflow.Context, o order) (string, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		input = o
		workflow.GetSignalChannel(ctx, "note").Receive(ctx, &note)
		err := workflow.ExecuteActivity(ctx, "Charge", o).Get(ctx, nil)
		if declined, ok := errors.AsType[*temporal.ApplicationError](err); ok {
			message = declined.Message()
			_ = declined.Details(&details) // what it holds says whether it worked
		}
		return "", err
	}
	replayer := worker.NewWorkflowReplayer()
	replayer.RegisterWorkflowWithOptions(orderWorkflow, workflow.RegisterOptions{Name: "OrderWorkflow"})
	if err := replayer.ReplayWorkflowHistoryFromJSONFile(nil, "testdata/history/history.opened.json"); err != nil {
		t.Error(err)
	}
	got := []string{input.Item, input.Card, note, message, details}
	if diff := cmp.Diff([]string{"lamp", "4242", "ring twice", "card 4242 declined", "details of 4242"}, got); diff != "" {
		t.Error(diff)
	}
}

// decode gives what the temporal command gives with a codec server, byte for
// byte, and the messages of failures, which that leaves in their envelopes.
func TestDecodedHistoryIsThatOfTheCodecServer(t *testing.T) {
	lines := func(file string) []string {
		b, err := os.ReadFile(filepath.Join("testdata", "history", file))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(b), "\n")
	}
	opened, codec := lines("history.opened.json"), lines("history.codec.json")
	if len(opened) != len(codec) {
		t.Fatalf("%d lines, want %d", len(opened), len(codec))
	}
	messages := 0
	for i, want := range codec {
		if opened[i] == want {
			continue
		}
		messages++
		if strings.TrimSpace(want) != `"message": "Encoded failure",` || !strings.HasPrefix(strings.TrimSpace(opened[i]), `"message": "`) {
			t.Errorf("line %d: got %s, want %s", i+1, opened[i], want)
		}
	}
	if messages != 6 {
		t.Errorf("%d messages", messages)
	}
}
