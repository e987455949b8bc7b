package policy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func mustParse(tb testing.TB, text string) *Policy {
	tb.Helper()
	p, err := Parse("waxseal.yaml", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

const tenants = keysSection + `seal:
  - match: {namespace: "payments-*", activityType: "Charge*"}
    keys: [main, recovery]
    accept: [shared]
  - match: {namespace: "payments-*", workflowType: "?*", taskQueue: slow}
    keys: [recovery]
  - match: {namespace: "payments-*"}
    keys: [main]
    accept: ["billing-*", "payments-eu"]
  - match: {namespace: "shared"}
    keys: [main]
    accept: ["*"]
  - match: {activityType: "Everywhere"}
    keys: [recovery]
`

func TestSealRule(t *testing.T) {
	p := mustParse(t, tenants)
	tests := []struct {
		name  string
		facts Facts
		want  int // index of the rule, -1 for none
	}{
		{"first", Facts{Namespace: "payments-eu", ActivityType: "ChargeCard"}, 0},
		{"first, more known", Facts{Namespace: "payments-eu", ActivityType: "ChargeCard", WorkflowType: "Order", TaskQueue: "slow", WorkflowID: "w"}, 0},
		{"activity type unknown", Facts{Namespace: "payments-eu"}, 2},
		{"other activity", Facts{Namespace: "payments-eu", ActivityType: "Refund"}, 2},
		{"?* wants a known fact", Facts{Namespace: "payments-eu", TaskQueue: "slow"}, 2},
		{"?* with a known fact", Facts{Namespace: "payments-eu", TaskQueue: "slow", WorkflowType: "Order"}, 1},
		{"case", Facts{Namespace: "Payments-eu"}, -1},
		{"no match", Facts{Namespace: "default", WorkflowType: "Order"}, -1},
		{"nothing known", Facts{}, -1},
		{"namespace unknown", Facts{ActivityType: "Everywhere"}, 4},
		{"any namespace", Facts{Namespace: "default", ActivityType: "Everywhere"}, 4},
		{"bytes that are no text", Facts{Namespace: "payments-\xff\x00", ActivityType: "\xc3"}, 2},
		{"long", Facts{Namespace: "payments-" + strings.Repeat("x", 1<<20)}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rule, err := p.SealRule(test.facts)
			if test.want >= 0 {
				if err != nil || rule != &p.Seal[test.want] {
					t.Fatalf("got %+v, %v, want rule %d", rule, err, test.want)
				}
				return
			}
			var none *NoRuleError
			if !errors.As(err, &none) || rule != nil || none.Facts != test.facts {
				t.Fatalf("got %+v, %v, want a *NoRuleError", rule, err)
			}
			if none.Hint() == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestNoRuleErrorText(t *testing.T) {
	tests := []struct {
		facts      Facts
		text, hint string
	}{
		{
			Facts{Namespace: "default", WorkflowType: "Order", TaskQueue: "q", WorkflowID: "customer-4711"},
			`policy: match rule: none for namespace "default", workflow type "Order", activity type unknown, task queue "q"`,
			"add a rule to the policy's seal list that matches this namespace by what is known here; an unknown fact is matched only by a rule that does not ask for it",
		},
		{
			Facts{},
			`policy: match rule: none for namespace unknown, workflow type unknown, activity type unknown, task queue unknown`,
			`pass the namespace, or add a rule with match: {namespace: "*"} to the policy's seal list`,
		},
		{
			Facts{Namespace: "a\n\x1b" + strings.Repeat("n", 100)},
			`policy: match rule: none for namespace "a\n\x1b` + strings.Repeat("n", 57) + `"…, workflow type unknown, activity type unknown, task queue unknown`,
			"add a rule to the policy's seal list that matches this namespace by what is known here; an unknown fact is matched only by a rule that does not ask for it",
		},
	}
	for _, test := range tests {
		err := &NoRuleError{Facts: test.facts}
		if diff := cmp.Diff([]string{test.text, test.hint}, []string{err.Error(), err.Hint()}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestAccepts(t *testing.T) {
	p := mustParse(t, tenants)
	tests := []struct {
		known, sealed string
		want          bool
	}{
		{"payments-eu", "payments-eu", true},
		{"payments-eu", "payments-us", false},
		{"payments-us", "payments-eu", true},
		{"payments-eu", "billing-eu", true},
		{"payments-eu", "shared", true}, // by a rule that also matches an activity type
		{"payments-eu", "Shared", false},
		{"billing-eu", "payments-eu", false}, // not the other way around
		{"shared", "anything", true},
		{"default", "default", true}, // even without a rule: sealing there is what is refused
		{"default", "shared", false},
		{"default", "", false},
		{"", "default", false},
		{"shared", "", false}, // "*" is for namespaces, not for none
		{"", "", true},
	}
	for _, test := range tests {
		if got := p.Accepts(test.known, test.sealed); got != test.want {
			t.Errorf("Accepts(%q, %q) = %v, want %v", test.known, test.sealed, got, test.want)
		}
	}
}

func TestRequiresSealed(t *testing.T) {
	p := mustParse(t, `
keys: {a: {uri: "fake://a"}}
seal:
  - {match: {namespace: "payments-old"}, keys: [a]}
  - {match: {namespace: "payments-*", workflowType: "Order"}, keys: [a]}
  - {match: {namespace: "payments-*", taskQueue: "strict"}, keys: [a], requireSealed: true}
  - {match: {namespace: "billing", workflowType: "Order"}, keys: [a]}
  - {match: {namespace: "billing"}, keys: [a], requireSealed: true}
  - {match: {taskQueue: "shared"}, keys: [a], requireSealed: true}
`[1:])
	for namespace, want := range map[string]bool{
		"payments-old": false, // its own rule comes first and matches all of it
		"payments-eu":  true,  // by the rule for one task queue, which the server may name or not
		"billing":      true,  // the rule before it is for one workflow type
		"other":        true,  // by a rule without a namespace
		"":             false, // unknown
	} {
		if got := p.RequiresSealed(namespace); got != want {
			t.Errorf("RequiresSealed(%q) = %v, want %v", namespace, got, want)
		}
		if n := testing.AllocsPerRun(10, func() { p.RequiresSealed(namespace) }); n > 0 {
			t.Errorf("RequiresSealed(%q) allocates %v times", namespace, n)
		}
	}
	if Default("fake://a").RequiresSealed("n") || new(Policy).RequiresSealed("n") {
		t.Error("it is required where no rule says so")
	}
}

func TestBinds(t *testing.T) {
	p := mustParse(t, `
keys: {k: {uri: "x://k"}}
seal:
  - {match: {namespace: "payments-*", activityType: "Charge*"}, keys: [k], bind: [activityType]}
  - {match: {namespace: "payments-*"}, keys: [k], bind: [workflowId], claims: [taskQueue]}
  - {match: {namespace: "*"}, keys: [k], claims: [workflowId]}
`)
	for _, test := range []struct {
		known, claim string
		want         bool
	}{
		{"payments-eu", "workflowId", true},
		{"payments-eu", "activityType", true}, // by a rule that also matches an activity type
		{"payments-eu", "taskQueue", false},   // it is recorded
		{"billing", "workflowId", false},
		{"", "workflowId", false},
	} {
		if got := p.Binds(test.known, test.claim); got != test.want {
			t.Errorf("Binds(%q, %q) = %v, want %v", test.known, test.claim, got, test.want)
		}
	}
	everywhere := mustParse(t, `{keys: {k: {uri: "x://k"}}, seal: [{match: {namespace: "*"}, keys: [k], bind: [workflowId]}]}`)
	if everywhere.Binds("", "workflowId") || !everywhere.Binds("any", "workflowId") {
		t.Error("an unknown namespace binds, or a known one does not")
	}
	if new(Policy).Binds("any", "workflowId") {
		t.Error("no rule binds")
	}
}

func TestDefault(t *testing.T) {
	p := Default("local:///var/lib/waxseal/keyring#default")
	want := &Policy{
		Keys: map[string]Key{"default": plainKey("default", "local:///var/lib/waxseal/keyring#default")},
		Seal: []Rule{{
			Match: Match{Namespace: "*"}, Keys: []string{"default"},
			DataKey: DataKey{MaxPayloads: 1, MaxAge: 5 * time.Minute, MaxBytes: 64 << 30, SealGrace: 15 * time.Minute},
		}},
	}
	if diff := cmp.Diff(want.Keys, p.Keys, cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Seal, p.Seal); diff != "" {
		t.Errorf("seal (-want +got):\n%s", diff)
	}
	for _, f := range []Facts{{}, {Namespace: "default"}, {Namespace: "other", WorkflowType: "w"}} {
		if rule, err := p.SealRule(f); err != nil || rule != &p.Seal[0] {
			t.Errorf("SealRule(%+v) = %v, %v", f, rule, err)
		}
	}
	if p.Accepts("a", "b") {
		t.Error("accepts a foreign namespace")
	}
	if diff := cmp.Diff([]string{"default"}, p.KeyNames()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// The default is what a file that says the same gives, so that moving to a file
// changes nothing.
func TestDefaultAsFile(t *testing.T) {
	p := mustParse(t, "keys: {default: {uri: \"local:///keyring#default\"}}\nseal: [{match: {namespace: \"*\"}, keys: [default]}]")
	d := Default("local:///keyring#default")
	p.Seal[0].Line = 0
	if diff := cmp.Diff(d.Seal, p.Seal); diff != "" {
		t.Errorf("seal (-default +file):\n%s", diff)
	}
	if diff := cmp.Diff(d.Keys, p.Keys, cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Errorf("keys (-default +file):\n%s", diff)
	}
}

func TestZeroPolicy(t *testing.T) {
	var p Policy
	var none *NoRuleError
	if rule, err := p.SealRule(Facts{Namespace: "default"}); rule != nil || !errors.As(err, &none) {
		t.Errorf("SealRule = %v, %v", rule, err)
	}
	if p.Accepts("a", "b") || len(p.KeyNames()) != 0 {
		t.Error("the zero policy allows something")
	}
}

func TestKeyNames(t *testing.T) {
	p := mustParse(t, "keys: {b: {uri: \"x://b\"}, a: {uri: \"x://a\"}, c: {uri: \"x://c\"}}\nseal: [{match: {namespace: \"*\"}, keys: [a]}]")
	if diff := cmp.Diff([]string{"a", "b", "c"}, p.KeyNames()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConcurrentUse(t *testing.T) {
	p := mustParse(t, tenants)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				rule, err := p.SealRule(Facts{Namespace: "payments-eu", TaskQueue: "slow", WorkflowType: "Order"})
				if err != nil || rule.Index != 1 || !p.Accepts("payments-us", "billing-eu") || len(p.KeyNames()) != 2 {
					t.Errorf("rule %v, %v", rule, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// manyRules are 99 rules that look at three facts each, and a last one for the rest.
func manyRules(tb testing.TB) *Policy {
	var b strings.Builder
	b.WriteString(keysSection + "seal:\n")
	for i := range 99 {
		fmt.Fprintf(&b, "  - {match: {namespace: \"team-%d-*\", workflowType: \"*Order%d*\", taskQueue: \"queue-%d\"}, keys: [main]}\n", i, i, i)
	}
	b.WriteString("  - {match: {namespace: \"*\"}, keys: [main]}\n")
	return mustParse(tb, b.String())
}

func TestSealRuleAllocates(t *testing.T) {
	p := manyRules(t)
	f := Facts{Namespace: "team-98-prod", WorkflowType: "BigOrder98Flow", TaskQueue: "queue-98"}
	if rule, err := p.SealRule(f); err != nil || rule.Index != 98 {
		t.Fatalf("got %v, %v", rule, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = p.SealRule(f) }); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}

func BenchmarkSealRule(b *testing.B) {
	p := manyRules(b)
	for _, bench := range []struct {
		name  string
		facts Facts
		want  int
	}{
		{"first of 100 rules", Facts{Namespace: "team-0-prod", WorkflowType: "BigOrder0Flow", TaskQueue: "queue-0"}, 0},
		{"99th of 100 rules", Facts{Namespace: "team-98-prod", WorkflowType: "BigOrder98Flow", TaskQueue: "queue-98"}, 98},
		{"last of 100 rules", Facts{Namespace: "default", WorkflowType: "Order", TaskQueue: "q"}, 99},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rule, err := p.SealRule(bench.facts); err != nil || rule.Index != bench.want {
					b.Fatal(rule, err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte(tenants)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Parse("waxseal.yaml", text); err != nil {
			b.Fatal(err)
		}
	}
}
