package policy

import (
	"fmt"
	"slices"
	"strings"
)

// rules reads the seal section. defined are the sorted names of the keys; if it is nil, every name passes.
func (r *reader) rules(e entry, defined []string) []Rule {
	nodes, ok := r.list(e, "seal", ruleExample)
	if !ok {
		return nil
	}
	if len(nodes) == 0 {
		r.fail(e.at, "add a rule, such as "+ruleExample, "the seal list is empty: nothing could be sealed")
		return nil
	}
	if len(nodes) > maxRules {
		r.fail(nodePosition(nodes[maxRules]), "use patterns, and {namespace} in key URIs, to say the same with fewer rules", "more than %d rules", maxRules)
		return nil
	}
	rules := make([]Rule, len(nodes))
	compiled := make([]compiledRule, 0, len(nodes)) // of the rules at good
	var good []*Rule
	for i, n := range nodes {
		rule := &rules[i]
		*rule = Rule{Index: i, Line: nodePosition(n).line, DataKey: defaultDataKey()}
		r.mapping(entry{nodePosition(n), n}, ruleSchema(rule, defined))
		if rule.Match == (Match{}) {
			continue
		}
		c := compileRule(*rule)
		if j := slices.IndexFunc(compiled, func(earlier compiledRule) bool { return earlier.covers(&c) }); j >= 0 {
			r.fail(nodePosition(n), "put the more specific rule first, or take this one out",
				"rule %d can never match: rule %d on line %d matches everything that it does", i+1, good[j].Index+1, good[j].Line)
			continue
		}
		compiled, good = append(compiled, c), append(good, rule)
	}
	return rules
}

// matchValue is a rule's match. One with a problem stays empty, and the rule is not compared with others.
type matchValue struct{ out *Match }

func (v matchValue) read(r *reader, e entry, what string) {
	problems := len(r.problems)
	if r.mapping(e, matchSchema(what, v.out)) && *v.out == (Match{}) && len(r.problems) == problems {
		r.fail(e.at, `match: {namespace: "*"} is everything`, "%s is empty", what)
	}
	if len(r.problems) > problems {
		*v.out = Match{}
	}
}

// ruleKeysValue are a rule's keys.
type ruleKeysValue struct {
	rule    *Rule
	defined []string
}

func (v ruleKeysValue) read(r *reader, e entry, what string) {
	good := textsValue{&v.rule.Keys, "keys: [main]", func(r *reader, at position, s string) bool {
		if _, found := slices.BinarySearch(v.defined, s); found || v.defined == nil {
			return true
		}
		r.fail(at, "define it under keys, or name one that is: "+some(v.defined), "key %s is not defined%s", quote(s), r.did(s, v.defined))
		return false
	}}.all(r, e, what)
	switch n := len(v.rule.Keys); {
	case !good:
	case n == 0:
		r.fail(e.at, keysAdvice, "%s has no keys", v.rule.name())
	case n > maxRuleKeys:
		r.fail(e.at, "each key is one more copy of the data key in every envelope; keep those that recovery needs", "%s has more than %d keys", v.rule.name(), maxRuleKeys)
	}
}

// recipientsValue says which of a rule's keys must wrap.
type recipientsValue struct{ rule *Rule }

func (v recipientsValue) read(r *reader, e entry, what string) {
	choiceValue{&v.rule.Recipients, "recipients", recipientsNames}.read(r, e, what)
	if v.rule.Recipients == RecipientsPrimary && len(v.rule.Keys) == 1 {
		r.fail(nodePosition(e.value), "name the keys that may be missing after the first one in keys, or take recipients out",
			"%s says recipients: primary, but has one key, which must always wrap", v.rule.name())
	}
}

// holdValue is the former name of onDenied.
type holdValue struct{ rule *Rule }

func (v holdValue) read(r *reader, e entry, what string) {
	if v.rule.OnDenied != "" {
		r.fail(e.at, "keep onDenied, and take holdWorkflows out", "%s says both onDenied and holdWorkflows, its former name", v.rule.name())
		return
	}
	hold := false
	boolValue{&hold}.read(r, e, what)
	if v.rule.OnDenied = onDeniedFail; hold {
		v.rule.OnDenied = onDeniedHold
	}
}

// acceptable judges one pattern of a rule's accept.
func acceptable(r *reader, at position, s string) bool { return r.pattern(at, s, "accept pattern") }

// recordable judges one name of a rule's claims.
func recordable(r *reader, at position, s string) bool { return r.oneOf(at, s, "claim", claimNames) }

// unbindable are the claims that may differ between sealing and opening of one payload, and why.
var unbindable = map[string]string{
	"workflowType": "a workflow may continue as new under another type, which then reads what the old type sealed",
	"taskQueue":    "a workflow may continue as new on another task queue, and an operator may move an activity to one, which then reads what was sealed for the old queue",
}

// bindValue is a rule's bind. Its names are added to the claims.
type bindValue struct{ rule *Rule }

func (v bindValue) read(r *reader, e entry, what string) {
	textsValue{&v.rule.Bind, "bind: [workflowId]", bindable}.all(r, e, what)
	for _, name := range v.rule.Bind {
		if !slices.Contains(v.rule.Claims, name) {
			v.rule.Claims = append(v.rule.Claims, name)
		}
	}
}

// bindable judges one name of a rule's bind.
func bindable(r *reader, at position, s string) bool {
	if why, ok := unbindable[s]; ok {
		r.fail(at, "choose from "+strings.Join(bindNames, ", ")+"; claims: records "+s+" without comparing it", "bind cannot compare %s: %s", s, why)
		return false
	}
	return r.oneOf(at, s, "claim", bindNames)
}

// name is how messages name the rule.
func (r *Rule) name() string { return fmt.Sprintf("rule %d", r.Index+1) }

// some lists the first few of many names.
func some(names []string) string {
	const few = 8
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:few], ", ") + ", …"
}
