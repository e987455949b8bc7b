package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestKeyExpand(t *testing.T) {
	plain := Key{Name: "main", URI: "hashivault://transit/main"}
	tenant := Key{Name: "tenant", URI: "hashivault://transit/tenant-{namespace}"}
	tests := []struct {
		name      string
		key       Key
		namespace string
		want      string
		reason    string
	}{
		{name: "no variable", key: plain, namespace: "payments", want: "hashivault://transit/main"},
		{name: "no variable, namespace unknown", key: plain, namespace: "", want: "hashivault://transit/main"},
		{name: "no variable, namespace unfit", key: plain, namespace: "a/../b", want: "hashivault://transit/main"},
		{name: "plain namespace", key: tenant, namespace: "payments", want: "hashivault://transit/tenant-payments"},
		{name: "Temporal Cloud namespace", key: tenant, namespace: "Payments_2.a1b2c", want: "hashivault://transit/tenant-Payments_2.a1b2c"},
		{name: "dots among others", key: tenant, namespace: "a..b", want: "hashivault://transit/tenant-a..b"},
		{name: "three dots", key: tenant, namespace: "...", want: "hashivault://transit/tenant-..."},
		{name: "twice", key: Key{Name: "k", URI: "x://{namespace}/{namespace}"}, namespace: "n", want: "x://n/n"},
		{name: "longest", key: tenant, namespace: strings.Repeat("n", 255), want: "hashivault://transit/tenant-" + strings.Repeat("n", 255)},
		{name: "unknown", key: tenant, namespace: "", reason: "the namespace is not known here"},
		{name: "dot", key: tenant, namespace: ".", reason: "the namespace has a meaning of its own in a path"},
		{name: "dot dot", key: tenant, namespace: "..", reason: "the namespace has a meaning of its own in a path"},
		{name: "too long", key: tenant, namespace: strings.Repeat("n", 256), reason: "the namespace is longer than 255 bytes"},
		{
			name: "URI too long", key: Key{Name: "k", URI: "x://" + strings.Repeat("{namespace}", 10)}, namespace: strings.Repeat("n", 200),
			reason: "the key URI would be longer than 1024 bytes",
		},
	}
	for _, bad := range []string{"a/../b", "/", "a b", "a%2fb", "a?b", "a#b", "a@b", "a:b", "a&b", "a=b", `a\b`, "a\x00", "a\n", "é", "\xff", "{namespace}", "a+b", "a;b", "a*"} {
		tests = append(tests, struct {
			name      string
			key       Key
			namespace string
			want      string
			reason    string
		}{name: "unfit " + bad, key: tenant, namespace: bad, reason: "the namespace holds a character other than letters, digits, . _ and -"})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.key.Expand(test.namespace)
			if test.reason == "" {
				if got != test.want || err != nil {
					t.Fatalf("got %q, %v, want %q", got, err, test.want)
				}
				return
			}
			var e *ExpandError
			if !errors.As(err, &e) || got != "" {
				t.Fatalf("got %q, %v, want an *ExpandError", got, err)
			}
			if e.reason != test.reason || e.Key != test.key.Name || e.Namespace != test.namespace {
				t.Errorf("got %+v, want reason %q", e, test.reason)
			}
			if !strings.HasPrefix(e.Error(), "policy: expand key ") || strings.Contains(e.Error(), test.key.URI) || e.Hint() == "" {
				t.Errorf("text %q, hint %q", e.Error(), e.Hint())
			}
		})
	}
}

func TestKeyTemplated(t *testing.T) {
	for uri, want := range map[string]bool{"x://a": false, "x://{namespace}": true, "x://a/{namespace}#b": true, "x://{tenant}": false} {
		if got := (Key{URI: uri}).Templated(); got != want {
			t.Errorf("%s: %v, want %v", uri, got, want)
		}
	}
}

// Two namespaces never get the same key, and what a namespace puts in a URI
// never becomes more than one part of it.
func FuzzKeyExpand(f *testing.F) {
	f.Add("a", "b")
	f.Add("..", "a/../b")
	f.Add("a.b", "a-b")
	key := Key{Name: "tenant", URI: "hashivault://transit/{namespace}?namespace={namespace}"}
	f.Fuzz(func(t *testing.T, a, b string) {
		first, errA := key.Expand(a)
		second, errB := key.Expand(b)
		if errA == nil && errB == nil && (first == second) != (a == b) {
			t.Errorf("%q and %q give %q and %q", a, b, first, second)
		}
		if errA == nil {
			if problem, _ := checkURI(first); problem != "" || strings.Count(first, "/") != 3 || strings.Count(first, "?") != 1 {
				t.Errorf("%q gives %q, which %s", a, first, problem)
			}
		}
	})
}
