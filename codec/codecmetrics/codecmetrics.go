package codecmetrics

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
)

// durations are the histogram's bounds in seconds: a KMS nearby takes 5 to 50 ms, and by default an attempt has 2 s.
var durations = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10}

// NewRegistry returns a registry with the runtime metrics of Go and of the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// New registers the metrics in registry, and returns the hooks that feed them, for
// codec.Config. Labels name keys as the policy does, so there are only as many as it defines.
// New fails if registry already has metrics of these names.
func New(registry *prometheus.Registry) (codec.Hooks, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	missing := counter("waxseal_missing_recipients_total", "Payloads sealed without a recipient that their rule names, by the key and class of its failure.", "key", "class")
	inGrace := counter("waxseal_sealed_in_grace_total", "Payloads sealed under data keys past their age, by the key that gave no new ones and the class of its failure.", "key", "class")
	calls := counter("waxseal_kms_calls_total", "Attempts to have a KMS wrap or unwrap data keys, by class of failure or ok.", "key", "op", "class")
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "waxseal_kms_call_duration_seconds", Help: "Time that a KMS took for an attempt.", Buckets: durations,
	}, []string{"key", "op"})
	retries := counter("waxseal_kms_retries_total", "Attempts that another one followed.", "key", "op")
	rejected := counter("waxseal_kms_rejected_total", "Attempts that were not made, by reason.", "key", "op", "reason")
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "waxseal_kms_breakers_open", Help: "KMS keys that are left alone because their KMS does not answer.",
	}, []string{"key"})
	lookups := counter("waxseal_cache_lookups_total", "Data keys looked for in the cache, by outcome.", "outcome")
	evictions := counter("waxseal_cache_evictions_total", "Data keys that left the cache, by reason.", "reason")
	for _, c := range []prometheus.Collector{missing, inGrace, calls, seconds, retries, rejected, open, lookups, evictions} {
		if err := registry.Register(c); err != nil {
			return codec.Hooks{}, fmt.Errorf("codecmetrics: register: %w", err)
		}
	}
	for reason := cache.Capacity; reason <= cache.Closed; reason++ {
		evictions.WithLabelValues(reason.String())
	}
	observed := &cacheMetrics{evictions: evictions}
	for l := range observed.lookups {
		observed.lookups[l] = lookups.WithLabelValues(cache.Lookup(l).String())
	}
	return codec.Hooks{
		Cache:            observed,
		MissingRecipient: func(key string, class kms.Class, n int) { missing.WithLabelValues(key, class.String()).Add(float64(n)) },
		SealedInGrace:    func(key string, class kms.Class, n int) { inGrace.WithLabelValues(key, class.String()).Add(float64(n)) },
		KMSCall: func(key, op string, err error, took time.Duration) {
			class := "ok"
			if err != nil {
				class = kms.ClassOf(err).String()
			}
			calls.WithLabelValues(key, op, class).Inc()
			seconds.WithLabelValues(key, op).Observe(took.Seconds())
			open.WithLabelValues(key) // 0 from the first call, so that a dashboard has a line
		},
		KMSRetry:    func(key, op string) { retries.WithLabelValues(key, op).Inc() },
		KMSRejected: func(key, op string, why resilience.Reason) { rejected.WithLabelValues(key, op, why.String()).Inc() },
		Breaker: func(key string, from, to resilience.State) {
			switch {
			case from == resilience.Closed:
				open.WithLabelValues(key).Inc()
			case to == resilience.Closed:
				open.WithLabelValues(key).Dec()
			}
		},
	}, nil
}

// cacheMetrics is a cache.Observer.
type cacheMetrics struct {
	lookups   [cache.Negative + 1]prometheus.Counter // by cache.Lookup
	evictions *prometheus.CounterVec
}

func (m *cacheMetrics) CacheLookup(l cache.Lookup)  { m.lookups[l].Inc() }
func (m *cacheMetrics) CacheEvicted(r cache.Reason) { m.evictions.WithLabelValues(r.String()).Inc() }
