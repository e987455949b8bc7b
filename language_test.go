package waxseal

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxProseLine = 120 // characters
	maxCell      = 220 // characters: a cell of a table is no paragraph
	maxDecision  = 700 // words of a file in docs/adr
)

// Documents are in plain technical English: a process is no person. The first list has the
// words for persons, the second the phrases in which one of them is allowed.
var (
	personWords  = regexp.MustCompile(`(?i)\b(who|whoever|whom|nobody|somebody|everybody)\b`)
	personPhrase = regexp.MustCompile(`(?i)\b(people|persons?|users?|operators?|developers?|authors?|anyone) who\b`)
	inlineCode   = regexp.MustCompile("`[^`]*`")
	linkTarget   = regexp.MustCompile(`\]\([^)]*\)|<?https?://\S+`)
)

// TestLanguage checks the prose of the documents: the length of its lines, and words
// that stand for a person where a process acts.
func TestLanguage(t *testing.T) {
	documents := 0
	for _, file := range documentation(t) {
		documents++
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range proseProblems(string(b)) {
			t.Errorf("%s: %s", file, problem)
		}
		if strings.HasPrefix(file, "docs/adr/") {
			if n := len(strings.Fields(string(b))); n > maxDecision {
				t.Errorf("%s: %d words; a decision has %d at most: tables go to docs", file, n, maxDecision)
			}
		}
	}
	if documents < 25 {
		t.Errorf("%d documents", documents)
	}
}

func TestProseProblems(t *testing.T) {
	long := strings.Repeat("word ", 30)
	for text, want := range map[string]int{
		"plain text":                                 0,
		"somebody waits":                             1,
		"Whoever asks, and nobody who does":          1,
		"operators who read":                         0,
		"the process who reads":                      1,
		"`who` and\n```\nnobody\n```\n":              0,
		"| nobody | " + long + "|":                   1,
		long:                                         1,
		"| " + long + long + " | |":                  1,
		"| " + long + " | " + long + " |":            0,
		"```\n" + long + "\n```\n":                   0,
		"see [it](" + strings.Repeat("x", 200) + ")": 0,
	} {
		if got := proseProblems(text); len(got) != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// documentation returns the Markdown files for users and contributors. The change log is
// not one: its entries stay as they were written.
func documentation(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "CONTRIBUTING.md"}
	err := filepath.WalkDir("docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			files = append(files, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// proseProblems returns one problem at most for each line outside code blocks. The target
// of a link does not count.
func proseProblems(text string) (problems []string) {
	code := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if code {
			continue
		}
		visible := linkTarget.ReplaceAllString(line, "]")
		prose := personPhrase.ReplaceAllString(inlineCode.ReplaceAllString(visible, ""), "")
		switch row := strings.HasPrefix(strings.TrimSpace(line), "|"); {
		case personWords.MatchString(prose):
			problems = append(problems, personWords.FindString(prose)+": name what acts: "+line)
		case row && slices.ContainsFunc(strings.Split(visible, " | "), longer(maxCell)):
			problems = append(problems, "a cell is too long: "+line)
		case !row && longer(maxProseLine)(visible):
			problems = append(problems, "a line is too long: "+line)
		}
	}
	return problems
}

func longer(than int) func(string) bool {
	return func(s string) bool { return utf8.RuneCountInString(s) > than }
}
