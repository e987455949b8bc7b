package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

func TestMask(t *testing.T) {
	tests := []struct{ in, want string }{
		{"hashivault://transit/main", "hashivault://transit/main"},
		{"awskms:///alias/payments?region=eu-west-1", "awskms:///alias/payments?region=eu-west-1"},
		{"https://me:pw@vault/x", "https://*****@vault/x"},
		{`a: "x://u:é@h", b: "c@d"`, `a: "x://***@h", b: "c@d"`},
		{"x://u:p/w@h/k", "x://*****@h/k"},
		{"x://k?token=hvs.abc&region=eu", "x://k?token=*******&region=eu"},
		{"x://k?Vault_Token=a", "x://k?Vault_Token=*"},
		{`{uri: x://k?secret_id=abc}`, `{uri: x://k?secret_id=***}`},
		{"token=", "token="},
		{"x://", "x://"},
	}
	for _, test := range tests {
		if got := mask(test.in); got != test.want {
			t.Errorf("mask(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestQuoteHidesCredentialsBeforeCutting(t *testing.T) {
	password := strings.Repeat("p", 300)
	if got := quote("x://me:" + password + "@host"); strings.Contains(got, "p") {
		t.Errorf("got %s", got)
	}
}

func TestExcerpt(t *testing.T) {
	tests := []struct {
		name, text string
		at         position
		want       string
	}{
		{"first", "abc\ndef", position{1, 1}, "   1 | abc\n     | ^"},
		{"behind the end", "abc\ndef\n", position{2, 4}, "   2 | def\n     |    ^"},
		{"tab and control", "\ta\x01b", position{1, 3}, "   1 |  a·b\n     |   ^"},
		{"broken bytes", "a\xffb", position{1, 2}, "   1 | a\ufffdb\n     |  ^"},
		{"empty line", "a\n\nb", position{2, 1}, ""},
		{"line 12345", strings.Repeat("\n", 12344) + "x", position{12345, 1}, "12345 | x\n      | ^"},
		{"long, at its start", strings.Repeat("x", 150), position{1, 1}, "   1 | " + strings.Repeat("x", 100) + "…\n     | ^"},
		{"long, at its end", strings.Repeat("x", 150) + "y", position{1, 151}, "   1 | …" + strings.Repeat("x", 66) + "y\n     | " + strings.Repeat(" ", 67) + "^"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := newSource(test.text).excerpt(test.at); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestClamp(t *testing.T) {
	s := newSource("ab\r\né\n")
	for at, want := range map[position]position{
		{0, 0}: {1, 1}, {1, 3}: {1, 3}, {1, 4}: {1, 3}, {2, 2}: {2, 2}, {2, 9}: {2, 2}, {3, 1}: {3, 1}, {9, 9}: {3, 1}, {-1, -1}: {1, 1},
	} {
		if got := s.clamp(at); got != want {
			t.Errorf("clamp(%v) = %v, want %v", at, got, want)
		}
	}
}

// The YAML library must not take the process down.
func TestGuarded(t *testing.T) {
	_, err := guarded(func() (int, error) { panic("secret") })
	at, message, advice := explain(err)
	if at != (position{1, 1}) || message != "the file cannot be understood as YAML" || advice == "" || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, %q, %q, %v", at, message, advice, err)
	}
	want := errors.New("other")
	if n, err := guarded(func() (int, error) { return 3, want }); n != 3 || !errors.Is(err, want) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestNearest(t *testing.T) {
	fields, _ := ruleSchema(&Rule{}, nil).names()
	for name, want := range map[string]string{
		"macth": "match", "key": "keys", "datakey": "dataKey", "data-key": "dataKey", "DATAKEY": "dataKey", "requiresealed": "requireSealed",
		"requireSeald": "requireSealed", "compresion": "compression", "accepts": "accept", "holdWorkflow": "holdWorkflows", "holdworkflows": "holdWorkflows", "claim": "claims",
		"x": "", "": "", "keyring": "", "namespace": "", strings.Repeat("match", 100): "",
	} {
		if got := nearest(name, fields); got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"é", "e", 1}, {"ca", "abc", 3}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := distance(test.b, test.a); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

// The YAML library does not promise a position for each token it hands out.
func TestTokenPosition(t *testing.T) {
	for _, tk := range []*token.Token{nil, {}} {
		if got := tokenPosition(tk); got != (position{1, 1}) {
			t.Errorf("tokenPosition(%v) = %v", tk, got)
		}
	}
	if got := describe(&ast.AliasNode{}); got != "something else" {
		t.Errorf("an alias is described as %s", got)
	}
}

func TestSome(t *testing.T) {
	for want, n := range map[string]int{"a": 1, "a, b, c, d, e, f, g, h": 8, "a, b, c, d, e, f, g, h, …": 9} {
		if got := some(strings.Split("abcdefghijkl", "")[:n]); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
