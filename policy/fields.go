package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// object is a kind of mapping: where it stands, its fields, those of them that
// are known but not offered, and an example.
type object struct {
	where    string
	fields   []string
	reserved []string
	example  string
}

// The fields that each mapping of the file may hold. docs/policy.md lists them
// too, and a test compares.
var (
	fileFields = object{
		where: "the top level", fields: []string{"version", "keys", "seal", "resilience"}, reserved: []string{"access"},
		example: "keys and seal, each at the start of a line",
	}
	keyFields = object{
		where: "a key", fields: []string{"uri", "resilience"},
		example: `{uri: "hashivault://transit/main"}`,
	}
	ruleFields = object{
		where: "a rule", fields: []string{"match", "keys", "recipients", "dataKey", "compression", "accept", "requireSealed", "sealHeaders", "holdWorkflows", "claims", "bind"},
		example: `{match: {namespace: "*"}, keys: [main]}`,
	}
	matchFields = object{
		where: "match", fields: []string{"namespace", "workflowType", "activityType", "taskQueue"},
		example: `{namespace: "payments-*"}`,
	}
	dataKeyFields = object{
		where: "dataKey", fields: []string{"maxPayloads", "maxAge", "maxBytes", "sealGrace"},
		example: `{maxPayloads: 1000, maxAge: 5m}`,
	}

	resilienceFields = object{
		where: "resilience", fields: []string{"timeout", "attempts", "retryBudget", "concurrency", "queue", "breaker"},
		example: `{timeout: 2s, attempts: 3}`,
	}
	breakerFields = object{
		where: "breaker", fields: []string{"failures", "openFor"},
		example: `{failures: 5, openFor: 5s}`,
	}

	// In the order in which a misplaced field is looked for.
	objects = [...]object{ruleFields, matchFields, dataKeyFields, keyFields, fileFields, resilienceFields, breakerFields}
)

// entry is one field of a mapping in the file: where its name stands, and its
// value, nil where that was reported already.
type entry struct {
	at    position
	value ast.Node
}

// reader walks the YAML tree and collects problems.
type reader struct{ problems []Problem }

func (r *reader) fail(at position, advice, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...), Advice: advice})
}

// did returns "; did you mean …?" for what is nearest to name, or nothing: also
// after so many problems that no more are shown.
func (r *reader) did(name string, candidates []string) string {
	if len(r.problems) >= maxShown {
		return ""
	}
	if meant := nearest(name, candidates); meant != "" {
		return fmt.Sprintf("; did you mean %q?", meant)
	}
	return ""
}

// pairs returns the entries of a mapping in order, and whether n is one. It
// reports names that are not text, names that come twice, and missing values.
// what names the mapping in messages, example is one.
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

// fields is pairs for a mapping whose names are fixed: it reports unknown ones.
// A field that an unknown one was meant to be counts as present, so that one
// typo is one problem.
func (r *reader) fields(n ast.Node, what string, o object) (map[string]entry, bool) {
	names, entries, ok := r.pairs(n, what, o.example)
	known := slices.Concat(o.fields, o.reserved)
	for _, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		e := entries[name]
		advice := o.where + " has these fields: " + strings.Join(o.fields, ", ")
		meant := nearest(name, known)
		switch home := homeOf(name, o); {
		case home != "":
			r.fail(e.at, fmt.Sprintf("move it to %s", home), "unknown field %s in %s; it belongs in %s", quote(name), what, home)
		case meant != "":
			r.fail(e.at, advice, "unknown field %s in %s; did you mean %q?", quote(name), what, meant)
			if _, present := entries[meant]; !present {
				entries[meant] = entry{at: e.at}
			}
		default:
			r.fail(e.at, advice, "unknown field %s in %s", quote(name), what)
		}
	}
	return entries, ok
}

// homeOf says where a field belongs that o does not have; empty if nowhere.
func homeOf(name string, o object) string {
	for _, other := range objects {
		if other.where != o.where && slices.Contains(other.fields, name) {
			return other.where
		}
	}
	return ""
}

// nearest returns the candidate that a person most likely meant by name, or "".
func nearest(name string, candidates []string) string {
	if len(name) > 4*MaxKeyName {
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

// distance is the Levenshtein distance in which swapping two neighbours counts
// as one edit (optimal string alignment).
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
