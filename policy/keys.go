package policy

import "strings"

// keys reads the keys section. A key with a wrong definition counts as defined for the rules. resilience holds for the
// fields that a key leaves out.
func (r *reader) keys(e entry, resilience Resilience) map[string]Key {
	problems := len(r.problems)
	names, entries, ok := r.pairs(e.value, "keys", keyExample)
	if !ok {
		return nil
	}
	if len(entries) == 0 && len(r.problems) == problems {
		r.fail(e.at, "add a key, such as "+keyExample, "no key is defined")
		return nil
	}
	if len(entries) > maxKeys {
		r.fail(e.at, "one key with {namespace} in its URI serves many namespaces", "more than %d keys are defined", maxKeys)
		return nil
	}
	keys := make(map[string]Key, len(entries))
	firstWith := make(map[string]string, len(entries))
	for _, name := range names {
		k := entries[name]
		if !validKeyName(name) {
			r.fail(k.at, "use 1 to 64 letters, digits, . _ and -, starting with a letter or digit", "key name %s is not valid", quote(name))
		}
		key := Key{Name: name, Resilience: resilience}
		if k.value != nil {
			r.mapping(k, keySchema("key "+quote(name), &key))
		}
		keys[name] = key.compiled()
		if key.URI == "" {
			continue
		}
		if other, twice := firstWith[key.URI]; twice {
			r.fail(k.at, "keep one of the two names and use it in every rule", "keys %s and %s have the same URI", quote(other), quote(name))
			continue
		}
		firstWith[key.URI] = name
	}
	r.meetings(names, entries, keys)
	return keys
}

// meetings refuses a template that has the URI of another key for some namespace: its tenant could use the other key.
func (r *reader) meetings(names []string, entries map[string]entry, keys map[string]Key) {
	for _, name := range names {
		if !keys[name].Templated() {
			continue
		}
		for _, other := range names {
			if other == name || keys[other].URI == "" || keys[other].URI == keys[name].URI || keys[other].Templated() && other < name {
				continue
			}
			if keys[name].meets(keys[other]) {
				r.fail(entries[name].at, "write a prefix that no other key has before "+namespaceVariable+", as in hashivault://transit/tenant-"+namespaceVariable,
					"a namespace could be called such that key %s is key %s", quote(name), quote(other))
				break
			}
		}
	}
}

// uriValue is a key's URI.
type uriValue struct{ out *string }

func (v uriValue) read(r *reader, e entry, what string) {
	s, ok := r.textOf(e, "the "+what)
	if !ok {
		return
	}
	if problem, advice := checkURI(s); problem != "" {
		r.fail(nodePosition(e.value), advice, "the %s %s", what, problem)
		return
	}
	*v.out = s
}

func validKeyName(s string) bool {
	return s != "" && len(s) <= maxKeyName && strings.IndexByte("._-", s[0]) < 0 && plainName(s)
}
