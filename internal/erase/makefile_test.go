package erase_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// Every package that imports this one is among those that make check tests with
// GOEXPERIMENT=runtimesecret.
func TestMakefileNamesErasingPackages(t *testing.T) {
	root := os.DirFS("../..")
	makefile, err := fs.ReadFile(root, "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ERASING := (.*)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile has no list of ERASING packages")
	}
	listed := strings.Fields(string(line[1]))
	found := 0
	if err := fs.WalkDir(root, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		source, err := fs.ReadFile(root, name)
		if err != nil || !strings.Contains(string(source), `/internal/erase"`) {
			return err
		}
		found++
		for _, pattern := range listed {
			folder, deep := strings.CutSuffix(strings.TrimPrefix(pattern, "./"), "/...")
			if dir := path.Dir(name); dir == folder || deep && strings.HasPrefix(dir, folder+"/") {
				return nil
			}
		}
		t.Errorf("%s imports internal/erase: add its package to ERASING", name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("no file imports internal/erase: the test shows nothing")
	}
}
