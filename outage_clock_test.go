package waxseal

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	// clockFolders are the folders with duration constants that docs/outage-clock.md lists, by
	// the name on that page.
	clockFolders = map[string]string{"resilience": "kms/resilience", "envelope": "envelope", "codec": "codec", "cache": "cache", "keyset": "internal/keyset"}
	// testFolders hold packages that only tests import.
	testFolders = []string{"hostile", "temporaltest", "testdata"}
)

// TestOutageClock compares docs/outage-clock.md with the source: each constant that
// it lists has the listed value, no duration constant is missing, and each line of
// "What must hold" holds.
func TestOutageClock(t *testing.T) {
	document, err := os.ReadFile("docs/outage-clock.md")
	if err != nil {
		t.Fatal(err)
	}
	source := make(map[string]time.Duration)
	packages := &durations{packages: make(map[string]*types.Package)}
	for name, folder := range clockFolders {
		for id, value := range packages.of(t, folder) {
			source[name+"."+id] = value
		}
	}
	listed := listedDurations(t, string(document))
	if len(listed) < 40 {
		t.Errorf("the page lists %d constants", len(listed))
	}
	for name, value := range source {
		switch want, ok := listed[name]; {
		case !ok:
			t.Errorf("%s, which is %s, is missing on the page", name, short(value))
		case want != short(value):
			t.Errorf("%s is %s, and %s on the page", name, short(value), want)
		}
	}
	for name := range listed {
		if _, ok := source[name]; !ok {
			t.Errorf("%s is on the page and not in the source", name)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]*[<>=][^`]*)` \\| `([^`]*)` \\|").FindAllStringSubmatch(string(document), -1)
	if len(rows) < 20 {
		t.Errorf("%d lines say what must hold", len(rows))
	}
	for _, row := range rows {
		today, holds, err := evaluate(row[1], source)
		if err != nil || !holds || today != row[2] {
			t.Errorf("%s: today %s, which holds: %v; the page says %s (%v)", row[1], today, holds, row[2], err)
		}
	}
}

func TestOutageClockEvaluates(t *testing.T) {
	values := map[string]time.Duration{"p.A": 3 * time.Second, "p.b": 1500 * time.Millisecond}
	for rule, want := range map[string]string{
		"p.A + 2 * p.b <= 6s": "3s + 2 * 1.5s <= 6s true",
		"p.A - p.b = 1.5s":    "3s - 1.5s = 1.5s true",
		"p.A < p.b":           "3s < 1.5s false",
		"p.b >= p.A":          "1.5s >= 3s false",
	} {
		today, holds, err := evaluate(rule, values)
		if got := fmt.Sprint(today, " ", holds); got != want || err != nil {
			t.Errorf("%s: %s, %v", rule, got, err)
		}
	}
	for _, bad := range []string{"p.A", "p.c < 1s", "p.A < 1x"} {
		if _, _, err := evaluate(bad, values); err == nil {
			t.Errorf("%s was evaluated", bad)
		}
	}
}

// listedDurations returns the rows of the page's tables of constants. The heading above
// a table names the package.
func listedDurations(t *testing.T, document string) map[string]string {
	t.Helper()
	listed := make(map[string]string)
	heading := ""
	row := regexp.MustCompile("^\\| `(\\w+)` \\| (\\S+) \\|")
	for line := range strings.Lines(document) {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			heading = strings.TrimSpace(name)
		}
		if m := row.FindStringSubmatch(line); m != nil {
			name := heading + "." + m[1]
			if _, twice := listed[name]; twice {
				t.Errorf("the page lists %s twice", name)
			}
			listed[name] = m[2]
		}
	}
	return listed
}

// durations type-checks packages of this module, without bodies of functions. Of all other
// packages it knows only that they exist. So it evaluates any constant expression, and compiles
// nothing.
type durations struct {
	packages map[string]*types.Package
}

const pathOfModule = "github.com/waxseal/waxseal/"

// timeSource is the part of package time that duration constants use.
const timeSource = `package time
type Duration int64
const (
	Nanosecond Duration = 1
	Microsecond = 1000 * Nanosecond
	Millisecond = 1000 * Microsecond
	Second = 1000 * Millisecond
	Minute = 60 * Second
	Hour = 60 * Minute
)`

// Import implements types.Importer.
func (d *durations) Import(path string) (*types.Package, error) {
	if p, ok := d.packages[path]; ok {
		return p, nil
	}
	fset := token.NewFileSet()
	var files []*ast.File
	switch folder, ours := strings.CutPrefix(path, pathOfModule); {
	case path == "time":
		file, err := parser.ParseFile(fset, "time.go", timeSource, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	case ours:
		sources, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, source := range sources {
			if strings.HasSuffix(source, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(fset, source, nil, 0)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
	}
	config := types.Config{Importer: d, IgnoreFuncBodies: true, Error: func(error) {}}
	p, _ := config.Check(path, fset, files, nil) // the content of other packages is missing
	p.MarkComplete()
	d.packages[path] = p
	return p, nil
}

// of returns the duration constants of a package and of the packages below it.
func (d *durations) of(t *testing.T, folder string) map[string]time.Duration {
	t.Helper()
	found := make(map[string]time.Duration)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if slices.Contains(testFolders, entry.Name()) {
			return filepath.SkipDir
		}
		p, err := d.Import(pathOfModule + filepath.ToSlash(path))
		if err != nil {
			return err
		}
		for _, name := range p.Scope().Names() {
			c, ok := p.Scope().Lookup(name).(*types.Const)
			if !ok || c.Type().String() != "time.Duration" {
				continue
			}
			n, _ := constant.Int64Val(c.Val())
			if before, twice := found[name]; twice && before != time.Duration(n) {
				t.Errorf("%s: %s is both %s and %s", folder, name, before, time.Duration(n))
			}
			found[name] = time.Duration(n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// evaluate returns a rule with values in place of names, and whether it holds: sums of
// `[n *] name` and durations on both sides of a comparison.
func evaluate(rule string, values map[string]time.Duration) (today string, holds bool, err error) {
	words := strings.Fields(rule)
	var sums [2]time.Duration
	compare, side := "", 0
	sign, factor := time.Duration(1), time.Duration(1)
	for i, word := range words {
		switch word {
		case "+", "*":
			continue
		case "-":
			sign = -1
			continue
		case "<", "<=", "=", ">=":
			compare, side = word, 1
			continue
		}
		if n, err := strconv.Atoi(word); err == nil {
			factor = time.Duration(n)
			continue
		}
		value, ok := values[word]
		if !ok {
			if value, err = time.ParseDuration(word); err != nil {
				return "", false, err
			}
		}
		sums[side] += sign * factor * value
		sign, factor = 1, 1
		words[i] = short(value)
	}
	switch difference := sums[0] - sums[1]; compare {
	case "<":
		holds = difference < 0
	case "<=":
		holds = difference <= 0
	case "=":
		holds = difference == 0
	case ">=":
		holds = difference >= 0
	default:
		return "", false, fmt.Errorf("%s compares nothing", rule)
	}
	return strings.Join(words, " "), holds, nil
}

// short writes a duration without the units that are zero: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
