package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waxseal/waxseal/internal/devkms"
)

// devReady waits until "dev kms --json" listens, and decodes its output into info.
func devReady(told *devkms.Info) func(*running) bool {
	return func(r *running) bool { return json.Unmarshal([]byte(r.stdout.String()), told) == nil }
}

// cmdDevKMS starts waxseal dev kms on free ports, waits until it listens, and
// sets name_AWS and name_GCP, its endpoints, name_ARN, its key in AWS KMS, and the variables
// that its output lists: devkms name argument...
func cmdDevKMS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: devkms name argument...")
	}
	all := append([]string{"dev", "kms", "--json", "--rehearse", "--aws-listen", "127.0.0.1:0", "--gcp-listen", "127.0.0.1:0"}, args[1:]...)
	cmd := exec.Command("waxseal", all...) //nolint:noctx // ended by a signal, which is what is tested
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	var told devkms.Info
	r, err := startUntil(context.Background(), cmd, ts.MkAbs("."), baseEnv(ts.Getenv("HOME"), ts.Getenv("PATH")), devReady(&told))
	ts.Check(err)
	ts.Defer(func() { _ = r.stop(os.Kill) })
	r.stdin = stdin
	servers(ts)[args[0]] = r
	ts.Setenv(args[0]+"_AWS", told.AWS.Endpoint)
	ts.Setenv(args[0]+"_ARN", told.AWS.Keys[0].ARN)
	ts.Setenv(args[0]+"_GCP", told.GCP.Endpoint)
	for name, value := range told.Environment {
		ts.Setenv(name, value)
	}
}

// cmdRehearse writes a line to what devkms started, and waits until it is
// heard: rehearse name word...
func cmdRehearse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rehearse name word...")
	}
	r, line := servers(ts)[args[0]], strings.Join(args[1:], " ")
	before := strings.Count(r.stderr.String(), line)
	_, err := io.WriteString(r.stdin, line+"\n")
	ts.Check(err)
	ts.Check(r.await(context.Background(), func(r *running) bool { return strings.Count(r.stderr.String(), line) > before }))
}

// Nothing that is for tests only is linked in. Temporal's SDK imports testing itself.
func TestNoTestCode(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{with .Module}}{{if .Main}}{{$.ImportPath}} {{$.Imports}}{{end}}{{end}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(pkg, "test") {
			got = append(got, pkg)
		}
		for imported := range strings.FieldsSeq(strings.Trim(imports, "[]")) {
			if imported == "testing" || strings.HasPrefix(imported, "testing/") {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string(nil), got); diff != "" {
		t.Error(diff)
	}
}

// In the middle of an outage it ends as at any time.
func TestDevKMSEndsWhileItStalls(t *testing.T) {
	cmd := exec.Command("waxseal", "dev", "kms", "--rehearse", "--aws-listen", "127.0.0.1:0", "--gcp-listen", "127.0.0.1:0") //nolint:noctx // ended by a signal
	cmd.Stdin = strings.NewReader("\nall stall\n")
	r, err := startUntil(t.Context(), cmd, t.TempDir(), baseEnv(t.TempDir(), os.Getenv("PATH")), func(r *running) bool {
		return strings.Contains(r.stderr.String(), devKMSWarning) && strings.Contains(r.stderr.String(), "waxseal: note: all stall\n")
	})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(r.stdout.String())
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		if err == nil {
			req.Header.Set("X-Amz-Target", "TrentService.ListKeys")
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		}
		answered <- err
	}()
	if err := r.stop(syscall.SIGTERM); err != nil {
		t.Errorf("%v: %s", err, r.stderr.String())
	}
	if err := <-answered; err == nil {
		t.Error("the request was answered")
	}
	if !strings.Contains(r.stdout.String(), "write here: aws, gcp or all") {
		t.Errorf("it printed %s", r.stdout.String())
	}
}

// What docs/kms/README.md shows of a session is what happens.
func TestKMSDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/kms/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var told devkms.Info
	dir := t.TempDir()
	env := baseEnv(dir, os.Getenv("PATH"))
	cmd := exec.Command("waxseal", "dev", "kms", "--json", "--aws-listen", "127.0.0.1:0", "--gcp-listen", "127.0.0.1:0", "--write-policy", "dev.yaml") //nolint:noctx // ended by a signal
	r, err := startUntil(t.Context(), cmd, dir, env, devReady(&told))
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop(os.Interrupt) //nolint:errcheck // tested elsewhere
	policy := strings.NewReplacer(told.AWS.Endpoint, "http://"+devAWSAddress, told.GCP.Endpoint, devGCPAddress).Replace(told.Policy())
	if !strings.Contains(string(text), "\n```yaml\n"+policy+"```\n") {
		t.Errorf("it has not the policy file\n%s", policy)
	}
	session := regexp.MustCompile("(?ms)^```console\n(\\$ export AWS_.*?)^```$").FindStringSubmatch(string(text))
	if session == nil {
		t.Fatal("there is no session")
	}
	var script, want strings.Builder
	for line := range strings.Lines(session[1]) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			script.WriteString(command)
			want.Reset()
		} else {
			want.WriteString(line)
		}
	}
	run := exec.CommandContext(t.Context(), "bash", "-eo", "pipefail", "-c", script.String())
	run.Dir, run.Env = dir, env
	out, err := run.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), want.String()) {
		t.Errorf("%v: %s", err, out)
	}
}
