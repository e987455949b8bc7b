package payloadjson

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// parser walks a document once. A method that reads returns false if it fails; reason then says why, and at where.
type parser struct {
	in     []byte
	at     int
	limits Limits
	reason Reason
}

func (p *parser) fail(reason Reason) bool { return p.failAt(reason, p.at) }

func (p *parser) failAt(reason Reason, at int) bool {
	if at >= len(p.in) && (reason == Syntax || reason == WrongType) {
		reason = Truncated
	}
	p.reason, p.at = reason, at
	return false
}

// mistyped notes that the value at a byte is of another type, or not JSON at all.
func (p *parser) mistyped(at int) bool {
	if at < len(p.in) && bytes.IndexByte([]byte(`"{[-0123456789tfn`), p.in[at]) < 0 {
		return p.failAt(Syntax, at)
	}
	return p.failAt(WrongType, at)
}

// space skips the four characters that RFC 8259 calls white space.
func (p *parser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next reports whether the next byte is c, and passes it if so.
func (p *parser) next(c byte) bool {
	if p.at < len(p.in) && p.in[p.at] == c {
		p.at++
		return true
	}
	return false
}

// null reports whether a null stands here, without passing it. The caller checks what follows.
func (p *parser) null() bool { return bytes.HasPrefix(p.in[p.at:], []byte("null")) }

// object reads {…}; member reads one name, colon and value.
func (p *parser) object(member func() bool) bool { return p.list('{', '}', member) }

// array reads […]; element reads one value.
func (p *parser) array(element func() bool) bool { return p.list('[', ']', element) }

func (p *parser) list(open, end byte, item func() bool) bool {
	if !p.next(open) {
		return p.mistyped(p.at)
	}
	if p.space(); p.next(end) {
		return true
	}
	for {
		if p.space(); !item() {
			return false
		}
		if p.space(); p.next(end) {
			return true
		}
		if !p.next(',') {
			return p.fail(Syntax)
		}
	}
}

// name reads the name of a member and the colon after it.
func (p *parser) name() (string, bool) {
	if p.at < len(p.in) && p.in[p.at] != '"' {
		return "", p.fail(Syntax)
	}
	s, ok := p.str()
	if !ok {
		return "", false
	}
	if p.space(); !p.next(':') {
		return "", p.fail(Syntax)
	}
	p.space()
	return string(s), true
}

// str reads a string. The result may alias the document.
func (p *parser) str() ([]byte, bool) {
	start := p.at
	if !p.next('"') {
		return nil, p.mistyped(start)
	}
	// Nearly every string is plain to its end: find that first.
	rest := p.in[p.at:]
	end := bytes.IndexByte(rest, '"')
	if end >= 0 && plain(rest[:end]) {
		p.at += end + 1
		return rest[:end], true
	}
	return p.escaped(start)
}

// plain reports whether s is printable ASCII without an escape.
func plain(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// escaped reads the rest of the string that began at start, whatever is in it.
func (p *parser) escaped(start int) ([]byte, bool) {
	var out []byte
	for p.at < len(p.in) {
		c := p.in[p.at]
		switch {
		case c == '"':
			p.at++
			return out, true
		case c < ' ':
			return nil, p.fail(InvalidText)
		case c == '\\':
			r, ok := p.escape()
			if !ok {
				return nil, false
			}
			out = utf8.AppendRune(out, r)
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.at++
		default:
			r, n := utf8.DecodeRune(p.in[p.at:])
			if r == utf8.RuneError && n == 1 {
				return nil, p.fail(InvalidText)
			}
			out = append(out, p.in[p.at:p.at+n]...)
			p.at += n
		}
	}
	return nil, p.failAt(Truncated, start)
}

// escape reads one backslash escape, a surrogate pair as one.
func (p *parser) escape() (rune, bool) {
	at := p.at
	if p.at++; p.at >= len(p.in) {
		return 0, p.fail(Truncated)
	}
	c := p.in[p.at]
	p.at++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	if c != 'u' {
		return 0, p.failAt(InvalidText, at)
	}
	r, ok := p.hex4()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	// Half a pair is no character: the other half must follow at once.
	if !p.next('\\') || !p.next('u') {
		return 0, p.failAt(InvalidText, at)
	}
	low, ok := p.hex4()
	if !ok {
		return 0, false
	}
	if r = utf16.DecodeRune(r, low); r == unicode.ReplacementChar {
		return 0, p.failAt(InvalidText, at)
	}
	return r, true
}

// hex4 reads four hexadecimal digits.
func (p *parser) hex4() (rune, bool) {
	if p.at+4 > len(p.in) {
		return 0, p.failAt(Truncated, len(p.in))
	}
	r, err := strconv.ParseUint(string(p.in[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, p.fail(InvalidText)
	}
	p.at += 4
	return rune(r), true
}

// bytes reads a bytes field: a string of base64 in either alphabet, padded or not. Trailing bits need not be zero, as in
// protojson.
func (p *parser) bytes() ([]byte, bool) {
	start := p.at
	s, ok := p.str()
	if !ok {
		return nil, false
	}
	encoding := base64.StdEncoding
	if bytes.ContainsAny(s, "-_") {
		encoding = base64.URLEncoding
	}
	if len(s)%4 != 0 {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	out := make([]byte, encoding.DecodedLen(len(s)))
	n, err := encoding.Decode(out, s)
	if err != nil {
		return nil, p.failAt(Base64, start)
	}
	return out[:n], true
}

// number is the text of a JSON number, and of what only begins like one.
var number = regexp.MustCompile(`^-?[0-9]*(\.[0-9]*)?([eE][+-]?[0-9]*)?`)

// int64 reads an int64 field: a number, or a string that holds one. A fraction or an exponent is accepted if the value is whole.
func (p *parser) int64() (int64, bool) {
	start := p.at
	if p.at < len(p.in) && p.in[p.at] == '"' {
		s, ok := p.str()
		if !ok {
			return 0, false
		}
		n, ok := integer(number.Find(s))
		if !ok || len(number.Find(s)) < len(s) {
			return 0, p.failAt(WrongType, start)
		}
		return n, true
	}
	text := number.Find(p.in[p.at:])
	n, ok := integer(text)
	if !ok {
		return 0, p.mistyped(start)
	}
	p.at += len(text)
	return n, true
}

// integer is the value of a JSON number if an int64 can hold it, by protojson's rules.
func integer(text []byte) (int64, bool) {
	var n wrapperspb.Int64Value
	err := protojson.Unmarshal(text, &n)
	return n.GetValue(), err == nil
}
