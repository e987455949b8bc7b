package codec

import (
	"net/url"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

func TestClaimValue(t *testing.T) {
	for fact, want := range map[string]string{
		"order-1":                      "order-1",
		"a b+c/d%2F":                   "a b+c/d%252F",
		"100%":                         "100%25",
		"line\nfeed":                   "line%0Afeed",
		"nul\x00":                      "nul%00",
		"\x1b[2J":                      "%1B[2J",
		"del\x7f":                      "del%7F",
		"c1\u009b":                     "c1%C2%9B",
		"\xff\xc3":                     "%FF%C3",
		"\xed\xa0\x80":                 "%ED%A0%80",
		"turn\u202egnir":               "turn%E2%80%AEgnir",
		"mark\u061c\u200e":             "mark%D8%9C%E2%80%8E",
		"isolate\u2066":                "isolate%E2%81%A6",
		"line\u2028":                   "line%E2%80%A8",
		"\ufffd":                       "\ufffd",
		"Grüße-日本-🐝":                   "Grüße-日本-🐝",
		"family-👨\u200d👩":              "family-👨\u200d👩",
		strings.Repeat("w", 1024):      strings.Repeat("w", 1024),
		strings.Repeat("\x00", 341):    strings.Repeat("%00", 341),
		strings.Repeat("é", 512):       strings.Repeat("é", 512),
		strings.Repeat("%", 341):       strings.Repeat("%25", 341),
		"new\U0001fae9emoji\U000e0fff": "new\U0001fae9emoji\U000e0fff",
	} {
		if got, err := claimValue(fact); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", fact, got, err, want)
		}
	}
}

// TestClaimValueProperty: a claim holds any fact that fits, and decoding returns the fact.
func TestClaimValueProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fact := rapid.OneOf(
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 300), func(b []byte) string { return string(b) }),
			rapid.StringOfN(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("%0A25\n\u009b\u202e\u2069\ufffd"))), 1, 80, -1),
		).Draw(t, "fact")
		value, err := claimValue(fact)
		if err != nil {
			t.Fatal(err)
		}
		h := format.Header{Namespace: "n", Claims: []format.Claim{{Name: "workflowId", Value: value}}}
		if err := h.Validate(); err != nil {
			t.Fatalf("%q becomes %q: %v", fact, value, err)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) }) {
			t.Fatalf("%q becomes %q", fact, value)
		}
		if back, err := url.PathUnescape(value); err != nil || back != fact {
			t.Fatalf("%q becomes %q, and that %q, %v", fact, value, back, err)
		}
	})
}

// TestClaimsThatCannotBeRecorded: they are refused with a hint, and not as a bug.
func TestClaimsThatCannotBeRecorded(t *testing.T) {
	rule := &policy.Rule{Claims: []string{"workflowId"}}
	for name, facts := range map[string]policy.Facts{
		"workflow ID too long":        {Namespace: "n", WorkflowID: strings.Repeat("CANARY", 171)},
		"workflow ID too long as %XX": {Namespace: "n", WorkflowID: "CANARY" + strings.Repeat("\n", 340)},
		"namespace too long":          {Namespace: strings.Repeat("CANARY", 43)},
		"namespace with a line feed":  {Namespace: "CANARY\n"},
		"namespace that is not UTF-8": {Namespace: "CANARY\xff"},
		"namespace with a C1 control": {Namespace: "CANARY\u0085", WorkflowID: "w"},
	} {
		_, err := claimsFor(rule, facts)
		if kms.ClassOf(err) != kms.Denied || hold.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q", name, err, hold.HintOf(err))
			continue
		}
		if text := err.Error() + hold.HintOf(err); strings.Contains(text, "CANARY") || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("%s: %q quotes it", name, text)
		}
	}
}
