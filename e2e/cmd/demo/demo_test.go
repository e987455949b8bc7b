package main

import (
	"bytes"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
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
	var stdout, stderr bytes.Buffer
	code := command(t.Context(), []string{"--waxseal", buildWaxseal(t), "--once", "--temporal-port", "0", "--ui-port", "0", "--codec-port", "0"}, &stdout, &stderr)
	if code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit code %d\n%s", code, stderr.String())
	}
	for _, want := range []string{"order-1001  shipped, JD", "order-1002  failed, CardDeclined", "order-1003  waiting for approval", "binary/waxseal", "--codec-endpoint http://127.0.0.1:"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("does not say %q:\n%s", want, stdout.String())
		}
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
