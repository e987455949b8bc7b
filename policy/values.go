package policy

import (
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

const textAdvice = "write it in quotes if text is meant"

// text reads a string.
func (r *reader) text(n ast.Node, what string) (string, bool) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		r.fail(nodePosition(n), textAdvice, "%s must be text, not %s", what, describe(n))
		return "", false
	}
	return s.Value, true
}

// list reads a list.
func (r *reader) list(e entry, what, example string) ([]ast.Node, bool) {
	l, ok := e.value.(*ast.SequenceNode)
	if !ok {
		r.fail(nodePosition(e.value), "write a list: "+example, "%s must be a list, not %s", what, describe(e.value))
		return nil, false
	}
	return l.Values, true
}

// texts reads a list of strings of which none comes twice. check, called for
// each, reports what is wrong with it and says whether it is good.
func (r *reader) texts(e entry, what, example string, check func(at position, s string) bool) ([]string, bool) {
	nodes, ok := r.list(e, what, example)
	if !ok {
		return nil, false
	}
	var all []string
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
			ok = check(at, s.Value) && ok
			all = append(all, s.Value)
		}
	}
	return all, ok
}

// boolean reads true or false; false where it is neither, which is reported.
func (r *reader) boolean(e entry, what string) bool {
	b, ok := e.value.(*ast.BoolNode)
	if !ok {
		r.fail(nodePosition(e.value), "write true or false, without quotes", "%s must be true or false, not %s", what, describe(e.value))
		return false
	}
	return b.Value
}

// number reads a whole number between least and most, in plain decimal: 010 or
// 0x10 would not be what everybody reads.
func (r *reader) number(e entry, what string, least, most int64) int64 {
	at := nodePosition(e.value)
	var written string
	switch v := e.value.(type) {
	case *ast.IntegerNode:
		written = v.Token.Value
	case *ast.StringNode: // as the YAML parser calls a number too large for it
		if _, ok := decimal(v.Value); ok && v.Token.Type == token.StringType {
			written = v.Value
		}
	}
	if written == "" {
		r.fail(at, "write a whole number, without quotes", "%s must be a whole number, not %s", what, describeNumber(e.value))
		return 0
	}
	n, ok := decimal(written)
	if !ok {
		r.fail(at, "write it with the digits 0 to 9 alone", "%s must be a plain decimal number", what)
		return 0
	}
	if n < least || n > most {
		r.fail(at, "choose a number in that range", "%s must be %d to %d", what, least, most)
	}
	return n
}

// describeNumber is describe where a whole number is wanted.
func describeNumber(n ast.Node) string {
	if _, fraction := n.(*ast.FloatNode); fraction {
		return "a fraction"
	}
	return describe(n)
}

// decimal reads a plain decimal number; one too large for an int64 becomes the
// largest, which every range refuses.
func decimal(s string) (int64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" || (len(digits) > 1 && digits[0] == '0') {
		return 0, false
	}
	n, _ := strconv.ParseInt(s, 10, 64) // only out of range is left, and gives the nearest
	return n, true
}

// duration reads a duration such as 5m between least and most. Of those that may be
// nothing, 0 needs no unit.
func (r *reader) duration(e entry, what string, least, most time.Duration) time.Duration {
	at := nodePosition(e.value)
	if n, ok := e.value.(*ast.IntegerNode); ok && least == 0 && n.Token.Value == "0" {
		return 0
	}
	s, ok := e.value.(*ast.StringNode)
	if !ok {
		r.fail(at, "write a number and a unit: 90s, 5m or 1h", "%s must be a duration with a unit, not %s", what, describe(e.value))
		return 0
	}
	d, err := time.ParseDuration(s.Value)
	if err != nil {
		r.fail(at, "write a number and a unit: 90s, 5m or 1h", "%s is not a duration: %s", what, quote(s.Value))
		return 0
	}
	if d < least || d > most {
		r.fail(at, "choose a duration in that range", "%s must be %s to %s", what, short(least), short(most))
	}
	return d
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

const sizeAdvice = "write bytes as a whole number, or with a unit: 512KiB, 64MiB or 1GiB"

// size reads a number of bytes, bare or with a unit, from 1 to most.
func (r *reader) size(e entry, what string, most int64) int64 {
	at := nodePosition(e.value)
	var written string
	switch n := e.value.(type) {
	case *ast.IntegerNode:
		written = n.Token.Value
	case *ast.StringNode:
		written = n.Value
	default:
		r.fail(at, sizeAdvice, "%s must be a number of bytes, not %s", what, describeNumber(e.value))
		return 0
	}
	n, ok := parseSize(written)
	if !ok {
		r.fail(at, sizeAdvice, "%s is not a number of bytes: %s", what, quote(written))
		return 0
	}
	if n < 1 || n > most {
		r.fail(at, "choose a size in that range", "%s must be 1 to %d (%dGiB)", what, most, most>>30)
	}
	return n
}

// parseSize reads bytes with an optional binary unit. A size that overflows
// becomes one that every range refuses. There are no decimal units: who writes
// 64MB may mean either, and one of them is wrong.
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
