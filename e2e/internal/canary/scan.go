package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"unicode"
)

// maxDepth is how many disguises may lie over one another.
const maxDepth = 3

// Found says how canaries were disguised, by kind; "" is in the open.
type Found map[string][]string

// add notes a find and reports whether it is new.
func (f Found) add(kind, disguise string) {
	if !slices.Contains(f[kind], disguise) {
		f[kind] = append(f[kind], disguise)
	}
}

// Merge adds what other found.
func (f Found) Merge(other Found) {
	for kind, disguises := range other {
		for _, d := range disguises {
			f.add(kind, d)
		}
	}
}

// Find returns the flock's canaries in b, disguised or not.
func (f *Flock) Find(b []byte) Found {
	found := make(Found)
	f.find(b, "", 0, found)
	return found
}

func (f *Flock) find(b []byte, disguise string, depth int, found Found) {
	f.inTheOpen(b, disguise, found)
	if depth == maxDepth {
		return
	}
	nested := func(name string) func([]byte) {
		if disguise != "" {
			name = disguise + " of " + name
		}
		return func(b []byte) { f.find(b, name, depth+1, found) }
	}
	runs(b, isBase64, minBase64, each(decodeBase64, nested("base64")))
	runs(b, isHex, minHex, each(decodeHex, nested("hexadecimal")))
	decodeUTF16(b, func(text []byte) { f.inTheOpen(text, join(disguise, "UTF-16"), found) })
	decompress(b, nested)
}

func join(outer, inner string) string {
	if outer == "" {
		return inner
	}
	return outer + " of " + inner
}

// inTheOpen finds canaries that nothing disguises but upper and lower case.
func (f *Flock) inTheOpen(b []byte, disguise string, found Found) {
	b = lower(b)
	for _, kind := range f.spoken(b) {
		found.add(kind, disguise)
	}
	for {
		i := bytes.Index(b, f.needle)
		if i < 0 {
			return
		}
		b = b[i:]
		if kind, ok := f.at(b); ok {
			found.add(kind, disguise)
		}
		b = b[len(f.needle):]
	}
}

func lower(b []byte) []byte {
	out := slices.Clone(b)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

// The shortest runs that are looked into: a canary is longer.
const (
	minBase64 = 24
	minHex    = 48
)

func isBase64(c byte) bool {
	return c < unicode.MaxASCII && (unicode.IsLetter(rune(c)) || unicode.IsDigit(rune(c)) || c == '+' || c == '/' || c == '-' || c == '_')
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// runs calls do with every longest run of bytes of which is holds.
func runs(b []byte, is func(byte) bool, shortest int, do func([]byte)) {
	start := 0
	for i := 0; i <= len(b); i++ {
		if i < len(b) && is(b[i]) {
			continue
		}
		if i-start >= shortest {
			do(b[start:i])
		}
		start = i + 1
	}
}

func each(decode func([]byte, func([]byte)), do func([]byte)) func([]byte) {
	return func(run []byte) { decode(run, do) }
}

// decodeBase64 decodes at all four alignments: what is before the text, and
// belongs to the same run, may have any length.
func decodeBase64(run []byte, do func([]byte)) {
	run = slices.Clone(run)
	for i, c := range run {
		switch c {
		case '-':
			run[i] = '+'
		case '_':
			run[i] = '/'
		}
	}
	for skip := range 4 {
		text := run[skip:]
		out := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
		n, _ := base64.RawStdEncoding.Decode(out, text) // what was decoded before an error counts
		do(out[:n])
	}
}

func decodeHex(run []byte, do func([]byte)) {
	for skip := range 2 {
		text := run[skip:]
		text = text[:len(text)&^1]
		out := make([]byte, hex.DecodedLen(len(text)))
		if _, err := hex.Decode(out, text); err == nil {
			do(out)
		}
	}
}

// decodeUTF16 hands over what remains of b without its zero bytes, if there
// are as many as UTF-16 of Latin text has.
func decodeUTF16(b []byte, do func([]byte)) {
	if bytes.Contains(lower(b), []byte("c\x00a\x00n\x00a\x00r\x00y")) {
		do(bytes.ReplaceAll(b, []byte{0}, nil))
	}
}
