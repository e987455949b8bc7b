package policy

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGlobMatch(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"", []string{"", "a", "*"}, nil},
		{"*", []string{"", "a", "ünï"}, nil},
		{"**", []string{"", "a"}, nil},
		{"?*", []string{"a", "ab", "é"}, []string{""}},
		{"*?", []string{"a", "ab", "é"}, []string{""}},
		{"payments", []string{"payments"}, []string{"", "Payments", "payments-eu", "apayments"}},
		{"payments-*", []string{"payments-", "payments-eu", "payments-a/b"}, []string{"", "payments", "xpayments-eu", "Payments-eu"}},
		{"*-prod", []string{"-prod", "a-prod", "-prod-prod"}, []string{"", "a-prod1", "a-Prod"}},
		{"*a*", []string{"a", "bab", "aa"}, []string{"", "b"}},
		{"a*b", []string{"ab", "acb", "abb"}, []string{"", "a", "b", "aba"}},
		{"a*b*c", []string{"abc", "aXbYc", "abbcc"}, []string{"acb", "ab", "abcd"}},
		{"?", []string{"a", "é", "世", "\xff"}, []string{"", "ab", "éé"}},
		{"a?c", []string{"abc", "aéc", "a*c"}, []string{"ac", "abbc"}},
		{"*a?", []string{"ab", "aab", "xaé"}, []string{"a", "ba"}},
		{"a.b", []string{"a.b"}, []string{"axb"}},
		{"*世*", []string{"世", "a世b"}, []string{"\xe4\xb8", "界"}},
	}
	for _, test := range tests {
		g := compileGlob(test.pattern)
		for _, s := range test.yes {
			if !g.match(s) {
				t.Errorf("%q does not match %q", test.pattern, s)
			}
		}
		for _, s := range test.no {
			if g.match(s) {
				t.Errorf("%q matches %q", test.pattern, s)
			}
		}
	}
}

func TestGlobCovers(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"*", []string{"", "*", "?*", "a", "a*"}, nil},
		{"", []string{"", "*", "a"}, nil},
		{"?*", []string{"?*", "*?", "a", "a*", "??", "a*b"}, []string{"", "*"}},
		{"a", []string{"a"}, []string{"", "*", "?", "a*", "A", "b"}},
		{"a*", []string{"a", "a*", "ab*", "a?", "a*b", "a?*"}, []string{"", "*", "?a", "b*", "*a"}},
		{"*a", []string{"a", "*a", "ba", "*?a", "b*a"}, []string{"", "*", "a*", "a?"}},
		{"?", []string{"?", "a", "世"}, []string{"", "*", "??", "a*"}},
		{"a*c", []string{"ac", "a*c", "a?c", "ab*c", "a**c"}, []string{"a*", "*c", "a*?"}},
		{"*?b*", []string{"ab", "?b", "xxb*"}, []string{"b", "*b", "b*"}},
		// True, but not found: "no" is not certain.
		{"*?c", nil, []string{"*ac"}},
	}
	for _, test := range tests {
		g := compileGlob(test.pattern)
		for _, h := range test.yes {
			if !g.covers(compileGlob(h)) {
				t.Errorf("%q does not cover %q", test.pattern, h)
			}
		}
		for _, h := range test.no {
			if g.covers(compileGlob(h)) {
				t.Errorf("%q covers %q", test.pattern, h)
			}
		}
	}
}

// reference says what a pattern means with the regexp package, which works in
// linear time and in another way.
func reference(t *testing.T, pattern string) *regexp.Regexp {
	t.Helper()
	quoted := regexp.QuoteMeta(pattern)
	quoted = strings.ReplaceAll(quoted, `\*`, `.*`)
	quoted = strings.ReplaceAll(quoted, `\?`, `.`)
	re, err := regexp.Compile(`^(?s:` + quoted + `)$`)
	if err != nil {
		t.Fatal(err)
	}
	return re
}

func FuzzGlob(f *testing.F) {
	f.Add("payments-*", "payments-eu", "payments-?u")
	f.Add("*a*b?c*", "xaybzc", "a*")
	f.Add("?", "é", "é")
	f.Add("*é", "a\xc3\xc3\xa9", "*")
	f.Add("a*a*a*a*b", "aaaaaaaaaaaaaaaa", "a*a*b")
	f.Fuzz(func(t *testing.T, pattern, s, other string) {
		if len(pattern) > 60 || len(other) > 60 {
			return
		}
		for _, p := range []string{pattern, other} {
			// What checkGlob refuses never gets here, and for the regexp package
			// U+FFFD equals a broken byte.
			if problem, _ := checkGlob(p); problem != "" || !utf8.ValidString(p) || strings.ContainsRune(p, utf8.RuneError) {
				return
			}
		}
		g, h := compileGlob(pattern), compileGlob(other)
		want := reference(t, pattern).MatchString(s) && (s != "" || g.kind == globAny)
		if got := g.match(s); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, s, got, want)
		}
		if s != "" && wildMatch(g.pattern, s, false) != want && g.kind != globAny {
			t.Errorf("the quick way for %q and %q is not the long way", pattern, s)
		}
		if g.covers(h) && h.match(s) && !g.match(s) {
			t.Errorf("%q covers %q but does not match %q", pattern, other, s)
		}
		if !g.covers(g) {
			t.Errorf("%q does not cover itself", pattern)
		}
	})
}

// Many stars cost a square at most, not a power of their number.
func TestGlobCost(t *testing.T) {
	g := compileGlob(strings.Repeat("*a", maxPattern/2) + "b")
	fact := strings.Repeat("a", 100_000)
	if g.match(fact) { // would not end in a lifetime if each star were tried with each
		t.Error("matches")
	}
	if !g.match(fact + "b") {
		t.Error("does not match")
	}
}

func TestGlobAllocates(t *testing.T) {
	for _, pattern := range []string{"*", "a", "a*", "*a", "a*b?c"} {
		g := compileGlob(pattern)
		if n := testing.AllocsPerRun(10, func() { g.match("abxc") }); n != 0 {
			t.Errorf("matching %q allocates %v times", pattern, n)
		}
	}
}
