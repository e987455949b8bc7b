package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms/localkms"
)

// A version that waits for its destruction shows when; no other has such a time.
func TestKeysListShowsPendingDestruction(t *testing.T) {
	ring, err := localkms.OpenKeyring(filepath.Join(t.TempDir(), "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { _, err := ring.Create("payments"); return err },
		func() error { _, err := ring.Rotate("payments"); return err },
		func() error { return ring.Disable("payments", "1") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	at, err := ring.Destroy("payments", "1", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ring.List()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(describeKey(ring, keys[0]))
	if err != nil {
		t.Fatal(err)
	}
	if want := `"destroyAt":"` + at.Format(time.RFC3339) + `"`; strings.Count(string(text), "destroyAt") != 1 || !strings.Contains(string(text), want) {
		t.Errorf("no %s, or more than that one, in %s", want, text)
	}
	if got, want := use(keys[0].Versions[0]), "none, and gone at "+at.Format(whenLayout); got != want {
		t.Errorf("a version that waits for its destruction is of use: %s, want %s", got, want)
	}
}

const localDoc = "../../docs/kms/local.md"

// blocks returns the fenced blocks of one language of docs/kms/local.md, in order.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile(localDoc)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("%s has no %s block", localDoc, language)
	}
	return out
}

// What docs/kms/local.md shows of sessions is what happens, times aside.
func TestLocalKeyringDocumentation(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	env := baseEnv(home, os.Getenv("PATH"))
	policy := strings.ReplaceAll(blocks(t, "yaml")[0], "/home/ada", home)
	if err := os.WriteFile(filepath.Join(dir, "waxseal.yaml"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	alike := func(text string) string {
		text = strings.ReplaceAll(text, home, "/home/ada")
		text = regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d UTC`).ReplaceAllString(text, "TIME")
		return regexp.MustCompile(`\b\d+s\b| +`).ReplaceAllStringFunc(text, func(found string) string {
			if strings.HasPrefix(found, " ") {
				return " "
			}
			return "AGE"
		})
	}
	commands := 0
	for _, session := range blocks(t, "console") {
		for step := range strings.SplitSeq(strings.TrimPrefix(session, "$ "), "\n$ ") {
			command, want, _ := strings.Cut(step, "\n")
			run := exec.CommandContext(t.Context(), "bash", "-eo", "pipefail", "-c", command)
			run.Dir, run.Env = dir, env
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", command, err, out)
			}
			got := strings.TrimSuffix(string(out), "\n")
			if alike(got) != alike(strings.TrimSuffix(want, "\n")) {
				t.Errorf("%s\nprints\n%s\nand the document says\n%s", command, got, want)
			}
			commands++
		}
	}
	if commands < 8 {
		t.Errorf("%d commands were run", commands)
	}
}

// The file of docs/kms/local.md is a keyring, and its Go is an example's.
func TestLocalKeyringDocumentedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyring")
	if err := os.WriteFile(path, []byte(blocks(t, "json")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := localkms.OpenKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ring.List()
	if err != nil {
		t.Fatal(err)
	}
	var states []localkms.State
	for _, v := range keys[0].Versions {
		states = append(states, v.State)
	}
	if want := []localkms.State{localkms.Destroyed, localkms.Pending, localkms.Disabled, localkms.Enabled}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	example, err := os.ReadFile("../../kms/localkms/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range blocks(t, "go") {
		if !strings.Contains(string(example), block) {
			t.Errorf("not in the examples of localkms:\n%s", block)
		}
	}
}
