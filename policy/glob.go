package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// glob is a compiled pattern. The zero glob matches anything.
type glob struct {
	kind globKind
	// text is what the quick kinds compare with; for globGeneral the pattern.
	text string
	// pattern is the pattern in its canonical form.
	pattern string
}

type globKind uint8

const (
	globAny     globKind = iota // empty or *: also what is unknown
	globLiteral                 // no wildcard
	globPrefix                  // literal*
	globSuffix                  // *literal
	globGeneral
)

// reservedInPattern are characters with a meaning in other pattern languages, and perhaps in a later version of this one.
const reservedInPattern = `\[]{}`

// checkGlob says what is wrong with a pattern in a file, and what to do; empty if nothing is.
func checkGlob(pattern string) (problem, advice string) {
	switch {
	case pattern == "":
		return "is empty", `write "*" to match anything, or leave the field out`
	case len(pattern) > maxPattern:
		return "is longer than 255 bytes", `shorten it with "*"`
	case strings.TrimSpace(pattern) != pattern:
		return "starts or ends with a space", "remove the space"
	case strings.ContainsFunc(pattern, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "holds a character that cannot be seen", "type it again; it may have been pasted"
	case strings.ContainsAny(pattern, reservedInPattern):
		return `holds one of \ [ ] { }, which patterns do not have`,
			`a pattern knows "*" for any run of characters and "?" for one character; write two rules for two alternatives`
	}
	return "", ""
}

func compileGlob(pattern string) glob {
	pattern = canonicalGlob(pattern)
	wild := strings.IndexAny(pattern, "*?")
	last := len(pattern) - 1
	switch {
	case pattern == "" || pattern == "*":
		return glob{}
	case wild < 0:
		return glob{globLiteral, pattern, pattern}
	case wild == last && pattern[last] == '*':
		return glob{globPrefix, pattern[:last], pattern}
	case pattern[0] == '*' && !strings.ContainsAny(pattern[1:], "*?"):
		return glob{globSuffix, pattern[1:], pattern}
	}
	return glob{globGeneral, pattern, pattern}
}

// canonicalGlob writes each run of wildcards in one way, all "?" before at most one "*": "*?*" and "?**" mean the same and
// become "?*".
func canonicalGlob(pattern string) string {
	var b strings.Builder
	star := false
	for _, c := range []byte(pattern) {
		if c == '*' {
			star = true
			continue
		}
		if star && c != '?' {
			b.WriteByte('*')
			star = false
		}
		b.WriteByte(c)
	}
	if star {
		b.WriteByte('*')
	}
	return b.String()
}

// match reports whether g matches the fact s; empty means unknown.
func (g glob) match(s string) bool {
	if g.kind == globAny {
		return true
	}
	if s == "" {
		return false
	}
	switch g.kind {
	case globLiteral:
		return s == g.text
	case globPrefix:
		return strings.HasPrefix(s, g.text)
	case globSuffix:
		return strings.HasSuffix(s, g.text)
	case globAny, globGeneral:
	}
	return wildMatch(g.text, s, false)
}

// covers reports whether g matches all that h matches. It reads h's pattern as text.
func (g glob) covers(h glob) bool {
	if g.kind == globAny {
		return true
	}
	if h.kind == globAny {
		return false
	}
	return wildMatch(g.pattern, h.pattern, true)
}

// wildMatch matches all of s. After a mismatch, only the latest "*" takes one more character, and the match goes on from
// there: to give more to an earlier "*" never helps. So the time is at most len(pattern)*len(s). With symbolic set, s is
// itself a pattern: only "*" matches its "*".
func wildMatch(pattern, s string, symbolic bool) bool {
	p, i := 0, 0
	afterStar, resume := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			p++
			afterStar, resume = p, i
			continue
		case p < len(pattern) && pattern[p] == '?' && (!symbolic || s[i] != '*'):
			p++
			i += runeLen(s[i:])
			continue
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
			continue
		}
		if afterStar < 0 {
			return false
		}
		resume += runeLen(s[resume:])
		p, i = afterStar, resume
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// runeLen is the length of s's first character; a byte that is not UTF-8 counts as one.
func runeLen(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
