package terminal

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// Is reports whether stream is a terminal.
func Is(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Escape returns s with all that is not printable written as in a Go string: control characters, which terminals obey,
// and those that change the direction of text or have no width, which make one name look like another.
func Escape(s string) string { return escape(s, "") }

// EscapeLines is Escape for a text of several lines.
func EscapeLines(s string) string { return escape(s, "\n") }

func escape(s, keep string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case unicode.IsPrint(r) && (r != utf8.RuneError || strings.HasPrefix(s[i:], string(utf8.RuneError))), strings.ContainsRune(keep, r):
			b.WriteRune(r)
		case r == utf8.RuneError:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// Style colours text if it is true.
type Style bool

// StyleFor returns the Style for a stream: colours on a terminal that can show
// them, unless NO_COLOR is set (https://no-color.org).
func StyleFor(stream io.Writer, lookup func(string) (string, bool)) Style {
	noColor, _ := lookup("NO_COLOR")
	kind, _ := lookup("TERM")
	return Style(Is(stream) && noColor == "" && kind != "dumb")
}

// Bold returns text in bold.
func (s Style) Bold(text string) string { return s.sgr("1", text) }

// Error returns text in the style of an error.
func (s Style) Error(text string) string { return s.sgr("1;31", text) }

// Warning returns text in the style of a warning.
func (s Style) Warning(text string) string { return s.sgr("1;33", text) }

// Hint returns text in the style of a hint.
func (s Style) Hint(text string) string { return s.sgr("36", text) }

// sgr is ECMA-48's "select graphic rendition".
func (s Style) sgr(code, text string) string {
	if !s {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
