package httpapi

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxseal/waxseal/codec/codecmetrics"
	"github.com/waxseal/waxseal/kms"
)

// durations are the histogram's bounds in seconds: from the cache to a slow KMS.
var durations = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20}

// metrics counts what the server does. No label takes a value from a caller: all are known, and zero, at the start.
type metrics struct {
	registry  *prometheus.Registry
	inFlight  prometheus.Gauge
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	payloads  *prometheus.CounterVec
	failed    *prometheus.CounterVec
	undecodes *prometheus.CounterVec
}

// newMetrics registers the metrics in registry, or in a new one with Go's runtime metrics.
func newMetrics(registry *prometheus.Registry) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: registry,
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waxseal_http_requests_in_flight", Help: "Requests in progress."}),
		requests: counter("waxseal_http_requests_total", "Requests by route and class of status.", "route", "code"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "waxseal_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer.", Buckets: durations,
		}, []string{"route"}),
		payloads:  counter("waxseal_http_payloads_total", "Payloads in requests that could be read.", "route"),
		failed:    counter("waxseal_http_problems_total", "Requests that were not answered with payloads, by problem.", "problem"),
		undecodes: counter("waxseal_http_undecoded_payloads_total", "Sealed payloads that could not be opened, by class of failure.", "class"),
	}
	if registry == nil {
		m.registry = codecmetrics.NewRegistry()
	}
	for _, c := range []prometheus.Collector{m.inFlight, m.requests, m.seconds, m.payloads, m.failed, m.undecodes} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	for _, r := range []route{routeEncode, routeDecode} {
		m.payloads.WithLabelValues(r.String())
		for _, code := range []string{"2xx", "4xx", "5xx"} {
			m.requests.WithLabelValues(r.String(), code)
		}
	}
	for _, p := range problemTable[answered+1:] {
		m.failed.WithLabelValues(p.name)
	}
	for _, class := range kms.Classes() {
		m.undecodes.WithLabelValues(class.String())
	}
	return m, nil
}

// record counts a request at its end.
func (m *metrics) record(x *exchange, took time.Duration) {
	m.inFlight.Dec()
	m.requests.WithLabelValues(x.route.String(), strconv.Itoa(x.status/100)+"xx").Inc()
	m.seconds.WithLabelValues(x.route.String()).Observe(took.Seconds())
	if x.payloads > 0 {
		m.payloads.WithLabelValues(x.route.String()).Add(float64(x.payloads))
	}
	if x.why != answered {
		m.failed.WithLabelValues(problemTable[x.why].name).Inc()
	}
}

// undecoded counts a payload that could not be opened.
func (m *metrics) undecoded(class kms.Class) { m.undecodes.WithLabelValues(class.String()).Inc() }
