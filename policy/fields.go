package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// entry is one field of a mapping in the file: where its name stands, and its value; nil if a problem with it was reported.
type entry struct {
	at    position
	value ast.Node
}

// reader walks the YAML tree and collects problems.
type reader struct {
	problems []Problem
	schemas  []schema // all of them, once a field is unknown
}

func (r *reader) fail(at position, advice, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...), Advice: advice})
}

// did returns "; did you mean …?" for the candidate nearest to name, or nothing if none is near or maxShown is reached.
func (r *reader) did(name string, candidates []string) string {
	if len(r.problems) >= maxShown {
		return ""
	}
	if meant := nearest(name, candidates); meant != "" {
		return fmt.Sprintf("; did you mean %q?", meant)
	}
	return ""
}

// pairs returns the entries of a mapping in order, and whether n is one. It reports names that are not text, duplicate
// names and missing values.
func (r *reader) pairs(n ast.Node, what, example string) (names []string, entries map[string]entry, ok bool) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		r.fail(nodePosition(n), "write a mapping: "+example, "%s must be a mapping, not %s", what, describe(n))
		return nil, nil, false
	}
	entries = make(map[string]entry, len(m.Values))
	for _, v := range m.Values {
		key, isText := v.Key.(*ast.StringNode)
		e := entry{at: nodePosition(v.Key), value: v.Value}
		if !isText {
			r.fail(e.at, "write the name in quotes", "a name in %s must be text, not %s", what, describe(v.Key))
			continue
		}
		if first, twice := entries[key.Value]; twice {
			r.fail(e.at, "keep one of the two", "%s is already defined on line %d", quote(key.Value), first.at.line)
			continue
		}
		if _, null := v.Value.(*ast.NullNode); null || v.Value == nil {
			r.fail(e.at, "give it a value or take it out", "%s has no value", quote(key.Value))
			e.value = nil
		}
		names = append(names, key.Value)
		entries[key.Value] = e
	}
	return names, entries, true
}

// fields is pairs for a mapping with fixed names: it reports unknown ones. A misspelt field counts as present.
func (r *reader) fields(n ast.Node, s schema) (map[string]entry, bool) {
	names, entries, ok := r.pairs(n, s.what, s.example)
	offered, known := s.names()
	for _, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		e := entries[name]
		advice := s.section + " has these fields: " + strings.Join(offered, ", ")
		meant := nearest(name, known)
		switch home := r.homeOf(name, s); {
		case home != "":
			r.fail(e.at, "move it to "+home, "unknown field %s in %s; it belongs in %s", quote(name), s.what, home)
		case meant != "":
			r.fail(e.at, advice, "unknown field %s in %s; did you mean %q?", quote(name), s.what, meant)
			if _, present := entries[meant]; !present {
				entries[meant] = entry{at: e.at}
			}
		default:
			r.fail(e.at, advice, "unknown field %s in %s", quote(name), s.what)
		}
	}
	return entries, ok
}

// readFunc is a value that one function reads.
type readFunc func(r *reader, e entry, what string)

func (f readFunc) read(r *reader, e entry, what string) { f(r, e, what) }

// laterValue is a value that is read once other fields are known.
type laterValue struct{ out *entry }

func (v laterValue) read(_ *reader, e entry, _ string) { *v.out = e }

// reservedValue is a field that no file may have: a later version gives it a meaning.
type reservedValue struct{ problem, advice string }

func (v reservedValue) read(r *reader, e entry, _ string) { r.fail(e.at, v.advice, "%s", v.problem) }

// read implements value for a mapping within a mapping.
func (s schema) read(r *reader, e entry, _ string) { r.mapping(e, s) }

// mapping reads a mapping's fields, and reports whether it is a mapping.
func (r *reader) mapping(e entry, s schema) bool {
	entries, ok := r.fields(e.value, s)
	if !ok {
		return false
	}
	for _, f := range s.fields {
		held, present := entries[f.name]
		_, refused := f.value.(reservedValue)
		switch {
		case held.value != nil, present && refused:
			f.value.read(r, held, f.name+s.of)
		case !present && f.missing != "":
			r.fail(e.at, f.advice, "%s", f.missing)
		}
	}
	return true
}

// names are the names of the fields that a file may have, and of those that are reserved.
func (s schema) names() (offered, known []string) {
	for _, f := range s.fields {
		if _, refused := f.value.(reservedValue); !refused {
			offered = append(offered, f.name)
		}
		known = append(known, f.name)
	}
	return offered, known
}

// homeOf returns the section of another schema that has the field; empty if none has.
func (r *reader) homeOf(name string, s schema) string {
	if r.schemas == nil {
		r.schemas = schemas()
	}
	for _, other := range r.schemas {
		if offered, _ := other.names(); other.section != s.section && slices.Contains(offered, name) {
			return other.section
		}
	}
	return ""
}

// nearest returns the candidate that the author most likely meant by name, or "".
func nearest(name string, candidates []string) string {
	if len(name) > 4*maxKeyName {
		return ""
	}
	fold := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
	}
	folded := fold(name)
	best, bestDistance := "", 3
	for _, c := range candidates {
		d := distance(folded, fold(c))
		if d < bestDistance && d <= max(1, utf8.RuneCountInString(c)/3) {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance in which swapping two neighbours is one edit (optimal string alignment).
func distance(from, to string) int {
	a, b := []rune(from), []rune(to)
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
