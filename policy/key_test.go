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
			var e *expandError
			if !errors.As(err, &e) || got != "" {
				t.Fatalf("got %q, %v, want an *expandError", got, err)
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
		k := Key{URI: uri}
		if got, compiled := k.Templated(), k.compiled().Templated(); got != want || compiled != want {
			t.Errorf("%s: %v, compiled %v, want %v", uri, got, compiled, want)
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

func TestVariableInQuery(t *testing.T) {
	for uri, want := range map[string]bool{
		"x://{namespace}/k?address=a":               false,
		"x://m/k?namespace={namespace}":             false,
		"x://m/k?address=a&namespace=t/{namespace}": false,
		"x:///path#k-{namespace}":                   false,
		"x:///path#k?endpoint={namespace}":          false, // no query: all of it is the name
		"x://m/k?endpoint={namespace}":              true,
		"x://m/k?address=https://v/{namespace}":     true,
		"x://m/k?region={namespace}":                true,
		"x://m/k?auth-namespace={namespace}":        true,
		"x://m/k?{namespace}=a":                     true,
		"x://m/k?{namespace}":                       true,
		"x://m/k?namespace{namespace}=a":            true,
		"x://m/k?Namespace={namespace}":             true,
		"x://m/k?namespace=a&role=r-{namespace}":    true,
		"x://m/k?namespace=a;role={namespace}":      false, // Go and the backends know no ; here
		"x://m/k?a?namespace={namespace}":           true,
	} {
		if got := variableInQuery(uri); got != want {
			t.Errorf("%s: %v", uri, got)
		}
	}
}

func TestTemplatesThatMeet(t *testing.T) {
	for _, test := range []struct {
		template, other string
		want            bool
	}{
		{"x://m/{namespace}", "x://m/recovery", true},
		{"x://m/{namespace}", "x://m/a/b", false},
		{"x://m/{namespace}", "x://m/", false},
		{"x://m/{namespace}", "x://m", false},
		{"x://m/{namespace}", "y://m/a", false},
		{"x://m/{namespace}", "x://m/a?region=r", false},
		{"x://m/{namespace}?region=r", "x://m/a?region=r", true},
		{"x://m/tenant-{namespace}", "x://m/recovery", false},
		{"x://m/tenant-{namespace}", "x://m/tenant-a", true},
		{"x://m/tenant-{namespace}", "x://m/tenant-", false},
		{"x://m/{namespace}/k-{namespace}", "x://m/a/k-a", true},
		{"x://m/{namespace}/k-{namespace}", "x://m/a/k-b", false},
		{"x://m/{namespace}", "x://m/..", false},
		{"x://m/{namespace}", "x://m/" + strings.Repeat("n", 256), false},
		{"x://m/tenant-{namespace}", "x://m/tenant-eu-{namespace}", true},
		{"x://m/{namespace}", "x://m/tenant-{namespace}", true},
		{"x://m/{namespace}-0", "x://m/{namespace}-1", false},
		{"x://m/{namespace}-0", "x://m/a-{namespace}", true}, // a-0-0, from both sides
		{"x://m/near-{namespace}", "x://m/far-{namespace}", false},
		{"x://m/{namespace}", "x://m/{namespace}/k", false},
		{"x://{namespace}/k", "x://m/{namespace}", true},
		{"x://{namespace}/ab", "x://ab/{namespace}", true},
		{"x://{namespace}-ab", "x://ab-{namespace}", true},
		{"x://{namespace}/k?namespace=a", "x://m/{namespace}", false},
		{"x://m/{namespace}?namespace=a", "x://m/{namespace}?namespace=b", false},
		{"x://m/{namespace}", "x://m/{namespace}?address=a", false},
	} {
		a, b := Key{Name: "a", URI: test.template}, Key{Name: "b", URI: test.other}
		if got := a.meets(b); got != test.want {
			t.Errorf("%s, %s: %v", test.template, test.other, got)
		}
		if b.Templated() && b.meets(a) != test.want {
			t.Errorf("%s, %s: not the same the other way round", test.template, test.other)
		}
	}
}

// All short templates over two letters, one of which no namespace has.
func TestTemplatesThatMeetAreAllFound(t *testing.T) {
	pieces := []string{"", "a", "/", "aa", "a/", "/a", "//", "a/a", "/a/"}
	var templates []Key
	for _, begin := range pieces {
		for _, end := range pieces {
			templates = append(templates, Key{URI: "x://" + begin + namespaceVariable + end})
		}
	}
	expansions := func(k Key) map[string]bool {
		out := make(map[string]bool)
		for n := 1; n <= 8; n++ {
			uri, err := k.Expand(strings.Repeat("a", n))
			if err != nil {
				t.Fatal(err)
			}
			out[uri] = true
		}
		return out
	}
	found := 0
	for _, k := range templates {
		all := expansions(k)
		for _, other := range templates {
			if k.URI == other.URI {
				continue
			}
			want := false
			for uri := range expansions(other) {
				want = want || all[uri]
			}
			if got := k.meets(other); got != want {
				t.Errorf("%s, %s: %v", k.URI, other.URI, got)
			}
			if want {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("none meet")
	}
}
