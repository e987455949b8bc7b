package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// RecipientsPrimary is the Rule.Recipients of a rule that seals without those of
// its keys, the first excepted, that cannot wrap.
const (
	RecipientsPrimary = "primary"
	recipientsAll     = "all"
)

const ruleExample = `- {match: {namespace: "*"}, keys: [main]}`

// Values of the fields that take one of a list.
var (
	claimNames       = []string{"workflowId", "workflowType", "activityType", "taskQueue"}
	bindNames        = []string{"workflowId", "activityType"}
	compressionNames = []string{"none", "zstd"}
	recipientsNames  = []string{recipientsAll, RecipientsPrimary}
)

// rules reads the seal section. defined are the names of the keys, sorted; nil
// where the keys section could not be read, and then names are not judged.
func (r *reader) rules(e entry, defined []string) []Rule {
	nodes, ok := r.list(e, "seal", ruleExample)
	if !ok {
		return nil
	}
	if len(nodes) == 0 {
		r.fail(e.at, "add a rule, such as "+ruleExample, "the seal list is empty: nothing could be sealed")
		return nil
	}
	if len(nodes) > MaxRules {
		r.fail(nodePosition(nodes[MaxRules]), "use patterns, and {namespace} in key URIs, to say the same with fewer rules", "more than %d rules", MaxRules)
		return nil
	}
	rules := make([]Rule, len(nodes))
	var earlier []readRule
	for i, n := range nodes {
		at := nodePosition(n)
		rules[i] = Rule{Index: i, Line: at.line, DataKey: defaultDataKey()}
		if !r.rule(n, &rules[i], defined) {
			continue
		}
		this := readRule{number: i + 1, line: at.line, compiled: compileRule(rules[i])}
		if j := slices.IndexFunc(earlier, func(c readRule) bool { return c.compiled.covers(&this.compiled) }); j >= 0 {
			r.fail(at, "put the more specific rule first, or take this one out",
				"rule %d can never match: rule %d on line %d matches everything that it does", this.number, earlier[j].number, earlier[j].line)
			continue
		}
		earlier = append(earlier, this)
	}
	return rules
}

// readRule is a rule whose match was read without a problem.
type readRule struct {
	number, line int
	compiled     compiledRule
}

// rule reads one rule into out, and reports whether its match is good.
func (r *reader) rule(n ast.Node, out *Rule, defined []string) bool {
	at := nodePosition(n)
	what := fmt.Sprintf("rule %d", out.Index+1)
	f, ok := r.fields(n, what, ruleFields)
	if !ok {
		return false
	}
	matchOK := false
	if e, ok := f["match"]; !ok {
		r.fail(at, `say what it matches; match: {namespace: "*"} is everything`, "%s has no match", what)
	} else if e.value != nil {
		matchOK = r.match(e, what, &out.Match)
	}
	if e, ok := f["keys"]; !ok {
		r.fail(at, "name the keys that seal, such as keys: [main]", "%s has no keys", what)
	} else if e.value != nil {
		out.Keys = r.ruleKeys(e, what, defined)
	}
	if e, ok := f["recipients"]; ok && e.value != nil {
		out.Recipients = r.recipients(e, what, out.Keys)
	}
	if e, ok := f["dataKey"]; ok && e.value != nil {
		r.dataKey(e, what, &out.DataKey)
	}
	if e, ok := f["compression"]; ok && e.value != nil {
		if s, ok := r.text(e.value, "compression of "+what); ok && r.oneOf(nodePosition(e.value), s, "compression", compressionNames) {
			out.Compression = s
		}
	}
	if e, ok := f["accept"]; ok && e.value != nil {
		out.Accept, _ = r.texts(e, "accept of "+what, `accept: ["billing-*"]`, func(at position, s string) bool {
			return r.pattern(at, s, "accept pattern")
		})
	}
	if e, ok := f["requireSealed"]; ok && e.value != nil {
		out.RequireSealed = r.boolean(e, "requireSealed of "+what)
	}
	if e, ok := f["sealHeaders"]; ok && e.value != nil {
		out.SealHeaders = r.boolean(e, "sealHeaders of "+what)
	}
	if e, ok := f["holdWorkflows"]; ok && e.value != nil {
		out.HoldWorkflows = r.boolean(e, "holdWorkflows of "+what)
	}
	if e, ok := f["claims"]; ok && e.value != nil {
		out.Claims, _ = r.texts(e, "claims of "+what, "claims: [workflowId]", func(at position, s string) bool {
			return r.oneOf(at, s, "claim", claimNames)
		})
	}
	if e, ok := f["bind"]; ok && e.value != nil {
		out.Bind, _ = r.texts(e, "bind of "+what, "bind: [workflowId]", r.bind)
		for _, name := range out.Bind {
			if !slices.Contains(out.Claims, name) {
				out.Claims = append(out.Claims, name)
			}
		}
	}
	return matchOK
}

// unbindable are the claims that differ between sealing and opening though nothing was
// moved, and why.
var unbindable = map[string]string{
	"workflowType": "a workflow may continue as new under another type, which then reads what the old type sealed",
	"taskQueue":    "a workflow may continue as new on another task queue, and an operator may move an activity to one, which then reads what was sealed for the old queue",
}

// bind judges one name of a rule's bind.
func (r *reader) bind(at position, s string) bool {
	if why, ok := unbindable[s]; ok {
		r.fail(at, "choose from "+strings.Join(bindNames, ", ")+"; claims: records "+s+" without comparing it", "bind cannot compare %s: %s", s, why)
		return false
	}
	return r.oneOf(at, s, "claim", bindNames)
}

func (r *reader) match(e entry, rule string, out *Match) bool {
	problems := len(r.problems)
	f, ok := r.fields(e.value, "match of "+rule, matchFields)
	if !ok {
		return false
	}
	if len(f) == 0 && len(r.problems) == problems {
		r.fail(e.at, `match: {namespace: "*"} is everything`, "match of %s is empty", rule)
	}
	for _, field := range [...]struct {
		name string
		out  *string
	}{
		{"namespace", &out.Namespace},
		{"workflowType", &out.WorkflowType},
		{"activityType", &out.ActivityType},
		{"taskQueue", &out.TaskQueue},
	} {
		if e := f[field.name]; e.value != nil {
			if s, ok := r.text(e.value, field.name); ok && r.pattern(nodePosition(e.value), s, field.name+" pattern") {
				*field.out = s
			}
		}
	}
	return len(r.problems) == problems
}

func (r *reader) pattern(at position, s, what string) bool {
	problem, advice := checkGlob(s)
	if problem != "" {
		r.fail(at, advice, "%s %s", what, problem)
	}
	return problem == ""
}

func (r *reader) ruleKeys(e entry, rule string, defined []string) []string {
	names, ok := r.texts(e, "keys of "+rule, "keys: [main]", func(at position, s string) bool {
		if _, found := slices.BinarySearch(defined, s); found || defined == nil {
			return true
		}
		r.fail(at, "define it under keys, or name one that is: "+some(defined), "key %s is not defined%s", quote(s), r.did(s, defined))
		return false
	})
	switch {
	case !ok:
	case len(names) == 0:
		r.fail(e.at, "name the keys that seal, such as keys: [main]", "%s has no keys", rule)
	case len(names) > MaxRuleKeys:
		r.fail(e.at, "each key is one more copy of the data key in every envelope; keep those that recovery needs", "%s has more than %d keys", rule, MaxRuleKeys)
	}
	return names
}

// recipients reads which of a rule's keys must wrap.
func (r *reader) recipients(e entry, rule string, keys []string) string {
	at := nodePosition(e.value)
	s, ok := r.text(e.value, "recipients of "+rule)
	if !ok || !r.oneOf(at, s, "recipients", recipientsNames) {
		return ""
	}
	if s == RecipientsPrimary && len(keys) == 1 {
		r.fail(at, "name the keys that may be missing after the first one in keys, or take recipients out",
			"%s says recipients: primary, but has one key, which must always wrap", rule)
	}
	return s
}

func (r *reader) dataKey(e entry, rule string, out *DataKey) {
	f, ok := r.fields(e.value, "dataKey of "+rule, dataKeyFields)
	if !ok {
		return
	}
	if e := f["maxPayloads"]; e.value != nil {
		out.MaxPayloads = int(r.number(e, "maxPayloads", 1, MaxMaxPayloads))
	}
	if e := f["maxAge"]; e.value != nil {
		out.MaxAge = r.duration(e, "maxAge", MinMaxAge, MaxMaxAge)
	}
	if e := f["maxBytes"]; e.value != nil {
		out.MaxBytes = r.size(e, "maxBytes", MaxMaxBytes)
	}
	if e := f["sealGrace"]; e.value != nil {
		out.SealGrace = r.duration(e, "sealGrace", 0, MaxSealGrace)
	}
}

func (r *reader) oneOf(at position, s, what string, values []string) bool {
	if slices.Contains(values, s) {
		return true
	}
	r.fail(at, "choose from "+strings.Join(values, ", "), "unknown %s %s%s", what, quote(s), r.did(s, values))
	return false
}

// some lists the first few of many names.
func some(names []string) string {
	const few = 8
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:few], ", ") + ", …"
}
