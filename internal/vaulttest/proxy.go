package vaulttest

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// Proxy starts an HTTP server on loopback that passes requests on to s. meddle, if
// not nil, sees each first, with its body read, and returns true if it has answered
// it. The proxy ends with t.
func (s *Server) Proxy(t testing.TB, meddle func(w http.ResponseWriter, r *http.Request) (answered bool)) *httptest.Server {
	t.Helper()
	target, err := url.Parse(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // callers that give up and servers that stop are part of tests
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// All of it first: were Vault to answer before its end was read, net/http would
		// close the body and cut the answer short (golang.org/issue/40747).
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller gave up
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if meddle == nil || !meddle(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(proxy.Close)
	return proxy
}
