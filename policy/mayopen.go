package policy

import "slices"

// namedBy says which rules name a key. The zero value is a key that no rule names.
type namedBy struct {
	rules []int // indexes into Policy.compiled
	// always is set where MayOpen is true for any two namespaces.
	always bool
}

// index returns for each key which rules name it.
func index(keys map[string]Key, rules []Rule, compiled []compiledRule) map[string]namedBy {
	out := make(map[string]namedBy, len(keys))
	for i := range rules {
		for _, name := range rules[i].Keys {
			by := out[name]
			by.rules = append(by.rules, i)
			by.always = by.always || compiled[i].namespace.kind == globAny
			out[name] = by
		}
	}
	for name := range keys {
		if by := out[name]; len(by.rules) == 0 {
			out[name] = namedBy{always: true}
		}
	}
	return out
}

// MayOpen reports whether the key of that name is a candidate to open an envelope that claims namespace sealed, for a
// reader in namespace known; empty means unknown. An attacker can choose the namespace that an envelope
// claims until a key has proven it, and a key proves it only for the namespaces that it is meant for.
//
// These keys are candidates, and no others:
//   - the keys of rules that match the namespace sealed,
//   - the keys of rules that match the namespace known and list sealed in their accept,
//   - the keys that no rule names: they were replaced, and only open.
//
// The other fields of a rule's match do not count: a reader does not know them. Accepts says whether the reader may open
// the envelope at all. MayOpen does not allocate, and looks only at the rules that name the key.
func (p *Policy) MayOpen(key, known, sealed string) bool {
	by, defined := p.namedBy[key]
	if !defined || by.always {
		return defined
	}
	return slices.ContainsFunc(by.rules, func(i int) bool {
		c := &p.compiled[i]
		return c.namespace.match(sealed) || known != "" && c.namespace.match(known) && c.accepts(sealed)
	})
}
