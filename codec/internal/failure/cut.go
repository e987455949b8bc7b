package failure

import (
	"slices"
	"unicode/utf8"
)

const (
	// minTrace and minMessage are sizes in bytes. A smaller stack trace is dropped rather than
	// cut; a smaller message is not cut.
	minTrace, minMessage = 128, 64

	traceMark, messageMark = "\n[…]\n", "[…]"
)

// cutAll cuts the texts of a failure's links, outermost first, to room bytes of JSON in all.
// Stack traces get what the messages leave; the innermost are cut first. Only when no stack
// trace is left, cutAll cuts messages, the longest first. It returns false if a message would
// have less than minMessage.
func cutAll(texts []Text, room int) ([]Text, bool) {
	out := slices.Clone(texts)
	sizes := make([]int, len(out))
	for i, text := range out {
		sizes[i] = jsonSize(text.Message)
		room -= sizes[i]
	}
	if room < 0 {
		limit := level(sizes, room)
		if limit < minMessage {
			return nil, false
		}
		for i, text := range out {
			out[i] = Text{Message: cut(text.Message, messageMark, limit)}
		}
		return out, true
	}
	for i := range out {
		trace := &out[i].StackTrace
		if jsonSize(*trace) > room {
			if *trace = cut(*trace, traceMark, room); room < minTrace {
				*trace = ""
			}
		}
		room -= jsonSize(*trace)
	}
	return out, true
}

// level returns the size to which all larger sizes must be cut to save -room bytes.
func level(sizes []int, room int) int {
	down := slices.Sorted(slices.Values(sizes))
	slices.Reverse(down)
	for i, size := range down {
		next := 0
		if i+1 < len(down) {
			next = down[i+1]
		}
		gain := (size - next) * (i + 1)
		if room+gain >= 0 {
			return size - (i-room)/(i+1)
		}
		room += gain
	}
	return 0
}

// cut removes enough of the middle of s for it to have size bytes as JSON, and leaves a mark
// there.
func cut(s, mark string, size int) string {
	if jsonSize(s) <= size {
		return s
	}
	room := size - jsonSize(mark)
	var head, tail int
	for left := (room + 1) / 2; ; {
		r, n := utf8.DecodeRuneInString(s[head:])
		if left -= jsonSizeOf(r, n); left < 0 {
			break
		}
		head += n
	}
	for left := room / 2; ; {
		r, n := utf8.DecodeLastRuneInString(s[:len(s)-tail])
		if left -= jsonSizeOf(r, n); left < 0 {
			break
		}
		tail += n
	}
	return s[:head] + mark + s[len(s)-tail:]
}

// jsonSize returns the size of a string in the SDK's JSON, without quotes.
func jsonSize(s string) (size int) {
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		size += jsonSizeOf(r, n)
		s = s[n:]
	}
	return size
}

// jsonSizeOf returns the size of a rune that has n bytes in a string.
func jsonSizeOf(r rune, n int) int {
	const escaped = len(`\u003c`)
	switch {
	case r == '"', r == '\\', r == '\n', r == '\r', r == '\t', r == '\b', r == '\f':
		return 2
	case r < ' ', r == '<', r == '>', r == '&', r == '\u2028', r == '\u2029', r == utf8.RuneError && n == 1:
		return escaped
	default:
		return n
	}
}

func jsonSizes(texts ...Text) (size int) {
	for _, text := range texts {
		size += jsonSize(text.Message) + jsonSize(text.StackTrace)
	}
	return size
}
