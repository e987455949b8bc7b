package codecmetrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/codec/codecmetrics"
	"github.com/waxseal/waxseal/httpapi"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// page is where the metrics are documented.
const page = "../../docs/codec-server.md"

const hiJSON = `{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhpIg=="}]}`

const twoKeys = `
keys:
  near: {uri: "fake://near"}
  far: {uri: "fake://far"}
seal:
  - {match: {namespace: "*"}, keys: [near, far], recipients: primary}
resilience: {attempts: 2, breaker: {failures: 2, openFor: 1m}}
`

func watchedCodec(t *testing.T, registry *prometheus.Registry, backend kms.Backend) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(twoKeys))
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := codecmetrics.New(registry)
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend), Hooks: hooks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newServer(t *testing.T, config httpapi.Config) *httpapi.Server {
	t.Helper()
	s, err := httpapi.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// call returns the body of h's answer, which must be a success.
func call(t *testing.T, h http.Handler, method, path, body string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8081"+path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

// What the codec does is among the metrics that the admin listener shows.
func TestMetrics(t *testing.T) {
	registry, backend := codecmetrics.NewRegistry(), kmstest.NewBackend()
	c := watchedCodec(t, registry, backend)
	s := newServer(t, httpapi.Config{Codec: c, Metrics: registry})
	lines := func() []string { return strings.Split(call(t, s.AdminHandler(), http.MethodGet, "/metrics", ""), "\n") }
	want := func(when string, all ...string) {
		t.Helper()
		got := lines()
		for _, line := range all {
			if !slices.Contains(got, line) {
				t.Errorf("%s, there is no line %s", when, line)
			}
		}
	}
	want("at the start", `waxseal_cache_lookups_total{outcome="hit"} 0`, `waxseal_cache_evictions_total{reason="refused"} 0`)

	backend.Fake("far").Always(kmstest.Fail(kms.Unavailable))
	sealed := call(t, s, http.MethodPost, "/payments/encode", hiJSON)
	call(t, s, http.MethodPost, "/payments/decode", sealed)
	call(t, s, http.MethodPost, "/other/encode", hiJSON)
	want("with a KMS that is out",
		`waxseal_missing_recipients_total{class="unavailable",key="far"} 2`,
		`waxseal_kms_calls_total{class="ok",key="near",op="wrap"} 2`, `waxseal_kms_calls_total{class="unavailable",key="far",op="wrap"} 2`,
		`waxseal_kms_call_duration_seconds_count{key="far",op="wrap"} 2`, `waxseal_kms_retries_total{key="far",op="wrap"} 1`,
		`waxseal_kms_rejected_total{key="far",op="wrap",reason="breaker open"} 1`,
		`waxseal_kms_breakers_open{key="far"} 1`, `waxseal_kms_breakers_open{key="near"} 0`,
		`waxseal_cache_lookups_total{outcome="hit"} 1`)
	c.Close()
	want("after it was closed", `waxseal_kms_breakers_open{key="far"} 0`, `waxseal_cache_evictions_total{reason="closed"} 2`)
	for _, line := range lines() {
		if strings.Contains(line, "fake:") || strings.Contains(line, "payments") {
			t.Errorf("holds more than the key's name: %s", line)
		}
	}
	if _, err := codecmetrics.New(registry); err == nil {
		t.Error("registered twice")
	}
}

// The page names every metric of the codec, and its labels.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	registry, backend := prometheus.NewRegistry(), kmstest.NewBackend()
	c := watchedCodec(t, registry, backend)
	backend.Fake("far").Always(kmstest.Fail(kms.Unavailable))
	s := newServer(t, httpapi.Config{Codec: c})
	for _, namespace := range []string{"a", "b"} {
		call(t, s, http.MethodPost, "/"+namespace+"/encode", hiJSON)
	}
	// An outage in the middle of a data key's life takes longer than a test.
	other := prometheus.NewRegistry()
	hooks, err := codecmetrics.New(other)
	if err != nil {
		t.Fatal(err)
	}
	hooks.SealedInGrace("far", kms.Throttled, 2)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	more, err := other.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range more {
		if f.GetName() == "waxseal_sealed_in_grace_total" {
			if n := f.GetMetric()[0].GetCounter().GetValue(); n != 2 {
				t.Errorf("%s is %v", f.GetName(), n)
			}
			families = append(families, f)
		}
	}
	if len(families) != 9 {
		t.Errorf("%d metrics", len(families))
	}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		var documented []string
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(line, "|")
			if len(cells) > 3 && strings.TrimSpace(cells[1]) == "`"+f.GetName()+"`" {
				for _, l := range labels {
					if strings.Contains(cells[2], l) {
						documented = append(documented, l)
					}
				}
			}
		}
		if fmt.Sprint(documented) != fmt.Sprint(labels) {
			t.Errorf("%s gives %s the labels %v, want %v", page, f.GetName(), documented, labels)
		}
	}
}
