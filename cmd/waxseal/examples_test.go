package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// Every example of every --help, and every shell block of docs/cli.md, runs: in
// a folder with the files that they name, with a temporal command that prints a
// real history. Of serve and dev kms only the ports are changed.
func TestExamples(t *testing.T) {
	world := newExampleWorld(t)
	for _, c := range commands(t) {
		for i, example := range examplesOf(c.Example) {
			t.Run(fmt.Sprintf("%s-%d", strings.ReplaceAll(c.CommandPath(), " ", "-"), i+1), func(t *testing.T) { world.run(t, example) })
		}
	}
	b, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(b), -1)
	if len(blocks) < 15 {
		t.Fatalf("docs/cli.md has %d shell blocks", len(blocks))
	}
	for i, m := range blocks {
		t.Run(fmt.Sprintf("docs-%d", i+1), func(t *testing.T) { world.run(t, m[1]) })
	}
}

// examplesOf returns the command lines of a help text, one example each.
func examplesOf(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case len(all) > 0 && strings.HasSuffix(all[len(all)-1], "|"):
			all[len(all)-1] += "\n" + line
		default:
			all = append(all, line)
		}
	}
	return all
}

const (
	exampleKeyring = "home/.local/share/waxseal/keyring"
	examplePolicy  = `keys:
  default: {uri: "local://%s#default"}
seal:
  - match: {namespace: payments}
    keys: [default]
    accept: [default]
  - match: {namespace: "*"}
    keys: [default]
`
)

// exampleWorld is the files that examples name: what is in them, by their path from
// the folder that an example runs in.
type exampleWorld map[string]string

// newExampleWorld has a key with a version that is off, and one that waits for its
// destruction.
func newExampleWorld(t *testing.T) exampleWorld {
	t.Helper()
	w := exampleWorld{
		"payloads.json": `{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhpIg=="}]}`,
		"bin/temporal":  "#!/bin/sh\n[ \"$1 $2\" = 'workflow show' ] && cat history.json\n",
	}
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	w["history.json"] = read("testdata/history/history.json")
	w[exampleKeyring] = read("testdata/history/keyring")
	dir := t.TempDir()
	env := w.make(t, dir)
	for _, step := range []string{
		"create payments", "rotate payments", "rotate payments",
		"disable payments 1", "disable payments 2", "destroy payments 2 --yes",
	} {
		cmd := exec.CommandContext(t.Context(), "waxseal", append([]string{"keys"}, strings.Fields(step)...)...)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", step, err, out)
		}
	}
	w[exampleKeyring] = read(filepath.Join(dir, exampleKeyring))
	return w
}

// make makes the files, and returns the environment of an example.
func (w exampleWorld) make(t *testing.T, dir string) []string {
	t.Helper()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o600)
		if strings.HasPrefix(text, "#!") {
			mode = 0o700
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range w {
		write(path, text)
	}
	write("waxseal.yaml", fmt.Sprintf(examplePolicy, filepath.Join(dir, exampleKeyring)))
	return baseEnv(filepath.Join(dir, "home"), filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
}

// run runs an example in a world of its own.
func (w exampleWorld) run(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	env := w.make(t, dir)
	if line := regexp.MustCompile(`(?m)^waxseal dev kms.*$`).FindString(script); line != "" {
		line = regexp.MustCompile(` --(aws|gcp)-listen \S+`).ReplaceAllString(line, "") + " --aws-listen 127.0.0.1:0 --gcp-listen 127.0.0.1:0"
		r, err := startUntil(t.Context(), exec.Command("bash", "-c", "exec "+line), dir, env, said(regexp.MustCompile(devKMSWarning))) //nolint:noctx // likewise
		if err != nil {
			t.Fatal(err)
		}
		if err := r.stop(os.Interrupt); err != nil {
			t.Errorf("%v: %s", err, r.stderr.String())
		}
		return
	}
	if line := regexp.MustCompile(`(?m)^waxseal serve.*$`).FindString(script); line != "" {
		line = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(line, "127.0.0.1:0") + " --listen 127.0.0.1:0"
		r, err := start(t.Context(), exec.Command("bash", "-c", "exec "+line), dir, env) //nolint:noctx // ended by a signal, as a user does
		if err != nil {
			t.Fatal(err)
		}
		if err := r.stop(syscall.SIGTERM); err != nil {
			t.Errorf("%v: %s", err, r.stderr.String())
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-eo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, errs.String())
	}
	files, err := filepath.Glob(filepath.Join(dir, "*ed.json")) // sealed.json, opened.json
	if err != nil || out.Len() == 0 && len(files) == 0 && !strings.Contains(script, "source") {
		t.Errorf("it printed nothing and wrote nothing, %v", err)
	}
}
