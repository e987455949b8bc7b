package policy

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write what is said now to testdata/bad/*.err")

// Each testdata/bad/NAME.yaml is refused with exactly the text of NAME.err:
// what a person sees, hint included.
func TestParseRefuses(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("found %d bad files, want at least 100", len(files))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(name+".yaml", text)
			got := spoken(t, err)
			golden := strings.TrimSuffix(file, ".yaml") + ".err"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("text differs (-want +got):\n%s", diff)
			}
		})
	}
}

// spoken is what the command line prints for a refused file.
func spoken(t *testing.T, err error) string {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Parse: %v (%T), want an *Error", err, err)
	}
	if !bytes.HasPrefix([]byte(e.Error()), []byte("policy: ")) {
		t.Errorf("text does not start with the package: %q", e.Error())
	}
	return "waxseal: error: " + e.Error() + "\nwaxseal: hint: " + e.Hint() + "\n"
}

const keysSection = `keys:
  main: {uri: "hashivault://transit/main"}
  recovery: {uri: "awskms:///alias/recovery?region=eu-west-1"}
`

// plainKey is what `name: {uri: "…"}` gives.
func plainKey(name, uri string) Key {
	return Key{Name: name, URI: uri, Resilience: defaultResilience()}
}

// plainRule is what `{match: {namespace: "*"}, keys: [main]}` on that line gives.
func plainRule(line int) Rule {
	return Rule{
		Line: line, Match: Match{Namespace: "*"}, Keys: []string{"main"},
		DataKey: DataKey{MaxPayloads: 1, MaxAge: 5 * time.Minute, MaxBytes: 64 << 30, SealGrace: 15 * time.Minute},
	}
}

func TestParse(t *testing.T) {
	twoKeys := map[string]Key{
		"main":     plainKey("main", "hashivault://transit/main"),
		"recovery": plainKey("recovery", "awskms:///alias/recovery?region=eu-west-1"),
	}
	withDataKey := func(d DataKey) []Rule {
		r := plainRule(5)
		r.DataKey = d
		return []Rule{r}
	}
	const rule = "seal:\n  - match: {namespace: \"*\"}\n    keys: [main]\n    "
	tests := []struct {
		name, text string
		keys       map[string]Key
		seal       []Rule
	}{
		{
			name: "the least", text: keysSection + "seal: [{match: {namespace: \"*\"}, keys: [main]}]",
			seal: []Rule{plainRule(4)},
		},
		{
			name: "everything a rule has",
			text: "version: 1\n" + keysSection + `seal:
  - match: {namespace: "payments-*", workflowType: Order, activityType: "Charge*", taskQueue: "q?"}
    keys: [recovery, main]
    recipients: primary
    dataKey: {maxPayloads: 1000, maxAge: 90s, maxBytes: 64MiB, sealGrace: 30m}
    compression: zstd
    accept: ["billing-*", shared]
    requireSealed: true
    sealHeaders: true
    onDenied: fail
    claims: [taskQueue, workflowId, workflowType]
    bind: [workflowId, activityType]
  - {match: {namespace: "*"}, keys: [main], recipients: all, requireSealed: false, holdWorkflows: true, compression: none, accept: [], claims: [], bind: [], dataKey: {}}
`,
			seal: []Rule{
				{
					Line: 6, Match: Match{Namespace: "payments-*", WorkflowType: "Order", ActivityType: "Charge*", TaskQueue: "q?"},
					Keys: []string{"recovery", "main"}, Recipients: RecipientsPrimary,
					DataKey:     DataKey{MaxPayloads: 1000, MaxAge: 90 * time.Second, MaxBytes: 64 << 20, SealGrace: 30 * time.Minute},
					Compression: "zstd", Accept: []string{"billing-*", "shared"}, RequireSealed: true, SealHeaders: true, OnDenied: "fail",
					Claims: []string{"taskQueue", "workflowId", "workflowType", "activityType"}, Bind: []string{"workflowId", "activityType"},
				},
				func() Rule {
					r := plainRule(17)
					r.Index, r.Compression, r.Recipients, r.OnDenied = 1, "none", "all", "hold"
					return r
				}(),
			},
		},
		{
			name: "comments, blank lines, a header, Windows line ends and a byte order mark",
			text: "\ufeff---\r\n# a\r\nkeys: # b\r\n\r\n  # c\r\n  main: # d\r\n    uri: hashivault://transit/main # e\r\n\r\n" +
				"# f\r\nseal:\r\n  # g\r\n  - match: # h\r\n      namespace: \"*\" # i\r\n    # j\r\n    keys: # k\r\n      - main # l\r\n# m\r\n",
			keys: map[string]Key{"main": plainKey("main", "hashivault://transit/main")},
			seal: []Rule{plainRule(12)},
		},
		{
			name: "seal before keys, JSON",
			text: `{"seal": [{"match": {"namespace": "*"}, "keys": ["main"]}], "keys": {"main": {"uri": "hashivault://transit/main"}}}`,
			keys: map[string]Key{"main": plainKey("main", "hashivault://transit/main")},
			seal: []Rule{plainRule(1)},
		},
		{
			name: "a key that no rule uses, and a template",
			text: "keys:\n  a.b_c-1: {uri: \"local:///k%20r/{namespace}#{namespace}\"}\n  main: {uri: 'hashivault://transit/main'}\nseal: [{match: {namespace: \"*\"}, keys: [main]}]",
			keys: map[string]Key{
				"a.b_c-1": plainKey("a.b_c-1", "local:///k%20r/{namespace}#{namespace}"),
				"main":    plainKey("main", "hashivault://transit/main"),
			},
			seal: []Rule{plainRule(4)},
		},
		{
			name: "the largest data key limits", text: keysSection + rule + "dataKey: {maxPayloads: 1000000, maxAge: 1h, maxBytes: 64GiB, sealGrace: 1h}",
			seal: withDataKey(DataKey{MaxPayloads: 1_000_000, MaxAge: time.Hour, MaxBytes: 64 << 30, SealGrace: time.Hour}),
		},
		{
			name: "the smallest data key limits", text: keysSection + rule + "dataKey: {maxPayloads: 1, maxAge: 1s, maxBytes: 1, sealGrace: 0}",
			seal: withDataKey(DataKey{MaxPayloads: 1, MaxAge: time.Second, MaxBytes: 1}),
		},
		{
			name: "no grace, with a unit", text: keysSection + rule + "dataKey: {sealGrace: 0s}",
			seal: withDataKey(DataKey{MaxPayloads: 1, MaxAge: 5 * time.Minute, MaxBytes: 64 << 30}),
		},
		{
			name: "sizes and durations in other words", text: keysSection + rule + `dataKey: {maxBytes: "512 KiB", maxAge: "1m30s"}`,
			seal: withDataKey(DataKey{MaxPayloads: 1, MaxAge: 90 * time.Second, MaxBytes: 512 << 10, SealGrace: 15 * time.Minute}),
		},
		{
			name: "eight keys in a rule",
			text: "keys:\n  a: {uri: \"x://a\"}\n  b: {uri: \"x://b\"}\n  c: {uri: \"x://c\"}\n  d: {uri: \"x://d\"}\n  e: {uri: \"x://e\"}\n  f: {uri: \"x://f\"}\n" +
				"  g: {uri: \"x://g\"}\n  h: {uri: \"x://h\"}\nseal: [{match: {taskQueue: q}, keys: [a, b, c, d, e, f, g, h]}]",
			keys: map[string]Key{
				"a": plainKey("a", "x://a"), "b": plainKey("b", "x://b"), "c": plainKey("c", "x://c"), "d": plainKey("d", "x://d"),
				"e": plainKey("e", "x://e"), "f": plainKey("f", "x://f"), "g": plainKey("g", "x://g"), "h": plainKey("h", "x://h"),
			},
			seal: []Rule{func() Rule {
				r := plainRule(10)
				r.Match, r.Keys = Match{TaskQueue: "q"}, []string{"a", "b", "c", "d", "e", "f", "g", "h"}
				return r
			}()},
		},
		{
			name: "resilience of all keys and of one, after the keys",
			text: `keys:
  main: {uri: "hashivault://transit/main"}
  slow: {uri: "hashivault://far/slow", resilience: {timeout: 5s, retryBudget: 100%, breaker: {openFor: 30s}}}
seal: [{match: {namespace: "*"}, keys: [main]}]
resilience: {timeout: 1500ms, attempts: 2, retryBudget: "20%", concurrency: 8, queue: 16, breaker: {failures: 3, openFor: 1m}}
`,
			keys: map[string]Key{
				"main": {Name: "main", URI: "hashivault://transit/main", Resilience: Resilience{
					Timeout: 1500 * time.Millisecond, Attempts: 2, RetryBudget: 0.20, Concurrency: 8, Queue: 16, Breaker: Breaker{Failures: 3, OpenFor: time.Minute},
				}},
				"slow": {Name: "slow", URI: "hashivault://far/slow", Resilience: Resilience{
					Timeout: 5 * time.Second, Attempts: 2, RetryBudget: 1, Concurrency: 8, Queue: 16, Breaker: Breaker{Failures: 3, OpenFor: 30 * time.Second},
				}},
			},
			seal: []Rule{plainRule(4)},
		},
		{
			name: "the ends of every range of resilience, and empty ones",
			text: `keys:
  main: {uri: "x://main", resilience: {timeout: 50ms, attempts: 1, retryBudget: 1%, concurrency: 1, queue: 1, breaker: {failures: 1, openFor: 100ms}}}
  most: {uri: "x://most", resilience: {timeout: 10s, attempts: 10, retryBudget: 100%, concurrency: 1000, queue: 10000, breaker: {failures: 1000, openFor: 5m}}}
  none: {uri: "x://none", resilience: {breaker: {}}}
seal: [{match: {namespace: "*"}, keys: [main]}]
resilience: {}
`,
			keys: map[string]Key{
				"main": {Name: "main", URI: "x://main", Resilience: Resilience{
					Timeout: 50 * time.Millisecond, Attempts: 1, RetryBudget: 0.01, Concurrency: 1, Queue: 1, Breaker: Breaker{Failures: 1, OpenFor: 100 * time.Millisecond},
				}},
				"most": {Name: "most", URI: "x://most", Resilience: Resilience{
					Timeout: 10 * time.Second, Attempts: 10, RetryBudget: 1, Concurrency: 1000, Queue: 10_000, Breaker: Breaker{Failures: 1000, OpenFor: 5 * time.Minute},
				}},
				"none": plainKey("none", "x://none"),
			},
			seal: []Rule{plainRule(5)},
		},
		{
			name: "rules that overlap without covering each other",
			text: keysSection + `seal:
  - {match: {namespace: "a*", activityType: "*x"}, keys: [main]}
  - {match: {namespace: "a*"}, keys: [main]}
  - {match: {namespace: "?*"}, keys: [main]}
  - {match: {namespace: "*"}, keys: [main]}
`,
			seal: func() []Rule {
				rules := []Rule{plainRule(5), plainRule(6), plainRule(7), plainRule(8)}
				for i, m := range []Match{{Namespace: "a*", ActivityType: "*x"}, {Namespace: "a*"}, {Namespace: "?*"}, {Namespace: "*"}} {
					rules[i].Index, rules[i].Match = i, m
				}
				return rules
			}(),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Parse("waxseal.yaml", []byte(test.text))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			if test.keys == nil {
				test.keys = twoKeys
			}
			if diff := cmp.Diff(test.keys, p.Keys, cmpopts.IgnoreUnexported(Key{})); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.seal, p.Seal); diff != "" {
				t.Errorf("seal (-want +got):\n%s", diff)
			}
		})
	}
}

// What cannot be kept as a text file in testdata.
func TestParseRefusesBytes(t *testing.T) {
	const end = "seal: [{match: {namespace: \"*\"}, keys: [main]}]\n"
	tests := []struct {
		name, text   string
		line, column int
		message      string
	}{
		{"too large", strings.Repeat("#", MaxFileSize+1), 1, 1, "the file is larger than 128 KiB"},
		{"not UTF-8", keysSection + "# caf\xe9\xe9\n" + end, 4, 6, "the file is not UTF-8 text here"},
		{"UTF-16", "\xff\xfek\x00e\x00", 1, 1, "the file is not UTF-8 text here"},
		{"NUL", keysSection + "seal: \x00", 4, 7, "control character U+0000"},
		{"escape sequence", "# é\x1b[31m\n" + keysSection + end, 1, 4, "control character U+001B"},
		{"lone carriage return", keysSection + "# a\rseal: []\n" + end, 4, 4, "control character U+000D"},
		{"next line", keysSection + "# a\u0085\n" + end, 4, 4, "control character U+0085"},
		{"line separator", keysSection + "# a\u2028\n" + end, 4, 4, "control character U+2028"},
		{"byte order mark inside", keysSection + "# a\ufeff\n" + end, 4, 4, "control character U+FEFF"},
		{"right-to-left override", keysSection + "# a\u202e\n" + end, 4, 4, "bidirectional control character U+202E"},
		{"too many tokens", "keys: [" + strings.Repeat("x,", maxTokens) + "]", 1, 32773, "the file holds too much: more than 32768 YAML tokens"},
		{"too many keys", "keys:\n" + numbered(maxKeys+1, "  k%d: {uri: \"x://%d\"}\n") + "seal: [{match: {namespace: \"*\"}, keys: [k1]}]", 1, 1, "more than 1000 keys are defined"},
		{"too many rules", keysSection + "seal:\n" + numbered(maxRules+1, "  - {match: {namespace: n%d}, keys: [main]}\n"), 1005, 5, "more than 1000 rules"},
		{"password in an unknown field", "\"hashivault://me:hunter2@vault\": 1\n" + keysSection + end, 1, 1, "unknown field \"hashivault://**********@vault\" in the file"},
		{"very long unknown field", strings.Repeat("x", 300) + ": 1\n" + keysSection + end, 1, 1, "unknown field \"" + strings.Repeat("x", 60) + "\"… in the file"},
		{"escaped control characters in a pattern", keysSection + "seal: [{match: {namespace: \"a\\u001b[2J\"}, keys: [main]}]", 4, 28, "namespace pattern holds a character that cannot be seen"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("waxseal.yaml", []byte(test.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("Parse: %v, want an *Error", err)
			}
			got := e.Problems[0]
			if got.Line != test.line || got.Column != test.column || got.Message != test.message {
				t.Errorf("got %d:%d: %s\nwant %d:%d: %s", got.Line, got.Column, got.Message, test.line, test.column, test.message)
			}
			if e.Hint() == "" || got.Advice == "" {
				t.Error("no hint")
			}
			checkError(t, e)
			if strings.Contains(e.Error(), "hunter2") {
				t.Errorf("the text shows a password: %s", e)
			}
		})
	}
}

func TestParseWithoutName(t *testing.T) {
	if _, err := Parse("", nil); err == nil || err.Error() != "policy: policy.yaml:1:1: the file is empty" {
		t.Errorf("got %v", err)
	}
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		args := []any{i, i}[:strings.Count(format, "%d")]
		fmt.Fprintf(&b, format, args...)
	}
	return b.String()
}

// checkError checks what holds for every *Error.
func checkError(t *testing.T, e *Error) {
	t.Helper()
	if len(e.Problems) == 0 {
		t.Fatal("an Error without a problem")
	}
	for i, p := range e.Problems {
		if p.Line < 1 || p.Column < 1 || p.Message == "" || p.Advice == "" {
			t.Errorf("problem %d is incomplete: %+v", i, p)
		}
		if p.Excerpt != "" {
			shown, caret, two := strings.Cut(p.Excerpt, "\n")
			if !two || strings.Count(caret, "^") != 1 || strings.IndexByte(caret, '^') > utf8.RuneCountInString(shown) {
				t.Errorf("problem %d has a caret outside its line:\n%s", i, p.Excerpt)
			}
		}
	}
	for line := range strings.Lines(e.Error() + e.Hint()) {
		if n := utf8.RuneCountInString(line); n > 500 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("an unprintable character in %q", line)
		}
	}
}

// Whatever the bytes: no panic, and either a policy that answers or an error
// that says where.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(keysSection + "seal:\n  - match: {namespace: \"payments-*\", taskQueue: \"?\"}\n    keys: [main, recovery]\n    accept: [\"*\"]\n    dataKey: {maxBytes: 1KiB}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("waxseal.yaml", text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || p != nil {
				t.Fatalf("Parse: %v, %v", p, err)
			}
			checkError(t, e)
			return
		}
		checkPolicy(t, p)
	})
}

// checkPolicy checks what Parse promises of every policy it returns.
func checkPolicy(t *testing.T, p *Policy) {
	t.Helper()
	if len(p.Seal) == 0 || len(p.Seal) > maxRules || len(p.Keys) == 0 || len(p.Keys) > maxKeys {
		t.Fatalf("%d rules, %d keys", len(p.Seal), len(p.Keys))
	}
	for name, k := range p.Keys {
		if k.Name != name || !validKeyName(name) || len(k.URI) > maxURI {
			t.Errorf("key %q: %+v", name, k)
		}
		if x := k.Resilience; !within(resilienceSchema("", &x)) {
			t.Errorf("key %q: %+v", name, x)
		}
		uri, err := k.Expand("namespace")
		if problem, _ := checkURI(uri); err == nil && problem != "" {
			t.Errorf("key %q expands to a URI that %s", name, problem)
		}
	}
	for i, r := range p.Seal {
		if r.Index != i || r.Line < 1 || r.Match == (Match{}) || len(r.Keys) < 1 || len(r.Keys) > maxRuleKeys {
			t.Errorf("rule %d: %+v", i, r)
		}
		for _, name := range r.Keys {
			if _, ok := p.Keys[name]; !ok {
				t.Errorf("rule %d names key %q, which is not defined", i, name)
			}
		}
		if r.Recipients == RecipientsPrimary && len(r.Keys) < 2 {
			t.Errorf("rule %d: %+v", i, r)
		}
		if d := r.DataKey; !within(dataKeySchema("", &d)) {
			t.Errorf("rule %d: %+v", i, d)
		}
	}
	if r, err := p.SealRule(Facts{Namespace: "n", WorkflowType: "w", ActivityType: "a", TaskQueue: "q"}); (r == nil) == (err == nil) {
		t.Errorf("SealRule: %v, %v", r, err)
	}
}

// A file made to be expensive is refused before it costs much, or the limits bound its cost. The time and the stack of the
// YAML parser grow with nesting and with the entries of a mapping, so the checks on tokens come before it. (Without them
// this test takes minutes, or dies.)
func TestParseCost(t *testing.T) {
	const n = MaxFileSize - 4096
	for _, test := range []struct{ name, text, message string }{
		{"brackets", strings.Repeat("[", n), "lists and mappings nest too deep"},
		{"braces", strings.Repeat("{", n), "lists and mappings nest too deep"},
		{"dashes", strings.Repeat("- ", n/2), "lists and mappings nest too deep"},
		{"questions", strings.Repeat("? ", n/2), "YAML complex keys (?) are not allowed in a policy"},
		{"anchors", strings.Repeat("&a ", n/3), "YAML anchors (&) are not allowed in a policy"},
		{"entries", strings.Repeat("a:\n", n/3), "the file holds too much: more than 32768 YAML tokens"},
		{"entries, as many as may be", strings.Repeat("a: b\n", maxTokens/3-1), `unknown field "a" in the file`},
		{"entries without values", "{" + strings.Repeat("a,", maxTokens/2-2) + "}", "the file defines no keys"},
		{"staircase", staircase(n), "the file must be a mapping, not a list"},
		{"comments", strings.Repeat("#\n", n/2), "the file is empty"},
		{"one word", strings.Repeat("a", n), "the file must be a mapping, not text"},
		{"undefined keys", keysSection + "seal: [{match: {namespace: a}, keys: [" + numbered(maxTokens/2-64, "k%d,") + "]}]", `key "k0" is not defined`},
		{"patterns to compare", keysSection + "seal:\n" + numbered(maxRules/4, "- {match: {namespace: \"*"+strings.Repeat("a", 100)+"%dx*b\"}, keys: [main]}\n"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if len(test.text) > MaxFileSize {
				t.Fatalf("%d bytes", len(test.text))
			}
			_, err := Parse("waxseal.yaml", []byte(test.text))
			if test.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Problems[0].Message != test.message {
				t.Fatalf("got %.300v, want %s", err, test.message)
			}
			checkError(t, e)
		})
	}
}

// staircase is a list in a list in a list, each one space further in.
func staircase(size int) string {
	var b strings.Builder
	for i := 0; b.Len()+i+2 < size; i++ {
		b.WriteString(strings.Repeat(" ", i))
		b.WriteString("-\n")
	}
	return b.String()
}
