package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// position is a place in a file, both from 1; the column counts characters.
type position struct{ line, column int }

// source is the text of a policy file, for excerpts.
type source struct {
	lines  []string
	widths []int // of each line, in characters

	// The line that excerpt showed last, because one long line may hold many problems.
	shown     []rune
	shownLine int
}

func newSource(text string) *source {
	s := &source{lines: strings.Split(text, "\n")}
	for i, line := range s.lines {
		s.lines[i] = strings.ToValidUTF8(strings.TrimSuffix(line, "\r"), "\ufffd")
		s.widths = append(s.widths, utf8.RuneCountInString(s.lines[i]))
	}
	return s
}

// clamp moves at to the nearest place that exists; just behind a line exists.
func (s *source) clamp(at position) position {
	at.line = min(max(at.line, 1), len(s.lines))
	at.column = min(max(at.column, 1), s.widths[at.line-1]+1)
	return at
}

// excerptWidth is how many characters of a line an excerpt shows.
const excerptWidth = 100

// excerpt shows the line of at, and a caret under its column.
func (s *source) excerpt(at position) string {
	if s.shownLine != at.line {
		s.shown, s.shownLine = []rune(printable(strings.ReplaceAll(s.lines[at.line-1], "\t", " "))), at.line
	}
	line := s.shown
	if len(line) == 0 {
		return ""
	}
	caret := at.column - 1
	before, after := "", ""
	if start := caret - excerptWidth*2/3; start > 0 && len(line) > excerptWidth {
		line, caret, before = line[start:], caret-start+1, "…"
	}
	if len(line) > excerptWidth {
		line, after = line[:excerptWidth], "…"
	}
	number := fmt.Sprintf("%4d", at.line)
	return fmt.Sprintf("%s | %s\n%s | %s^", number, before+string(line)+after,
		strings.Repeat(" ", len(number)), strings.Repeat(" ", caret))
}

// credential finds what people put in URIs by mistake: a password before the @, and query parameters named like a secret.
var credential = regexp.MustCompile(`://[^\s"']*@|(?i:token|secret|password|passwd|credential)[A-Za-z_-]*=[^\s&"',}]+`)

// mask replaces each character of a credential in s by a star, so that columns stay.
func mask(s string) string {
	return credential.ReplaceAllStringFunc(s, func(found string) string {
		from, to := strings.IndexByte(found, '=')+1, len(found)
		if strings.HasPrefix(found, "://") {
			from, to = len("://"), len(found)-1
		}
		return found[:from] + strings.Repeat("*", utf8.RuneCountInString(found[from:to])) + found[to:]
	})
}

// printable is s with credentials masked, and a dot for each character that does not show.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, mask(s))
}

// maxQuoted is how many characters of a value from the file a message quotes.
const maxQuoted = 60

// quote returns s quoted for a message: on one line, cut short, and with credentials masked.
func quote(s string) string {
	s = mask(s)
	n := 0
	for i := range s {
		if n++; n > maxQuoted {
			return strconv.Quote(s[:i]) + "…"
		}
	}
	return strconv.Quote(s)
}

// checkText refuses what is not text as YAML 1.2 defines it (5.1), and characters that disguise a line (CVE-2021-42574).
func checkText(text string) (at position, problem, advice string) {
	at = position{1, 1}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return at, "the file is not UTF-8 text here", "save the file as UTF-8"
		case r == '\n':
			at = position{at.line + 1, 1}
			i++
			continue
		case r == '\r' && strings.HasPrefix(text[i+1:], "\n"):
		case r != '\t' && unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\ufeff':
			return at, fmt.Sprintf("control character %U", r), "remove it"
		case unicode.Is(unicode.Bidi_Control, r):
			return at, fmt.Sprintf("bidirectional control character %U", r), "remove it: it makes the line look different from what it says"
		}
		i += n
		at.column++
	}
	return position{}, "", ""
}
