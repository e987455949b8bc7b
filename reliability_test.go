package waxseal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each command in docs/reliability.md names existing tests, benchmarks and targets: go test
// also passes when it finds nothing to run.
func TestReliabilityCommands(t *testing.T) {
	document, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile("`([^`]*(?:go test|make )[^`]*)`").FindAllStringSubmatch(string(document), -1)
	if len(commands) < 10 {
		t.Errorf("%d commands", len(commands))
	}
	for _, m := range commands {
		for _, problem := range commandProblems(t, m[1], string(makefile)) {
			t.Errorf("%s: %s", m[1], problem)
		}
	}
}

func TestReliabilityCommandProblems(t *testing.T) {
	const makefile = "test: servers ## run\n"
	for command, want := range map[string]int{
		"make test": 0,
		"make sail": 1,
		"go test -run 'TestReadmeIsShort|TestLinks' .":                  0,
		"go test -run 'TestReadmeIsShort|TestNowhere' .":                1,
		"go test -run TestWarm ./nowhere":                               1,
		"go test -run TestWarm":                                         1,
		"go test ./envelope":                                            1,
		"go test -run xxx -bench BenchmarkNone ./envelope":              2,
		"cd e2e && go test -run TestReplayInAnOutage .":                 0,
		"cd e2e && go test -run TestReadmeIsShort .":                    1,
		"GOEXPERIMENT=x go test -run TestWarm -v ./envelope":            0,
		"WAXSEAL_SOAK=1 go test -run TestNothingIsUsedTwice ./envelope": 0,
	} {
		if got := commandProblems(t, command, makefile); len(got) != want {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// commandProblems returns what is wrong with a command: `make target`, or
// `[cd module &&] [NAME=value] go test -run 'A|B' [-bench C] ./package`.
func commandProblems(t *testing.T, command, makefile string) (problems []string) {
	t.Helper()
	module := "."
	if rest, ok := strings.CutPrefix(command, "cd "); ok {
		module, command, _ = strings.Cut(rest, " && ")
	}
	words := strings.Fields(command)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:]
	}
	if len(words) > 1 && words[0] == "make" {
		if !strings.Contains("\n"+makefile, "\n"+words[1]+":") {
			problems = append(problems, "there is no such target")
		}
		return problems
	}
	folder := words[len(words)-1]
	sources, err := filepath.Glob(filepath.Join(module, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(folder, ".") || len(sources) == 0 {
		return []string{"it names no package with tests"}
	}
	var all strings.Builder
	for _, source := range sources {
		b, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	named := 0
	for i, word := range words {
		if word != "-run" && word != "-bench" || i+1 == len(words) {
			continue
		}
		for name := range strings.SplitSeq(strings.Trim(words[i+1], "'"), "|") {
			named++
			name, _, _ = strings.Cut(name, "/")
			if name != "^$" && !strings.Contains(all.String(), "\nfunc "+name+"(") {
				problems = append(problems, "there is no "+name)
			}
		}
	}
	if named == 0 {
		problems = append(problems, "it names no test")
	}
	return problems
}
