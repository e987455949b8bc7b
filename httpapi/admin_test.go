package httpapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxseal/waxseal/kms"
)

func get(t testing.TB, h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9090"+path, nil)
	setHeaders(r, header...)
	return serve(h, r)
}

func TestReadiness(t *testing.T) {
	var objection error
	logger, logged := logTo()
	s := newServer(t, Config{Logger: logger, Ready: func(ctx context.Context) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("Ready may take forever")
		}
		return objection
	}})
	admin := s.AdminHandler()
	expect := func(status int, body string) {
		t.Helper()
		if w := get(t, admin, "/readyz"); w.Code != status || w.Body.String() != body {
			t.Errorf("readyz: %d %q, want %d %q", w.Code, w.Body, status, body)
		}
		if w := get(t, admin, "/livez"); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
			t.Errorf("livez: %d %q", w.Code, w.Body)
		}
	}
	expect(http.StatusServiceUnavailable, "not serving yet\n")
	r := run(t, s)
	waitUntil(t, func() bool { return s.accepting.serving.Load() == 1 })
	expect(http.StatusOK, "ok\n")
	objection = &kms.Error{Class: kms.Unavailable, Op: "probe", KeyID: "hashivault://transit/payments", Err: errors.New("CANARY")}
	expect(http.StatusServiceUnavailable, "not ready; the server's log says why\n")
	expect(http.StatusServiceUnavailable, "not ready; the server's log says why\n")
	objection = nil
	expect(http.StatusOK, "ok\n")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	expect(http.StatusServiceUnavailable, "stopping\n")
	log := logged.String()
	if strings.Count(log, "not ready") != 1 || strings.Count(log, "ready again") != 1 || !strings.Contains(log, "hashivault://transit/payments") || strings.Contains(log, "CANARY") {
		t.Errorf("log:\n%s", log)
	}
}

func TestReadyWithoutCheck(t *testing.T) {
	s := newServer(t, Config{})
	run(t, s)
	waitUntil(t, func() bool { return get(t, s.AdminHandler(), "/readyz").Code == http.StatusOK })
}

func TestAdminRefusesPages(t *testing.T) {
	admin := newServer(t, Config{}).AdminHandler()
	for name, w := range map[string]*httptest.ResponseRecorder{
		"a foreign page":  get(t, admin, "/metrics", "Origin: https://evil.example"),
		"a loopback page": get(t, admin, "/metrics", "Origin: http://localhost:8233"),
	} {
		if w.Code != http.StatusForbidden || w.Body.String() != "not for web pages\n" {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://rebound.evil.example/metrics", nil)
	if w := serve(admin, r); w.Code != http.StatusForbidden {
		t.Errorf("a rebound name: %d", w.Code)
	}
	for path, want := range map[string]int{"/": http.StatusNotFound, "/decode": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound} {
		if w := get(t, admin, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	r = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/metrics", nil)
	if w := serve(admin, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestServeAdmin(t *testing.T) {
	s := newServer(t, Config{})
	r := runOn(t, s, func() (net.Listener, error) { return s.Listen(t.Context(), "127.0.0.1:0") }, s.ServeAdmin)
	res := send(t, http.MethodGet, r.url+"/metrics", "")
	if res.StatusCode != http.StatusOK || !strings.Contains(res.Body, "go_goroutines") || !strings.Contains(res.Body, "waxseal_http_requests_in_flight") {
		t.Errorf("%d %.300s", res.StatusCode, res.Body)
	}
	if res := send(t, http.MethodGet, r.url+"/readyz", ""); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the admin listener alone makes the server ready: %d", res.StatusCode)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newServer(t, Config{Codec: &fakeCodec{openErr: byName}, Metrics: registry})
	lines := func() map[string]bool {
		set := make(map[string]bool)
		for line := range strings.Lines(get(t, s.AdminHandler(), "/metrics").Body.String()) {
			set[strings.TrimSpace(line)] = true
		}
		return set
	}
	for _, want := range []string{
		`waxseal_http_requests_total{code="5xx",route="decode"} 0`, `waxseal_http_undecoded_payloads_total{class="not found"} 0`,
		`waxseal_http_problems_total{problem="host"} 0`, `waxseal_http_requests_in_flight 0`,
	} {
		if !lines()[want] {
			t.Errorf("before any request, there is no line %s", want)
		}
	}
	serve(s, post(t, "/n/encode", strings.NewReader(hiJSON)))
	serve(s, post(t, "/n/decode", strings.NewReader(sealedJSON(t, data("a"), data("corrupt"), data("denied"), data("denied")))))
	serve(s, post(t, "/decode", strings.NewReader(sealedJSON(t, data("unavailable")))))
	serve(s, post(t, "/decode", strings.NewReader("{")))
	serve(s, post(t, "/nowhere", nil, "X-Namespace: "+strings.Repeat("x", 1000)))
	r := post(t, "/decode", nil)
	r.Method = "BREW"
	serve(s, r)
	got := lines()
	for _, want := range []string{
		`waxseal_http_requests_total{code="2xx",route="encode"} 1`, `waxseal_http_requests_total{code="2xx",route="decode"} 1`,
		`waxseal_http_requests_total{code="5xx",route="decode"} 1`, `waxseal_http_requests_total{code="4xx",route="decode"} 2`,
		`waxseal_http_requests_total{code="4xx",route="none"} 1`, `waxseal_http_payloads_total{route="decode"} 5`,
		`waxseal_http_payloads_total{route="encode"} 1`, `waxseal_http_undecoded_payloads_total{class="denied"} 2`,
		`waxseal_http_undecoded_payloads_total{class="corrupt"} 1`, `waxseal_http_undecoded_payloads_total{class="unavailable"} 1`,
		`waxseal_http_problems_total{problem="unavailable"} 1`, `waxseal_http_problems_total{problem="json-end"} 1`,
		`waxseal_http_request_duration_seconds_count{route="decode"} 4`, `waxseal_http_requests_in_flight 0`,
	} {
		if !got[want] {
			t.Errorf("there is no line %s", want)
		}
	}
	t.Run("twice in one registry", func(t *testing.T) {
		_, err := New(Config{Codec: &fakeCodec{}, Metrics: registry})
		var bad *ConfigError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), "Metrics") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("problems have names of their own", func(t *testing.T) {
		seen := make(map[string]bool)
		for why, p := range problemTable[answered+1:] {
			if p.name == "" || p.text == "" || p.hint == "" || p.status < 400 || seen[p.name] {
				t.Errorf("row %d: %+v", why+1, p)
			}
			seen[p.name] = true
		}
		if diff := cmp.Diff(len(kms.Classes()), len(classReasons)); diff != "" {
			t.Errorf("classes (-kms +here)\n%s", diff)
		}
	})
}
