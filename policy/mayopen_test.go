package policy

import (
	"strings"
	"testing"
)

// Rule 4 is the reader's: it alone accepts what lab seals.
const openers = `
keys:
  a:       {uri: "x://a"}
  b:       {uri: "x://b"}
  shared:  {uri: "x://shared"}
  reader:  {uri: "x://reader"}
  tenant:  {uri: "x://tenant-{namespace}"}
  retired: {uri: "x://retired"}
  rest:    {uri: "x://rest"}
seal:
  - {match: {namespace: "a", workflowType: "Never"}, keys: [a]}
  - {match: {namespace: "b"}, keys: [b, shared]}
  - {match: {namespace: "a"}, keys: [shared]}
  - {match: {namespace: "reads-*", taskQueue: "q"}, keys: [reader, tenant], accept: ["lab", "b"]}
  - {match: {namespace: "?*"}, keys: [tenant]}
  - {match: {taskQueue: "odd"}, keys: [rest]}
`

func TestMayOpen(t *testing.T) {
	p, err := Parse("test.yaml", []byte(openers))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		reader, sealed string
		want           string // besides retired and rest, which are candidates always
	}{
		{"a", "a", "a shared tenant"},
		{"b", "b", "b shared tenant"},
		{"", "a", "a shared tenant"},
		{"", "lab", "tenant"},
		{"a", "lab", "tenant"},                          // the reader's own keys open nothing of others
		{"reads-1", "lab", "reader tenant"},             // the rule accepts lab
		{"reads-1", "b", "b reader shared tenant"},      // keys of both
		{"reads-1", "a", "a shared tenant"},             // not in accept: Accepts refuses it, and its keys are a's
		{"lab", "reads-1", "reader tenant"},             // accept is one way, but the rule matches what is claimed
		{"b", "a", "a shared tenant"},                   // b's own key is none of a's
		{"A", "A", "tenant"},                            // case matters
		{"reads-1", "", ""},                             // nothing claimed
		{"", "", ""},                                    // nothing known
		{"nobody", strings.Repeat("x", 1000), "tenant"}, // any length
		{"reads-1", "lab\x00", "tenant"},                // and any bytes
		{"\xff", "\xff", "tenant"},
		{"reads-*", "lab", "reader tenant"}, // a namespace is no pattern
		{"a", "*", "tenant"},
		{"reads-1", "reads-2", "reader tenant"},
		{"reads-1", "retired", "tenant"}, // a namespace called as a key
		{"?*", "?*", "tenant"},
		{"", "reads-", "reader tenant"}, // "*" takes nothing, too
		{"reads-1", "labs", "tenant"},   // no prefix
		{"reads-1\n", "lab", "reader tenant"},
		{"other", "b", "b shared tenant"},
		{"other", "other", "tenant"},
		{"", "b", "b shared tenant"},
		{"b", "reads-1", "reader tenant"},
		{"b", "lab", "tenant"}, // b accepts nothing
	} {
		var got []string
		for _, name := range p.KeyNames() {
			switch may := p.MayOpen(name, test.reader, test.sealed); {
			case name == "retired" || name == "rest":
				if !may {
					t.Errorf("reader %q, sealed for %q: %s is no candidate", test.reader, test.sealed, name)
				}
			case may:
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("reader %q, sealed for %q: candidates %v, want %q", test.reader, test.sealed, got, test.want)
		}
	}
	if p.MayOpen("undefined", "a", "a") || new(Policy).MayOpen("a", "a", "a") {
		t.Error("a key that is not defined is a candidate")
	}
	if d := Default("x://k"); !d.MayOpen("default", "", "any") {
		t.Error("the key of the policy without a file is no candidate")
	}
}

// What a key may seal for a namespace, it may open for it.
func FuzzMayOpen(f *testing.F) {
	p, err := Parse("test.yaml", []byte(openers))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a", "Never", "q", "b")
	f.Add("reads-1", "", "q", "lab")
	f.Fuzz(func(t *testing.T, namespace, workflowType, taskQueue, reader string) {
		rule, err := p.SealRule(Facts{Namespace: namespace, WorkflowType: workflowType, TaskQueue: taskQueue})
		if err != nil {
			return
		}
		for _, name := range rule.Keys {
			for _, r := range []string{"", namespace, reader} {
				if !p.MayOpen(name, r, namespace) {
					t.Errorf("%q seals with %s, which may not open it for %q", namespace, name, r)
				}
			}
		}
	})
}

func BenchmarkMayOpen(b *testing.B) {
	p, err := Parse("test.yaml", []byte(openers))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.MayOpen("shared", "reads-1", "lab")
	}
}

func TestMayOpenDoesNotAllocate(t *testing.T) {
	p, err := Parse("test.yaml", []byte(openers))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { p.MayOpen("reader", "reads-1", "lab") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
