package waxseal

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// maxLines is how long a file may be, tests and generated code aside: one file
// is one concept.
const maxLines = 500

// startsNothing lists the packages with tests that need not look for leaked goroutines.
var startsNothing = map[string]bool{
	// It parses flags. The build of the server is named after its folder: another test would
	// make every developer build it again, for minutes.
	"e2e/servers/temporal": true,
}

// TestTree checks every Go package below the root, including the other modules.
func TestTree(t *testing.T) {
	packages := 0
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "testdata" || name == "vendor" || name == "node_modules" || dir != "." && strings.HasPrefix(name, ".") {
			return filepath.SkipDir
		}
		files, err := goFiles(dir)
		if err != nil || len(files) == 0 {
			return err
		}
		packages++
		problems := append(docProblems(files), lengthProblems(files)...)
		if !startsNothing[filepath.ToSlash(dir)] {
			problems = append(problems, leakProblems(files)...)
		}
		for _, problem := range problems {
			t.Errorf("%s: %s", dir, problem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if packages < 2 {
		t.Errorf("found %d packages: the tests do not run in the repository's root", packages)
	}
}

// goFile is one parsed file.
type goFile struct {
	name string // without folder
	src  []byte
	ast  *ast.File
}

func (f goFile) test() bool { return strings.HasSuffix(f.name, "_test.go") }

func goFiles(dir string) ([]goFile, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []goFile
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, src, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, goFile{filepath.Base(path), src, parsed})
	}
	return files, nil
}

// docProblems returns what is wrong with the package comment in files. There must be exactly
// one, in doc.go or the package's only file. It begins with "Package name", or with "Command
// folder" for a program.
func docProblems(files []goFile) []string {
	// A folder of tests alone has its comment in a test.
	if shipped := slices.DeleteFunc(slices.Clone(files), goFile.test); len(shipped) > 0 {
		files = shipped
	}
	var with []string
	var problems []string
	for _, f := range files {
		if f.ast.Doc == nil {
			continue
		}
		with = append(with, f.name)
		text := f.ast.Doc.Text()
		want := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(text, want) {
			problems = append(problems, fmt.Sprintf("the package comment in %s does not begin with %q", f.name, want))
		}
		if len(files) > 1 && f.name != "doc.go" {
			problems = append(problems, "the package comment is in "+f.name+", not in doc.go")
		}
	}
	switch {
	case len(with) == 0:
		problems = append(problems, "no package comment: say in doc.go what the package promises, what calls it and what it never does")
	case len(with) > 1:
		problems = append(problems, "more than one package comment: "+strings.Join(with, ", "))
	}
	return problems
}

func lengthProblems(files []goFile) []string {
	var problems []string
	for _, f := range files {
		if lines := bytes.Count(f.src, []byte{'\n'}); lines > maxLines && !f.test() && !ast.IsGenerated(f.ast) {
			problems = append(problems, fmt.Sprintf("%s has %d lines, more than %d: split it by concept", f.name, lines, maxLines))
		}
	}
	return problems
}

// leakProblems reports whether the package has tests that end without looking for leaked
// goroutines, as goleak does in a TestMain.
func leakProblems(files []goFile) []string {
	tested := false
	for _, f := range files {
		if !f.test() {
			continue
		}
		tested = true
		if i := bytes.Index(f.src, []byte("\nfunc TestMain(")); i >= 0 && bytes.Contains(f.src[i:], []byte("goleak.")) {
			return nil
		}
	}
	if !tested {
		return nil
	}
	return []string{"no TestMain that calls goleak: func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }"}
}

func TestLeakProblems(t *testing.T) {
	const missing = "no TestMain that calls goleak: func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"no tests", map[string]string{"p.go": "package p\n"}, nil},
		{"checked", map[string]string{"p.go": "package p\n", "a_test.go": "package p\n", "p_test.go": "package p\n\nfunc TestMain(m *testing.M) { goleak.VerifyTestMain(m) }\n"}, nil},
		{"not checked", map[string]string{"p_test.go": "package p\n"}, []string{missing}},
		{"TestMain of another kind", map[string]string{"p_test.go": "package p\n\n// goleak.\nfunc TestMain(m *testing.M) { m.Run() }\n"}, []string{missing}},
		{"not in a test", map[string]string{"p.go": "package p\n\nfunc TestMain(m *testing.M) { goleak.VerifyTestMain(m) }\n", "p_test.go": "package p\n"}, []string{missing}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, leakProblems(parsed(t, tc.files))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTreeProblems(t *testing.T) {
	long := "package p\n" + strings.Repeat("\n", maxLines)
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"good", map[string]string{"doc.go": "// Package p is.\npackage p\n", "p.go": "package p\n", "p_test.go": "package p\n"}, nil},
		{"good single file", map[string]string{"p.go": "// Package p is.\npackage p\n", "p_test.go": "package p_test\n"}, nil},
		{"good program", map[string]string{"main.go": "// Command x does.\npackage main\n"}, nil},
		{"good tests alone", map[string]string{"doc_test.go": "// Package p is.\npackage p\n"}, nil},
		{"license is no comment", map[string]string{"p.go": "// Copyright.\n\npackage p\n"}, []string{"no package comment: say in doc.go what the package promises, what calls it and what it never does"}},
		{"none", map[string]string{"p.go": "package p\n", "p_test.go": "// Package p is.\npackage p\n"}, []string{"no package comment: say in doc.go what the package promises, what calls it and what it never does"}},
		{"two", map[string]string{"doc.go": "// Package p is.\npackage p\n", "p.go": "// Package p does.\npackage p\n"}, []string{
			"the package comment is in p.go, not in doc.go", "more than one package comment: doc.go, p.go",
		}},
		{"wrong words", map[string]string{"p.go": "// This package is.\npackage p\n"}, []string{`the package comment in p.go does not begin with "Package p "`}},
		{"wrong words of a program", map[string]string{"p.go": "// Package main is.\npackage main\n"}, []string{`the package comment in p.go does not begin with "Command "`}},
		{"too long", map[string]string{"doc.go": "// Package p is.\npackage p\n", "p.go": long}, []string{"p.go has 501 lines, more than 500: split it by concept"}},
		{"long test", map[string]string{"doc.go": "// Package p is.\npackage p\n", "p_test.go": long}, nil},
		{"long generated", map[string]string{"doc.go": "// Package p is.\npackage p\n", "p.go": "// Code generated by x. DO NOT EDIT.\n\n" + long}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := parsed(t, tc.files)
			if diff := cmp.Diff(tc.want, append(docProblems(files), lengthProblems(files)...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// parsed returns files with these names and contents, as goFiles reads them.
func parsed(t *testing.T, contents map[string]string) []goFile {
	t.Helper()
	dir := t.TempDir()
	for name, src := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := goFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}
