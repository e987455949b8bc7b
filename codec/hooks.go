package codec

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
)

// Hooks observe what a Codec does, for metrics. Any of them may be nil. They are called in the
// goroutines of callers, many at once, and must not block. key is a key's name in the policy,
// so there are only as many as it defines: keys made from one {namespace} template share
// theirs. No argument holds a secret; kms.ClassOf returns the class of an error.
type Hooks struct {
	// Cache observes the data-key cache.
	Cache cache.Observer
	// MissingRecipient: n payloads were sealed without a recipient that their rule names,
	// because key failed with class. Only with recipients: primary.
	MissingRecipient func(key string, class kms.Class, n int)
	// SealedInGrace: n payloads were sealed under data keys past their maxAge, within
	// sealGrace, because the KMS of key failed with class to wrap new ones.
	SealedInGrace func(key string, class kms.Class, n int)
	// Refused: a worker could not seal or open a payload. held says that a workflow task
	// waits, and is retried.
	Refused func(class kms.Class, held bool)
	// KMSCall: a call to the KMS for op ("wrap", "unwrap") ended after took. err is its error,
	// nil if it succeeded.
	KMSCall func(key, op string, err error, took time.Duration)
	// KMSRetry: the KMS is about to be called again.
	KMSRetry func(key, op string)
	// KMSRejected: the KMS was not called.
	KMSRejected func(key, op string, why resilience.Reason)
	// Breaker: the breaker of a key changes its state. A key that is closed returns to
	// resilience.Closed.
	Breaker func(key string, from, to resilience.State)
}

// watchers are the hooks of the configuration, and the hooks that report to the client that the
// Codec is plugged into.
type watchers struct {
	config Hooks
	client atomic.Pointer[Hooks]
}

var _ keyset.Observer = (*watchers)(nil)

func (w *watchers) each(call func(*Hooks)) {
	call(&w.config)
	if h := w.client.Load(); h != nil {
		call(h)
	}
}

// CacheLookup and CacheEvicted make watchers the cache.Observer of the data-key cache.
func (w *watchers) CacheLookup(l cache.Lookup) {
	w.each(func(h *Hooks) {
		if h.Cache != nil {
			h.Cache.CacheLookup(l)
		}
	})
}

func (w *watchers) CacheEvicted(r cache.Reason) {
	w.each(func(h *Hooks) {
		if h.Cache != nil {
			h.Cache.CacheEvicted(r)
		}
	})
}

func (w *watchers) missingRecipient(key string, class kms.Class, n int) {
	w.each(func(h *Hooks) {
		if h.MissingRecipient != nil {
			h.MissingRecipient(key, class, n)
		}
	})
}

func (w *watchers) sealedInGrace(key string, class kms.Class, n int) {
	w.each(func(h *Hooks) {
		if h.SealedInGrace != nil {
			h.SealedInGrace(key, class, n)
		}
	})
}

// note logs and counts that a worker could not seal or open a payload because of err.
func (c *Codec) note(err error, held bool) {
	c.notices.Write(err, held)
	c.watchers.each(func(h *Hooks) {
		if h.Refused != nil {
			h.Refused(kms.ClassOf(err), held)
		}
	})
}

// KMSCall implements keyset.Observer.
func (w *watchers) KMSCall(key, op string, err error, took time.Duration) {
	w.each(func(h *Hooks) {
		if h.KMSCall != nil {
			h.KMSCall(key, op, err, took)
		}
	})
}

// KMSRetry implements keyset.Observer.
func (w *watchers) KMSRetry(key, op string) {
	w.each(func(h *Hooks) {
		if h.KMSRetry != nil {
			h.KMSRetry(key, op)
		}
	})
}

// KMSRejected implements keyset.Observer.
func (w *watchers) KMSRejected(key, op string, why resilience.Reason) {
	w.each(func(h *Hooks) {
		if h.KMSRejected != nil {
			h.KMSRejected(key, op, why)
		}
	})
}

// Breaker implements keyset.Observer.
func (w *watchers) Breaker(key string, from, to resilience.State) {
	w.each(func(h *Hooks) {
		if h.Breaker != nil {
			h.Breaker(key, from, to)
		}
	})
}

// The metrics that a plugin reports to the client's MetricsHandler.
// docs/worker.md lists them, and a test compares.
const (
	metricMissingRecipients = "waxseal_missing_recipients"
	metricSealedInGrace     = "waxseal_sealed_in_grace"
	metricRefused           = "waxseal_refused"
	metricKMSCalls          = "waxseal_kms_calls"
	metricKMSLatency        = "waxseal_kms_latency"
	metricKMSRetries        = "waxseal_kms_retries"
	metricKMSRejected       = "waxseal_kms_rejected"
	metricBreakerOpened     = "waxseal_kms_breaker_opened"
	metricCacheLookups      = "waxseal_cache_lookups"
	metricCacheEvictions    = "waxseal_cache_evictions"
)

// classOK is the class of a call that succeeded.
const classOK = "ok"

// classOf is the class of an error as a tag.
func classOf(err error) string {
	if err == nil {
		return classOK
	}
	return kms.ClassOf(err).String()
}

// reportTo makes the metrics of the Codec go to handler too, unless they already go to the
// handler of another client: the metrics are those of the process, and would be counted twice.
func (c *Codec) reportTo(handler client.MetricsHandler) {
	if handler == nil || handler == client.MetricsNopHandler || c.watchers.client.Load() != nil {
		return
	}
	c.watchers.client.CompareAndSwap(nil, metricsHooks(handler))
}

// tags are the tags of one counter: at most three pairs.
type tags [3]struct{ name, value string }

// meters are the counters of a handler by their tags. There are as many as there
// are keys in the policy times operations and classes.
type meters struct {
	handler client.MetricsHandler
	lookups [cache.Negative + 1]client.MetricsCounter // by cache.Lookup

	mu       sync.Mutex
	counters map[meter]client.MetricsCounter
	timers   map[meter]client.MetricsTimer
}

type meter struct {
	name string
	tags tags
}

func (m *meters) tagged(of meter) client.MetricsHandler {
	pairs := make(map[string]string, len(of.tags))
	for _, t := range of.tags {
		if t.name != "" {
			pairs[t.name] = t.value
		}
	}
	return m.handler.WithTags(pairs)
}

func (m *meters) count(name string, n int, t tags) {
	of := meter{name, t}
	m.mu.Lock()
	c, ok := m.counters[of]
	if !ok {
		c = m.tagged(of).Counter(name)
		m.counters[of] = c
	}
	m.mu.Unlock()
	c.Inc(int64(n))
}

func (m *meters) record(name string, took time.Duration, t tags) {
	of := meter{name, t}
	m.mu.Lock()
	timer, ok := m.timers[of]
	if !ok {
		timer = m.tagged(of).Timer(name)
		m.timers[of] = timer
	}
	m.mu.Unlock()
	timer.Record(took)
}

// CacheLookup implements cache.Observer.
func (m *meters) CacheLookup(l cache.Lookup) { m.lookups[l].Inc(1) }

// CacheEvicted implements cache.Observer.
func (m *meters) CacheEvicted(r cache.Reason) {
	m.count(metricCacheEvictions, 1, tags{{"reason", r.String()}})
}

// metricsHooks returns hooks that report to handler.
func metricsHooks(handler client.MetricsHandler) *Hooks {
	m := &meters{handler: handler, counters: make(map[meter]client.MetricsCounter), timers: make(map[meter]client.MetricsTimer)}
	for l := range m.lookups {
		m.lookups[l] = m.tagged(meter{tags: tags{{"outcome", cache.Lookup(l).String()}}}).Counter(metricCacheLookups)
	}
	return &Hooks{
		Cache: m,
		MissingRecipient: func(key string, class kms.Class, n int) {
			m.count(metricMissingRecipients, n, tags{{"key", key}, {"class", class.String()}})
		},
		SealedInGrace: func(key string, class kms.Class, n int) {
			m.count(metricSealedInGrace, n, tags{{"key", key}, {"class", class.String()}})
		},
		Refused: func(class kms.Class, held bool) {
			m.count(metricRefused, 1, tags{{"class", class.String()}, {"held", strconv.FormatBool(held)}})
		},
		KMSCall: func(key, op string, err error, took time.Duration) {
			m.count(metricKMSCalls, 1, tags{{"key", key}, {"op", op}, {"class", classOf(err)}})
			m.record(metricKMSLatency, took, tags{{"key", key}, {"op", op}})
		},
		KMSRetry: func(key, op string) { m.count(metricKMSRetries, 1, tags{{"key", key}, {"op", op}}) },
		KMSRejected: func(key, op string, why resilience.Reason) {
			m.count(metricKMSRejected, 1, tags{{"key", key}, {"op", op}, {"reason", why.String()}})
		},
		Breaker: func(key string, from, to resilience.State) {
			if from == resilience.Closed && to == resilience.Open {
				m.count(metricBreakerOpened, 1, tags{{"key", key}})
			}
		},
	}
}
