package policy

import (
	"iter"
	"maps"
	"slices"
	"time"
)

// Policy is a parsed policy file. It is immutable: its fields are for reading, its methods are safe for concurrent use. The
// zero value refuses everything.
type Policy struct {
	// Keys are the defined keys by name.
	Keys map[string]Key
	// Seal are the sealing rules, in the order of the file.
	Seal []Rule

	compiled []compiledRule // one for each of Seal
	namedBy  map[string]namedBy
}

// Key is a key-encryption key that the file defines.
type Key struct {
	// Name is what rules call it.
	Name string
	// URI says where it is; it may hold the variable {namespace}. See Expand.
	URI string
	// Resilience says how its KMS is called: the numbers of the key, and for the rest those of the file.
	Resilience Resilience

	pieces []string // of URI, split at the variables
}

// Rule says how to seal the payloads that match it.
type Rule struct {
	// Index is the rule's place in Policy.Seal, from 0. Messages count from 1.
	Index int
	// Line is where the rule starts in the file, from 1; 0 in Default's policy.
	Line int
	// Match is what a payload's facts must satisfy.
	Match Match
	// Keys are 1 to 8 names of Policy.Keys, in recipient order.
	Keys []string
	// Recipients is "all" or "primary"; empty means all. "primary" seals as soon as the first of Keys wraps, without those
	// that cannot wrap. A rule with one key never has it.
	Recipients string
	// DataKey limits how much one data key seals, whichever is reached first.
	DataKey DataKey
	// Compression is "none" or "zstd"; empty means none.
	Compression string
	// Accept are patterns of foreign namespaces. Their envelopes may be opened in the namespaces that this rule matches.
	// See Policy.Accepts.
	Accept []string
	// RequireSealed refuses payloads that are not sealed, in every namespace in which the rule can apply. See
	// Policy.RequiresSealed.
	RequireSealed bool
	// SealHeaders seals header fields too.
	SealHeaders bool
	// OnDenied is "hold" or "fail"; empty means hold. See FailsOnDenied.
	OnDenied string
	// Claims are the facts that envelopes record besides the namespace: any of workflowId, workflowType, activityType,
	// taskQueue. They include those of Bind.
	Claims []string
	// Bind are the claims that a reader compares with what it knows: any of workflowId, activityType. See Policy.Binds.
	Bind []string
}

// FailsOnDenied reports whether a KMS that says that a key is denied, disabled or not found fails the workflow. Otherwise
// its task is retried until the KMS permits the key.
func (r *Rule) FailsOnDenied() bool { return r.OnDenied == onDeniedFail }

// Match holds one pattern for each fact. An empty pattern and "*" match anything, an unknown fact included; every other
// pattern matches only a known fact. "*" stands for any run of characters, "?" for one, everything else for itself,
// case-sensitive.
type Match struct {
	Namespace, WorkflowType, ActivityType, TaskQueue string
}

// DataKey limits how much one data key seals.
type DataKey struct {
	// MaxPayloads is 1 to 1,000,000; by default 1.
	MaxPayloads int
	// MaxAge is 1s to 1h; by default 5m.
	MaxAge time.Duration
	// MaxBytes is 1 byte to 64 GiB of plaintext; by default 64 GiB.
	MaxBytes int64
	// SealGrace is how much longer than MaxAge a data key seals while its KMS is unavailable: 0 to 1h; by default 15m.
	SealGrace time.Duration
}

// Facts are what is known about a payload where it is sealed. An empty string means unknown, which is common: see "Which
// facts are known where" in docs/policy.md.
type Facts struct {
	Namespace, WorkflowType, ActivityType, TaskQueue, WorkflowID string
}

// compiledRule is a Rule made ready for matching.
type compiledRule struct {
	namespace, workflowType, activityType, taskQueue glob
	accept                                           []glob
}

// defaultKeyName is the only key of Default's policy.
const defaultKeyName = "default"

// Default returns the policy that holds without a file: one key, named "default", seals every namespace, with a fresh data
// key for each payload. Default does not check keyURI; the backend does when it opens the key.
func Default(keyURI string) *Policy {
	return compile(
		map[string]Key{defaultKeyName: Key{Name: defaultKeyName, URI: keyURI, Resilience: defaultResilience()}.compiled()},
		[]Rule{{Match: Match{Namespace: "*"}, Keys: []string{defaultKeyName}, DataKey: defaultDataKey()}},
	)
}

func compile(keys map[string]Key, rules []Rule) *Policy {
	p := &Policy{Keys: keys, Seal: rules, compiled: make([]compiledRule, len(rules))}
	for i := range rules {
		p.compiled[i] = compileRule(rules[i])
	}
	p.namedBy = index(keys, rules, p.compiled)
	return p
}

func compileRule(r Rule) compiledRule {
	c := compiledRule{
		namespace:    compileGlob(r.Match.Namespace),
		workflowType: compileGlob(r.Match.WorkflowType),
		activityType: compileGlob(r.Match.ActivityType),
		taskQueue:    compileGlob(r.Match.TaskQueue),
	}
	for _, pattern := range r.Accept {
		c.accept = append(c.accept, compileGlob(pattern))
	}
	return c
}

// accepts reports whether the rule's accept lists the namespace sealed.
func (c *compiledRule) accepts(sealed string) bool {
	return slices.ContainsFunc(c.accept, func(g glob) bool { return g.match(sealed) })
}

func (c *compiledRule) match(f *Facts) bool {
	return c.namespace.match(f.Namespace) &&
		c.workflowType.match(f.WorkflowType) &&
		c.activityType.match(f.ActivityType) &&
		c.taskQueue.match(f.TaskQueue)
}

// wholeNamespace reports whether c matches by namespace alone.
func (c *compiledRule) wholeNamespace() bool {
	return c.workflowType.kind == globAny && c.activityType.kind == globAny && c.taskQueue.kind == globAny
}

// covers reports whether c matches all that d matches. It compares pattern by pattern, so true is certain, false is not.
func (c *compiledRule) covers(d *compiledRule) bool {
	return c.namespace.covers(d.namespace) &&
		c.workflowType.covers(d.workflowType) &&
		c.activityType.covers(d.activityType) &&
		c.taskQueue.covers(d.taskQueue)
}

// SealRule returns the first rule that matches f. If none does, it returns a *NoRuleError, and the payload must not be
// sent. The rule belongs to the policy: do not modify it. SealRule allocates only if it fails.
func (p *Policy) SealRule(f Facts) (*Rule, error) {
	for i := range p.compiled {
		if p.compiled[i].match(&f) {
			return &p.Seal[i], nil
		}
	}
	return nil, &NoRuleError{Facts: f}
}

// Accepts reports whether a reader in namespace known may open an envelope of namespace sealed: they are equal, or a rule
// that matches known (by namespace alone, whether or not it comes first) lists sealed in its accept. Where one of the two
// is unknown, accept lists do not count and the answer is no.
func (p *Policy) Accepts(known, sealed string) bool {
	if known == sealed {
		return true
	}
	for i := range p.matching(known) {
		if sealed != "" && p.compiled[i].accepts(sealed) {
			return true
		}
	}
	return false
}

// matching yields the indexes of the rules that match a namespace by namespace alone; none if it is unknown.
func (p *Policy) matching(namespace string) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range p.compiled {
			if namespace != "" && p.compiled[i].namespace.match(namespace) && !yield(i) {
				return
			}
		}
	}
}

// RequiresSealed reports whether plaintext is refused in a namespace: whether a rule that can apply there says
// requireSealed. A rule can apply if its namespace pattern matches and no rule before it matches by namespace alone. Only
// the namespace counts: the server states the other facts, and could choose ones that lead to a laxer rule. Where the
// namespace is unknown the answer is no. RequiresSealed does not allocate.
func (p *Policy) RequiresSealed(namespace string) bool {
	for i := range p.matching(namespace) {
		if p.Seal[i].RequireSealed || p.compiled[i].wholeNamespace() {
			return p.Seal[i].RequireSealed
		}
	}
	return false
}

// Binds reports whether a reader in a namespace compares a claim: a rule that matches the namespace (by namespace alone,
// whether or not it comes first) lists the claim in its bind. The rule that the facts choose may differ between sealing and
// opening; this answer does not. Where the namespace is unknown, the answer is no.
func (p *Policy) Binds(known, claim string) bool {
	for i := range p.matching(known) {
		if slices.Contains(p.Seal[i].Bind, claim) {
			return true
		}
	}
	return false
}

// KeyNames returns the names of all defined keys, sorted.
func (p *Policy) KeyNames() []string {
	return slices.Sorted(maps.Keys(p.Keys))
}
