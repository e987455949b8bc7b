package waxseal

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/policy"
)

// fenced returns the fenced code blocks of a Markdown file in a language.
func fenced(t *testing.T, file, language string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("%s has no %s block", file, language)
	}
	return out
}

func TestReadmeGoIsTheExample(t *testing.T) {
	example, err := os.ReadFile("examples/worker/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range fenced(t, "README.md", "go") {
		if !strings.Contains(string(example), block) {
			t.Errorf("not in examples/worker/main.go:\n%s", block)
		}
	}
}

func TestDocumentedPoliciesParse(t *testing.T) {
	for _, file := range []string{"README.md", "docs/worker.md"} {
		for _, block := range fenced(t, file, "yaml") {
			if _, err := policy.Parse(file, []byte(block)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestExamplePolicyParses(t *testing.T) {
	if _, err := policy.Load("examples/worker/waxseal.yaml"); err != nil {
		t.Error(err)
	}
}

// The curl pipeline of the README, run by a shell against the built binary, prints its input
// payload.
func TestReadmePipeline(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "waxseal")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/waxseal").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	serve := exec.CommandContext(ctx, bin, "serve", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"))
	serve.Cancel = func() error { return serve.Process.Signal(os.Interrupt) }
	stderr, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		found := regexp.MustCompile(`127\.0\.0\.1:\d+`)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if a := found.FindString(lines.Text()); a != "" && len(address) == 0 {
				address <- a
			}
		}
		close(address)
	}()
	listening, ok := <-address
	if !ok {
		t.Fatal("the server ended without saying where it listens")
	}
	const first = `{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhpIg=="}]}`
	ran := false
	for _, block := range fenced(t, "README.md", "sh") {
		if !strings.HasPrefix(block, "curl") {
			continue
		}
		ran = true
		if !strings.Contains(block, first) {
			t.Errorf("the pipeline does not send %s", first)
		}
		out, err := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", strings.ReplaceAll(block, "127.0.0.1:8081", listening)).Output()
		if err != nil || strings.TrimSpace(string(out)) != first {
			t.Errorf("printed %q, %v", out, err)
		}
	}
	if !ran {
		t.Error("README.md has no curl pipeline")
	}
	stop()
	for range address { // until the server has closed its standard error
	}
	_ = serve.Wait()
}

// Links in all documents lead to an existing file and, if they name one, to an existing
// heading.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)]*))?\)`)
	for _, file := range append(documentation(t), "CHANGELOG.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(file), m[1])
			if m[1] == "" {
				target = file
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", file, m[1])
				continue
			}
			if m[2] != "" && !slices.Contains(anchors(t, target), m[2]) {
				t.Errorf("%s: %s has no heading #%s", file, target, m[2])
			}
		}
	}
}

// anchors returns the link targets of the headings of a Markdown file.
func anchors(t *testing.T, file string) (all []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(string(b), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

func TestReadmeIsShort(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > 250 {
		t.Errorf("%d lines", n)
	}
	for _, want := range []string{"make run", "make test"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("does not name %s", want)
		}
	}
}
