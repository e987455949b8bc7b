package policy

// MaxFileSize is the largest policy file in bytes.
const MaxFileSize = 128 << 10

// Limits on a policy file. With them the most expensive file costs seconds, not minutes, and some 100 MiB at most.
const (
	maxKeys = 1000
	// maxRules bounds the time to choose a rule: the rules are compared in order, a few nanoseconds each.
	maxRules = 1000
	// maxRuleKeys is how many recipients the envelope format takes.
	maxRuleKeys = 8
	maxKeyName  = 64
	// maxURI applies before and after {namespace} is filled in; a recorded key ID may be as long.
	maxURI = 1024
	// maxPattern bounds the time of one match: at most this many steps for each byte of the fact.
	maxPattern = 255
	// maxNamespace is the longest namespace that an envelope can hold.
	maxNamespace = 255

	// maxTokens bounds what the YAML parser is given: its time grows with the square of the number of entries in one
	// mapping.
	maxTokens = 32 << 10
	// maxDepth bounds how deep lists and mappings nest; a policy needs 5.
	maxDepth = 16
)
