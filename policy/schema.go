package policy

import (
	"fmt"
	"strings"
	"time"
)

// schema declares one mapping of the file: what it is called, the section it belongs to, an example, and its fields in
// the order in which they are read. docs/policy.md has a table for each, and a test compares.
type schema struct {
	what, section, example string
	of                     string // follows the name of a field in messages
	fields                 []field
}

// field declares one field: its name, how its value is read and to which target within which bounds, and its row in
// docs/policy.md.
type field struct {
	name  string
	value value
	doc   string
	// without is what holds without the field, where the value itself does not show it.
	without string
	// missing is the message about a required field that is missing, and advice says what to write.
	missing, advice string
}

// value reads what a field holds into its target, and reports what is wrong with it. what names the field in messages.
type value interface {
	read(r *reader, e entry, what string)
}

// schemas are those of all mappings with their defaults, in the order in which a misplaced field is looked for.
func schemas() []schema {
	k := Key{Resilience: defaultResilience()}
	r := Rule{DataKey: defaultDataKey()}
	return []schema{
		ruleSchema(&r, nil), matchSchema("", &r.Match), dataKeySchema("", &r.DataKey), keySchema("", &k),
		fileSchema(&topLevel{}), resilienceSchema("", &k.Resilience), breakerSchema("", &k.Resilience.Breaker),
	}
}

// topLevel is what stands at the top level.
type topLevel struct {
	keys, seal entry
	resilience Resilience
}

func fileSchema(f *topLevel) schema {
	return schema{what: "the file", section: "the top level", example: "keys and seal, each at the start of a line", fields: []field{
		{name: "version", value: readFunc((*reader).version), doc: fmt.Sprintf("The version of the file format: `%d`", Version), without: "1"},
		{
			name: "keys", value: laterValue{&f.keys}, doc: "The keys by name, at least one; see [keys](#keys)",
			missing: "the file defines no keys", advice: `add keys, such as keys: {main: {uri: "hashivault://transit/main"}}`,
		},
		{
			name: "seal", value: laterValue{&f.seal}, doc: "The list of sealing rules, at least one; see [seal](#seal)",
			missing: "the file has no seal list", advice: `add a seal list, such as seal: [{match: {namespace: "*"}, keys: [main]}]`,
		},
		{name: "resilience", value: resilienceSchema("resilience", &f.resilience), doc: "How KMSs are called; see [resilience](#resilience)", without: "as listed there"},
		{name: "access", value: reservedValue{
			"access rules are not supported by this version of waxseal",
			"take the section out and control access in front of the codec server; a server that ignored it would let everyone in",
		}, doc: "Reserved. A file that has it [is refused](#access)"},
	}}
}

const keyExample = `main: {uri: "hashivault://transit/main"}`

func keySchema(what string, k *Key) schema {
	return schema{what: what, section: "a key", example: `{uri: "hashivault://transit/main"}`, of: " of " + what, fields: []field{
		{
			name: "uri", value: uriValue{&k.URI}, doc: "Where the key is. May hold [`{namespace}`](#a-key-for-each-tenant)",
			missing: what + " has no uri", advice: "add one, such as " + keyExample,
		},
		{name: "resilience", value: resilienceSchema("resilience of "+what, &k.Resilience), doc: "How this key's KMS is called; see [resilience](#resilience)", without: "what the top level says"},
	}}
}

const (
	ruleExample = `- {match: {namespace: "*"}, keys: [main]}`
	keysAdvice  = "name the keys that seal, such as keys: [main]"
)

// RecipientsPrimary is the Rule.Recipients of a rule that seals as soon as its first key wraps, without the keys that cannot.
const RecipientsPrimary = "primary"

// Values of the fields that take one of a list, or several.
var (
	claimNames       = []string{"workflowId", "workflowType", "activityType", "taskQueue"}
	bindNames        = []string{"workflowId", "activityType"}
	compressionNames = []string{"none", "zstd"}
	recipientsNames  = []string{"all", RecipientsPrimary}
	onDeniedNames    = []string{onDeniedHold, onDeniedFail}
)

// Values of onDenied.
const (
	onDeniedHold = "hold"
	onDeniedFail = "fail"
)

func oneOf(names []string) string { return "One of " + strings.Join(names, ", ") }
func anyOf(names []string) string { return "any of " + strings.Join(names, ", ") }

// ruleSchema is the schema of one rule. defined is as for reader.rules.
func ruleSchema(rule *Rule, defined []string) schema {
	what := rule.name()
	return schema{what: what, section: "a rule", example: `{match: {namespace: "*"}, keys: [main]}`, of: " of " + what, fields: []field{
		{
			name: "match", value: matchValue{&rule.Match}, doc: "The payloads that the rule applies to; see [match](#match)",
			missing: what + " has no match", advice: `say what it matches; match: {namespace: "*"} is everything`,
		},
		{
			name: "keys", value: ruleKeysValue{rule, defined},
			doc:     fmt.Sprintf("1 to %d different names from `keys`. Each becomes a recipient of the envelope, in this order, and any one of them opens it", maxRuleKeys),
			missing: what + " has no keys", advice: keysAdvice,
		},
		{
			name: "recipients", value: recipientsValue{rule},
			doc: oneOf(recipientsNames) + ": [which of the keys must wrap](#several-keys-in-a-rule). primary needs at least two keys", without: "all",
		},
		{name: "dataKey", value: dataKeySchema("dataKey of "+what, &rule.DataKey), doc: "How much one data key seals; see [dataKey](#datakey)", without: "a new one for every payload"},
		{
			name: "compression", value: choiceValue{&rule.Compression, "compression", compressionNames},
			doc: oneOf(compressionNames) + ". A payload is compressed only if that makes it smaller. " +
				"The size of compressed data can reveal content: leave it off if an attacker can see sizes and choose a part of a payload", without: "none",
		},
		{
			name: "accept", value: textsValue{&rule.Accept, `accept: ["billing-*"]`, acceptable},
			doc: "Patterns of [other namespaces](#other-namespaces-payloads). Their envelopes may be opened in the namespaces of this rule", without: "none",
		},
		{
			name: "requireSealed", value: boolValue{&rule.RequireSealed},
			doc: "`true` refuses [payloads that are not sealed](#moving-from-plaintext), and missing arguments. `false` passes them through. Only the namespace counts, and all rules that can apply there",
		},
		{
			name: "sealHeaders", value: boolValue{&rule.SealHeaders},
			doc: "`true` seals the header fields that context propagators write. If false, the client plugin refuses requests with such fields. Only rules without other match fields count",
		},
		{
			name: "onDenied", value: choiceValue{&rule.OnDenied, "onDenied", onDeniedNames},
			doc: oneOf(onDeniedNames) + ": what happens to a workflow while a key is denied, disabled or not found. hold retries its task, and activities wait. " +
				"fail fails it permanently. See [when a KMS refuses](worker.md#when-a-kms-refuses)", without: "hold",
		},
		{
			name: "holdWorkflows", value: holdValue{rule},
			doc: "The former name of `onDenied`: `true` is hold, `false` is fail", without: "as `onDenied` says",
		},
		{
			name: "claims", value: textsValue{&rule.Claims, "claims: [workflowId]", recordable},
			doc: "Facts to record in envelopes besides the namespace: " + anyOf(claimNames) + ". They are authenticated, but readable without a key. See [claims](#claims)", without: "none",
		},
		{
			name: "bind", value: bindValue{rule},
			doc: "Facts to record like `claims`, and to compare when opening: " + anyOf(bindNames) + ". A payload of another workflow or activity is [refused](#what-relocation-can-do). " +
				"Put it on all rules of the namespace", without: "none",
		},
	}}
}

func matchSchema(what string, m *Match) schema {
	return schema{what: what, section: "match", example: `{namespace: "payments-*"}`, fields: []field{
		{name: "namespace", value: patternValue{&m.Namespace}, doc: "A pattern for the Temporal namespace"},
		{name: "workflowType", value: patternValue{&m.WorkflowType}, doc: "A pattern for the workflow type"},
		{name: "activityType", value: patternValue{&m.ActivityType}, doc: "A pattern for the activity type"},
		{name: "taskQueue", value: patternValue{&m.TaskQueue}, doc: "A pattern for the task queue"},
	}}
}

// Each payload's own key is derived with a random 16-byte salt. So maxPayloads and maxBytes limit the damage of one lost
// data key; the limits of AES-GCM (SP 800-38D, 8.3) are far away.
//
// A grace ends no later than unwrapped data keys stop opening in an outage: what is sealed later could not be opened
// before the outage ends.
func dataKeySchema(what string, d *DataKey) schema {
	return schema{what: what, section: "dataKey", example: `{maxPayloads: 1000, maxAge: 5m}`, fields: []field{
		{name: "maxPayloads", value: numberValue{&d.MaxPayloads, 1, 1_000_000}, doc: "The number of payloads"},
		{name: "maxAge", value: durationValue{&d.MaxAge, time.Second, time.Hour}, doc: "The time, as a number with a unit: `90s`, `5m`, `1h`"},
		{name: "maxBytes", value: sizeValue{&d.MaxBytes, 64 * gib}, doc: "The bytes of payloads, as a whole number or with `KiB`, `MiB` or `GiB`"},
		{name: "sealGrace", value: durationValue{&d.SealGrace, 0, time.Hour}, doc: "How much longer than `maxAge` it seals while the KMS is unavailable; see [below](#sealing-through-an-outage)"},
	}}
}

// defaultDataKey wraps a fresh data key for every payload. Its grace is longer than most outages of a KMS.
func defaultDataKey() DataKey {
	return DataKey{MaxPayloads: 1, MaxAge: 5 * time.Minute, MaxBytes: 64 * gib, SealGrace: 15 * time.Minute}
}

// The bounds keep each number useful: 50ms is less than a round trip across an ocean, 10s is more than any caller waits, and
// 1000 connections are more than a KMS likes from one process.
func resilienceSchema(what string, x *Resilience) schema {
	return schema{what: what, section: "resilience", example: `{timeout: 2s, attempts: 3}`, fields: []field{
		{name: "timeout", value: durationValue{&x.Timeout, 50 * time.Millisecond, 10 * time.Second}, doc: "How long one attempt may take"},
		{
			name: "attempts", value: numberValue{&x.Attempts, 1, 10},
			doc: "How often a call is tried in all, while the KMS is unavailable or throttles and the caller still waits",
		},
		{
			name: "retryBudget", value: percentValue{&x.RetryBudget, 1, 100},
			doc: "Retries as a share of the calls of all callers, with a percent sign. It keeps a KMS in trouble from getting three times its load",
		},
		{name: "concurrency", value: numberValue{&x.Concurrency, 1, 1000}, doc: "How many attempts may run at a time"},
		{name: "queue", value: numberValue{&x.Queue, 1, 10_000}, doc: "How many more may wait; beyond that, calls fail at once as throttled"},
		{name: "breaker", value: breakerSchema("breaker of "+what, &x.Breaker), doc: "When calls to a KMS that does not answer stop; see below"},
	}}
}

// An open breaker must stay open long enough to be one, and must notice within minutes that the KMS is back.
func breakerSchema(what string, b *Breaker) schema {
	return schema{what: what, section: "breaker", example: `{failures: 5, openFor: 5s}`, fields: []field{
		{name: "failures", value: numberValue{&b.Failures, 1, 1000}, doc: "How many failed attempts in a row open it"},
		{name: "openFor", value: durationValue{&b.OpenFor, 100 * time.Millisecond, 5 * time.Minute}, doc: "How long it stays open"},
	}}
}

// defaultResilience returns the defaults. A healthy KMS answers in 5 to 50 ms, and a workflow task has 10 s in all. One call
// in ten may be a retry, so that a KMS in trouble does not get a multiple of its load.
func defaultResilience() Resilience {
	return Resilience{
		Timeout: 2 * time.Second, Attempts: 3, RetryBudget: 0.10, Concurrency: 32, Queue: 64,
		Breaker: Breaker{Failures: 5, OpenFor: 5 * time.Second},
	}
}
