package terminal

import "strings"

// The levels of a sparkline, lowest first.
const (
	blocks = "▁▂▃▄▅▆▇█"
	ascii  = "_.-:=+*#"
)

// UTF8 reports whether the locale's characters are UTF-8, by the environment variables of POSIX.
func UTF8(lookup func(string) (string, bool)) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value, _ := lookup(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

// Sparkline draws values, none of them negative, as one character each, by their height between zero and the highest.
// It is at most columns wide: each character shows the highest of its share of values. Without utf8 it is ASCII.
func Sparkline[T int | int64 | float64](values []T, columns int, utf8 bool) string {
	levels := []rune(ascii)
	if utf8 {
		levels = []rune(blocks)
	}
	var most T
	for _, v := range values {
		most = max(most, v)
	}
	columns = min(columns, len(values))
	var b strings.Builder
	for i := range columns {
		var v T
		for _, w := range values[i*len(values)/columns : (i+1)*len(values)/columns] {
			v = max(v, w)
		}
		level := 0
		if most > 0 {
			level = min(int(float64(v)/float64(most)*float64(len(levels))), len(levels)-1)
		}
		b.WriteRune(levels[level])
	}
	return b.String()
}
