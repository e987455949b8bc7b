package httpapi

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// FuzzBody: a body is answered with its own payloads if protojson can read it,
// and with one of the 4xx otherwise. (payloadjson's own fuzz target knows the
// one spelling of numbers that is refused here and not there.)
func FuzzBody(f *testing.F) {
	for _, seed := range []string{hiJSON, `{}`, `{"payloads":[]}`, `{"payloads":[null]}`, `{"payloads":[{"external_payloads":[{"sizeBytes":"1"}]}]}`, `{`, "\xff", `{"payloads":[{"data":"-_8"}]}`} {
		f.Add([]byte(seed))
	}
	s := newServer(f, Config{Codec: &fakeCodec{encode: func(_ context.Context, in []*commonpb.Payload) ([]*commonpb.Payload, error) { return in, nil }}})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := serve(s, post(t, "/n/encode", bytes.NewReader(body)))
		var want, got commonpb.Payloads
		err := protojson.Unmarshal(body, &want)
		switch {
		case w.Code == http.StatusOK:
			if err != nil {
				t.Fatalf("accepted, but protojson says %v", err)
			}
			if err := protojson.Unmarshal(w.Body.Bytes(), &got); err != nil || !proto.Equal(&want, &got) {
				t.Errorf("answered %s, %v", w.Body, err)
			}
		case w.Code < 400 || w.Code >= 500:
			t.Errorf("status %d", w.Code)
		case err == nil && w.Code == http.StatusBadRequest && !bytes.ContainsAny(body, "eE"):
			t.Errorf("refused: %s", w.Body)
		}
	})
}

// FuzzRequest: whatever a request's line and headers are, the server neither
// panics nor fails, and the codec is reached only under a loopback host name, by
// no page but loopback's, and with a namespace that is fit to be logged.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/decode", "strict=true", "127.0.0.1:8081", "http://localhost:8233", "payments", "application/json")
	f.Add("OPTIONS", "//encode", "a;b", "evil.example", "null", "undefined", "text/plain")
	f.Add("GET", "/", "", "[::1]", "", "a\nb", "application/json; charset=utf-8")
	f.Fuzz(func(t *testing.T, method, path, query, host, origin, namespace, contentType string) {
		logger, logged := logTo()
		fake := &fakeCodec{}
		s := newServer(t, Config{Codec: fake, Logger: logger, DefaultNamespace: "default"})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/", strings.NewReader(hiJSON))
		r.Method, r.Host, r.URL = method, host, &url.URL{Path: path, RawPath: path, RawQuery: query}
		r.Header = http.Header{"Content-Type": {contentType}, headerNamespace: {namespace}}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := serve(s, r)
		if w.Code >= 500 {
			t.Errorf("status %d %s", w.Code, w.Body)
		}
		if n := strings.Count(logged.String(), "\n"); n != 1 {
			t.Errorf("%d lines of log:\n%s", n, logged)
		}
		for _, c := range fake.seen() {
			if !loopbackHost(hostName(host)) || method != http.MethodPost || (c.Namespace != "" && !validNamespace(c.Namespace)) {
				t.Errorf("codec call %v for %s at %s", c, method, host)
			}
			if u, err := url.Parse(origin); origin != "" && (err != nil || !loopbackHost(u.Hostname())) {
				t.Errorf("codec call %v for a page of %s", c, origin)
			}
		}
	})
}
