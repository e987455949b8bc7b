package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/e2e/internal/servers"
)

func buildWaxseal(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "waxseal")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/waxseal")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	bin := buildWaxseal(t)
	var stdout, stderr bytes.Buffer
	code := command(t.Context(), []string{"--waxseal", bin, "--once", "--temporal-port", "0", "--ui-port", "0", "--codec-port", "0"}, &stdout, &stderr)
	if code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit code %d\n%s", code, stderr.String())
	}
	for _, want := range []string{
		"order-1001  shipped, JD", "order-1002  failed, CardDeclined", "order-1003  waiting for approval", "binary/waxseal", "--codec-endpoint http://127.0.0.1:",
		"are in " + os.Getenv("TMPDIR") + "/waxseal-demo-", " | " + bin + " decode --data-dir " + os.Getenv("TMPDIR") + "/waxseal-demo-",
	} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("does not say %q:\n%s", want, stdout.String())
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// What it suggests typing into another terminal works there: the demo runs in
// the background, and its suggestions in a shell.
func TestSuggestionsWork(t *testing.T) {
	bin := buildWaxseal(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- command(ctx, []string{"--waxseal", bin, "--temporal-port", "0", "--ui-port", "0", "--codec-port", "0"}, writer, &stderr)
		_ = writer.Close()
	}()
	var suggestions []string
	lines := bufio.NewScanner(reader)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C") {
		if line := strings.TrimSpace(lines.Text()); strings.Contains(line, " workflow s") {
			suggestions = append(suggestions, line)
		}
	}
	if len(suggestions) != 3 {
		t.Errorf("it suggests %q", suggestions)
	}
	for i, want := range []string{`{"charge":"ch_`, "Signal", base64.StdEncoding.EncodeToString([]byte(converter.MetadataEncodingJSON))} {
		if i >= len(suggestions) {
			break
		}
		shell := exec.CommandContext(t.Context(), "bash", "-eo", "pipefail", "-c", suggestions[i])
		if out, err := shell.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", suggestions[i], err, out)
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
}

func TestFindCLI(t *testing.T) {
	there := func(string) (string, error) { return "/usr/bin/temporal", nil }
	absent := func(string) (string, error) { return "", exec.ErrNotFound }
	installed := func(context.Context) (string, error) { return "/home/Ada's/cache/temporal", nil }
	neither := func(context.Context) (string, error) { return "", &servers.NotInstalledError{Program: "temporal-cli"} }
	for _, tc := range []struct {
		name      string
		lookPath  func(string) (string, error)
		installed func(context.Context) (string, error)
		want      cli
		says      string
	}{
		{"in the PATH", there, installed, cli{command: "temporal"}, "With the temporal CLI:\n  temporal workflow show --address h "},
		{"the tests' own", absent, installed, cli{command: `'/home/Ada'\''s/cache/temporal'`}, "With the temporal CLI:\n  '/home/Ada'\\''s/cache/temporal' workflow show "},
		{"none", absent, neither, cli{command: "temporal", missing: true}, "e2e/servers/install.sh temporal-cli builds it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := findCLI(t.Context(), tc.lookPath, tc.installed)
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			var out bytes.Buffer
			suggest(&out, got, "waxseal", "/tmp/d", "h", "http://e")
			if !strings.Contains(out.String(), tc.says) {
				t.Errorf("does not say %q:\n%s", tc.says, out.String())
			}
		})
	}
}

func TestDemoErrors(t *testing.T) {
	bin := buildWaxseal(t)
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"unknown flag", []string{"--nonsense"}, 2, "not defined"},
		{"help", []string{"--help"}, 0, "codec-port"},
		{"no binary", []string{"--waxseal", "/nonexistent/waxseal"}, 1, "make build"},
		{"codec port taken", []string{"--waxseal", bin, "--codec-port", port}, 1, "the codec server did not start"},
		{"Temporal port taken", []string{"--waxseal", bin, "--codec-port", "0", "--temporal-port", port}, 1, port},
		{"Web UI port taken", []string{"--waxseal", bin, "--codec-port", "0", "--temporal-port", "0", "--ui-port", port}, 1, port},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := command(t.Context(), append(tc.args, "--once"), &stdout, &stderr); code != tc.code || !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("exit code %d, want %d\n%s", code, tc.code, stderr.String())
			}
		})
	}
}
