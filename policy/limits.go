package policy

import "time"

// Limits on a policy file. They are generous for what people write and small
// enough that the most expensive file there is costs seconds, not minutes, and
// no more than some 100 MiB.
const (
	// MaxFileSize is the largest policy file in bytes.
	MaxFileSize = 128 << 10
	// MaxKeys is how many keys a file may define.
	MaxKeys = 1000
	// MaxRules is how many rules the seal list may hold. Choosing a rule looks
	// at them in order, a few nanoseconds each.
	MaxRules = 1000
	// MaxRuleKeys is how many keys one rule may name: the envelope format takes
	// as many recipients.
	MaxRuleKeys = 8
	// MaxKeyName is the longest key name in bytes.
	MaxKeyName = 64
	// MaxURI is the longest key URI in bytes, before and after {namespace} is
	// filled in; a recorded key ID may be as long.
	MaxURI = 1024
	// MaxPattern is the longest pattern in bytes. It bounds the time of one
	// match: at most this many steps for each byte of the fact.
	MaxPattern = 255

	// maxTokens bounds what the YAML parser is given: its time grows with the
	// square of the number of entries in one mapping.
	maxTokens = 32 << 10
	// maxDepth bounds how deep lists and mappings nest; a policy needs 5.
	maxDepth = 16
)

// Limits and defaults of a rule's dataKey: how much one data key may seal.
const (
	// DefaultMaxPayloads wraps a fresh data key for every payload.
	DefaultMaxPayloads = 1
	// MaxMaxPayloads is the most payloads one data key may seal. Each payload's
	// own key is derived with a random 16-byte salt, so the number is about the
	// damage of one lost data key, not about AES-GCM's limits (SP 800-38D, 8.3).
	MaxMaxPayloads = 1_000_000

	// DefaultMaxAge is how long a data key seals when the file does not say.
	DefaultMaxAge = 5 * time.Minute
	// MinMaxAge keeps a shared data key useful at all.
	MinMaxAge = time.Second
	// MaxMaxAge is the longest a data key may seal.
	MaxMaxAge = time.Hour

	// DefaultMaxBytes is how many bytes a data key seals when the file does not
	// say: as many as it may.
	DefaultMaxBytes = MaxMaxBytes
	// MaxMaxBytes is the most bytes of plaintext one data key may seal: 64 GiB.
	MaxMaxBytes = int64(64) << 30

	// DefaultSealGrace is how long data keys in hand seal past their age in an outage
	// when the file does not say: longer than most outages of a KMS.
	DefaultSealGrace = 15 * time.Minute
	// MaxSealGrace is as much as MaxMaxAge, and as long as unwrapped data keys serve in
	// an outage to open: what is sealed later could not be opened before its end.
	MaxSealGrace = time.Hour
)

// Limits and defaults of resilience: how a KMS is called. The defaults are those
// of package kms/resilience, and a test of package codec compares.
const (
	// DefaultTimeout bounds one attempt: a healthy KMS answers in 5 to 50 ms, and a
	// workflow task has 10 s in all.
	DefaultTimeout = 2 * time.Second
	// MinTimeout is shorter than a round trip across an ocean.
	MinTimeout = 50 * time.Millisecond
	// MaxTimeout is more than any caller waits; package codec gives KMSs half as much
	// again for a call with all its attempts.
	MaxTimeout = 10 * time.Second

	// DefaultAttempts is the first and two retries.
	DefaultAttempts = 3
	// MaxAttempts is more than the time that a caller has allows for.
	MaxAttempts = 10

	// DefaultRetryBudget lets one call in ten be a retry, so that a KMS in trouble
	// does not get a multiple of its load.
	DefaultRetryBudget = 0.10

	// DefaultConcurrency is how many calls run against one KEK at a time.
	DefaultConcurrency = 32
	// MaxConcurrency is more connections than a KMS likes from one process.
	MaxConcurrency = 1000
	// DefaultQueue is how many more wait for their turn.
	DefaultQueue = 64
	// MaxQueue bounds what waits in memory.
	MaxQueue = 10_000

	// DefaultBreakerFailures is how many failures in a row open the breaker.
	DefaultBreakerFailures = 5
	// MaxBreakerFailures is as good as no breaker.
	MaxBreakerFailures = 1000
	// DefaultBreakerOpenFor is how long it stays open before a call may try.
	DefaultBreakerOpenFor = 5 * time.Second
	// MinBreakerOpenFor keeps an open breaker from being none.
	MinBreakerOpenFor = 100 * time.Millisecond
	// MaxBreakerOpenFor bounds how long a KMS that is back is not noticed.
	MaxBreakerOpenFor = 5 * time.Minute
)
