package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

const textAdvice = "write it in quotes if text is meant"

// want returns the value as a node of type N, or reports that it is none. kind is what N is called.
func want[N ast.Node](r *reader, e entry, what, kind, advice string) (N, bool) {
	n, ok := e.value.(N)
	if !ok {
		r.fail(nodePosition(e.value), advice, "%s must be %s, not %s", what, kind, describe(e.value))
	}
	return n, ok
}

// textOf reads a text.
func (r *reader) textOf(e entry, what string) (string, bool) {
	if n, ok := want[*ast.StringNode](r, e, what, "text", textAdvice); ok {
		return n.Value, true
	}
	return "", false
}

// choiceValue is one text of a list.
type choiceValue struct {
	out    *string
	what   string
	values []string
}

func (v choiceValue) read(r *reader, e entry, what string) {
	if s, ok := r.textOf(e, what); ok && r.oneOf(nodePosition(e.value), s, v.what, v.values) {
		*v.out = s
	}
}

func (r *reader) oneOf(at position, s, what string, values []string) bool {
	if slices.Contains(values, s) {
		return true
	}
	r.fail(at, "choose from "+strings.Join(values, ", "), "unknown %s %s%s", what, quote(s), r.did(s, values))
	return false
}

// patternValue is a pattern for one fact.
type patternValue struct{ out *string }

func (v patternValue) read(r *reader, e entry, what string) {
	if s, ok := r.textOf(e, what); ok && r.pattern(nodePosition(e.value), s, what+" pattern") {
		*v.out = s
	}
}

func (r *reader) pattern(at position, s, what string) bool {
	problem, advice := checkGlob(s)
	if problem != "" {
		r.fail(at, advice, "%s %s", what, problem)
	}
	return problem == ""
}

// list reads a list.
func (r *reader) list(e entry, what, example string) ([]ast.Node, bool) {
	if n, ok := want[*ast.SequenceNode](r, e, what, "a list", "write a list: "+example); ok {
		return n.Values, true
	}
	return nil, false
}

// textsValue is a list of different texts. check reports what is wrong with one of them, and whether it is good.
type textsValue struct {
	out     *[]string
	example string
	check   func(r *reader, at position, s string) bool
}

func (v textsValue) read(r *reader, e entry, what string) { v.all(r, e, what) }

// all reads the list, and reports whether each text is good.
func (v textsValue) all(r *reader, e entry, what string) bool {
	nodes, ok := r.list(e, what, v.example)
	seen := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		at := nodePosition(n)
		s, isText := n.(*ast.StringNode)
		switch {
		case !isText:
			r.fail(at, textAdvice, "%s must hold text, not %s", what, describe(n))
			ok = false
		case seen[s.Value]:
			r.fail(at, "take one of the two out", "%s is listed twice in %s", quote(s.Value), what)
			ok = false
		default:
			seen[s.Value] = true
			ok = v.check(r, at, s.Value) && ok
			*v.out = append(*v.out, s.Value)
		}
	}
	return ok
}

// boolValue is true or false.
type boolValue struct{ out *bool }

func (v boolValue) read(r *reader, e entry, what string) {
	if n, ok := want[*ast.BoolNode](r, e, what, "true or false", "write true or false, without quotes"); ok {
		*v.out = n.Value
	}
}

// numberValue is a whole number between least and most.
type numberValue struct {
	out         *int
	least, most int64
}

func (v numberValue) read(r *reader, e entry, what string) {
	n, ok := r.number(e, what)
	if ok && (n < v.least || n > v.most) {
		r.fail(nodePosition(e.value), "choose a number in that range", "%s must be %d to %d", what, v.least, v.most)
	}
	*v.out = int(n)
}

// number reads a whole number in plain decimal. It refuses 010 and 0x10, which readers take for different numbers.
func (r *reader) number(e entry, what string) (int64, bool) {
	at := nodePosition(e.value)
	var written string
	switch v := e.value.(type) {
	case *ast.IntegerNode:
		written = v.Token.Value
	case *ast.StringNode: // what the YAML parser makes of a number too large for it
		if _, ok := decimal(v.Value); ok && v.Token.Type == token.StringType {
			written = v.Value
		}
	}
	if written == "" {
		r.fail(at, "write a whole number, without quotes", "%s must be a whole number, not %s", what, describeNumber(e.value))
		return 0, false
	}
	n, ok := decimal(written)
	if !ok {
		r.fail(at, "write it with the digits 0 to 9 alone", "%s must be a plain decimal number", what)
	}
	return n, ok
}

// describeNumber is describe where a whole number is wanted.
func describeNumber(n ast.Node) string {
	if _, fraction := n.(*ast.FloatNode); fraction {
		return "a fraction"
	}
	return describe(n)
}

// decimal reads a plain decimal number. One too large for an int64 becomes the largest, which every range refuses.
func decimal(s string) (int64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" || (len(digits) > 1 && digits[0] == '0') {
		return 0, false
	}
	n, _ := strconv.ParseInt(s, 10, 64) // the only error left is out of range, and n is then the nearest
	return n, true
}

const percentAdvice = "write a whole number and a percent sign: 10%"

// percentValue is a share such as 10%, between least and most percent. The sign is required.
type percentValue struct {
	out         *float64
	least, most int64
}

func (v percentValue) read(r *reader, e entry, what string) {
	at := nodePosition(e.value)
	s, ok := e.value.(*ast.StringNode)
	if !ok {
		r.fail(at, percentAdvice, "%s must be a percentage, not %s", what, describeNumber(e.value))
		return
	}
	digits, signed := strings.CutSuffix(s.Value, "%")
	n, whole := decimal(digits)
	switch {
	case !signed || !whole:
		r.fail(at, percentAdvice, "%s is not a percentage: %s", what, quote(s.Value))
	case n < v.least || n > v.most:
		r.fail(at, "choose a percentage in that range", "%s must be %d%% to %d%%", what, v.least, v.most)
	}
	*v.out = float64(n) / 100
}

const durationAdvice = "write a number and a unit: 90s, 5m or 1h"

// durationValue is a duration such as 5m between least and most. Where the least is 0, a bare 0 is one too.
type durationValue struct {
	out         *time.Duration
	least, most time.Duration
}

func (v durationValue) read(r *reader, e entry, what string) {
	at := nodePosition(e.value)
	if n, bare := e.value.(*ast.IntegerNode); bare && v.least == 0 && n.Token.Value == "0" {
		*v.out = 0
		return
	}
	s, ok := want[*ast.StringNode](r, e, what, "a duration with a unit", durationAdvice)
	if !ok {
		return
	}
	d, err := time.ParseDuration(s.Value)
	switch {
	case err != nil:
		r.fail(at, durationAdvice, "%s is not a duration: %s", what, quote(s.Value))
	case d < v.least || d > v.most:
		r.fail(at, "choose a duration in that range", "%s must be %s to %s", what, short(v.least), short(v.most))
	}
	*v.out = d
}

// short writes 1h where time.Duration writes 1h0m0s.
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

const (
	gib        = int64(1) << 30
	sizeAdvice = "write bytes as a whole number, or with a unit: 512KiB, 64MiB or 1GiB"
)

// sizeValue is a number of bytes, bare or with a unit, from 1 to most.
type sizeValue struct {
	out  *int64
	most int64
}

func (v sizeValue) read(r *reader, e entry, what string) {
	at := nodePosition(e.value)
	var written string
	switch n := e.value.(type) {
	case *ast.IntegerNode:
		written = n.Token.Value
	case *ast.StringNode:
		written = n.Value
	default:
		r.fail(at, sizeAdvice, "%s must be a number of bytes, not %s", what, describeNumber(e.value))
		return
	}
	n, ok := parseSize(written)
	switch {
	case !ok:
		r.fail(at, sizeAdvice, "%s is not a number of bytes: %s", what, quote(written))
	case n < 1 || n > v.most:
		r.fail(at, "choose a size in that range", "%s must be 1 to %d (%dGiB)", what, v.most, v.most/gib)
	}
	*v.out = n
}

// parseSize reads bytes with an optional binary unit; decimal ones are ambiguous. What overflows is out of every range.
func parseSize(s string) (int64, bool) {
	shift := 0
	for _, unit := range [...]struct {
		suffix string
		shift  int
	}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}} {
		if number, found := strings.CutSuffix(s, unit.suffix); found {
			s, shift = strings.TrimSuffix(number, " "), unit.shift
			break
		}
	}
	n, ok := decimal(s)
	if !ok {
		return 0, false
	}
	if n > int64(1)<<62>>shift {
		return int64(1) << 62, true
	}
	return n << shift, true
}
