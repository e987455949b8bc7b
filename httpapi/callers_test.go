package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answer is a response and its body.
type answer struct {
	StatusCode int
	Header     http.Header
	Body       string
}

// send makes a real round trip.
func send(t testing.TB, method, url, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	setHeaders(r, headers...)
	return do(t, r)
}

func do(t testing.TB, r *http.Request) answer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

func TestOrigins(t *testing.T) {
	listed := Config{AllowedOrigins: []string{"https://temporal.example.com", "http://127.0.0.1:8233"}}
	for _, tc := range []struct {
		name   string
		config Config
		origin string
		want   bool
	}{
		{"loopback by name", Config{}, "http://localhost:8233", true},
		{"loopback by name, no port", Config{}, "http://localhost", true},
		{"loopback by name, https", Config{}, "https://localhost:9000", true},
		{"loopback by address", Config{}, "http://127.0.0.1:8080", true},
		{"another loopback address", Config{}, "http://127.8.9.10:1", true},
		{"loopback in IPv6", Config{}, "http://[::1]:8233", true},
		{"loopback mapped into IPv6", Config{}, "http://[::ffff:127.0.0.1]:8233", true},
		{"a site", Config{}, "https://evil.example", false},
		{"a site that begins like loopback", Config{}, "http://localhost.evil.example", false},
		{"a site that begins like a loopback address", Config{}, "http://127.0.0.1.evil.example", false},
		{"a site that ends like loopback", Config{}, "http://evil-localhost", false},
		{"a name under localhost", Config{}, "http://evil.localhost", false},
		{"a user before a site", Config{}, "http://localhost@evil.example", false},
		{"a user before loopback", Config{}, "http://evil@localhost", false},
		{"a private address", Config{}, "http://192.168.1.1", false},
		{"the unspecified address", Config{}, "http://0.0.0.0:8233", false},
		{"null", Config{}, "null", false},
		{"empty", Config{}, "", false},
		{"a wildcard", Config{}, "*", false},
		{"a path", Config{}, "http://localhost/evil", false},
		{"a fragment", Config{}, "http://localhost#evil", false},
		{"a file", Config{}, "file://", false},
		{"an extension", Config{}, "chrome-extension://localhost", false},
		{"a scheme in capitals", Config{}, "HTTP://localhost", false},
		{"no scheme", Config{}, "localhost:8233", false},
		{"two in one", Config{}, "http://localhost https://evil.example", false},
		{"nonsense", Config{}, "http://[::1", false},
		{"listed", listed, "https://temporal.example.com", true},
		{"listed on loopback", listed, "http://127.0.0.1:8233", true},
		{"loopback, not listed", listed, "http://localhost:8233", false},
		{"listed with another scheme", listed, "http://temporal.example.com", false},
		{"listed with a port", listed, "https://temporal.example.com:8443", false},
		{"listed with a slash", listed, "https://temporal.example.com/", false},
		{"listed in another case", listed, "https://Temporal.example.com", false},
		{"below one that is listed", listed, "https://x.temporal.example.com", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeCodec{}
			tc.config.Codec = fake
			server := httptest.NewServer(newServer(t, tc.config))
			defer server.Close()

			res := send(t, http.MethodPost, server.URL+"/decode", hiJSON, "Content-Type: application/json", "Origin: "+tc.origin)
			preflight := send(t, http.MethodOptions, server.URL+"/decode?preserveStorageRefs=true", "", "Origin: "+tc.origin,
				"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,authorization-extras,content-type,x-namespace")
			if !tc.want {
				for _, res := range []answer{res, preflight} {
					if res.StatusCode != http.StatusForbidden || res.Header.Get("Access-Control-Allow-Origin") != "" {
						t.Errorf("got %d with %v", res.StatusCode, res.Header)
					}
				}
				if calls := fake.seen(); len(calls) > 0 {
					t.Errorf("the codec was called: %v", calls)
				}
				return
			}
			if res.StatusCode != http.StatusOK || res.Body != hiJSON {
				t.Errorf("got %d %s", res.StatusCode, res.Body)
			}
			want := map[string]string{
				"Access-Control-Allow-Origin": tc.origin, "Access-Control-Allow-Credentials": "", "Vary": "Origin",
				"Access-Control-Expose-Headers": "Waxseal-Undecoded, Waxseal-Request-Id, Retry-After",
			}
			if diff := cmp.Diff(want, pick(res.Header, want)); diff != "" {
				t.Errorf("answer (-want +got)\n%s", diff)
			}
			want = map[string]string{
				"Access-Control-Allow-Origin": tc.origin, "Access-Control-Allow-Credentials": "", "Access-Control-Allow-Methods": "POST",
				"Access-Control-Allow-Headers": "authorization,authorization-extras,content-type,x-namespace", "Access-Control-Max-Age": "600",
				"Access-Control-Allow-Private-Network": "",
			}
			if diff := cmp.Diff(want, pick(preflight.Header, want)); diff != "" || preflight.StatusCode != http.StatusNoContent {
				t.Errorf("preflight: %d (-want +got)\n%s", preflight.StatusCode, diff)
			}
		})
	}
}

func pick(h http.Header, names map[string]string) map[string]string {
	out := make(map[string]string)
	for name := range names {
		out[name] = strings.Join(h.Values(name), ", ")
	}
	return out
}

func TestPreflights(t *testing.T) {
	origin := "https://temporal.example.com"
	for _, tc := range []struct {
		name    string
		config  Config
		headers []string
		want    map[string]string
	}{
		{"another method", Config{}, []string{"Access-Control-Request-Method: DELETE"}, map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": ""}},
		{"another header", Config{}, []string{"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: cookie"}, map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Headers": ""}},
		{"credentials", Config{AllowCredentials: true}, []string{"Access-Control-Request-Method: POST"}, map[string]string{"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}},
		{"private network, not allowed", Config{}, []string{"Access-Control-Request-Method: POST", "Access-Control-Request-Private-Network: true"}, map[string]string{"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Private-Network": ""}},
		{"private network, allowed", Config{AllowPrivateNetwork: true}, []string{"Access-Control-Request-Method: POST", "Access-Control-Request-Private-Network: true"}, map[string]string{"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Private-Network": "true"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.config.AllowedOrigins = []string{origin}
			tc.config.Codec = &fakeCodec{}
			server := httptest.NewServer(newServer(t, tc.config))
			defer server.Close()
			res := send(t, http.MethodOptions, server.URL+"/n/decode", "", append(tc.headers, "Origin: "+origin)...)
			if diff := cmp.Diff(tc.want, pick(res.Header, tc.want)); diff != "" || res.StatusCode != http.StatusNoContent {
				t.Errorf("%d (-want +got)\n%s", res.StatusCode, diff)
			}
		})
	}
	t.Run("two origins", func(t *testing.T) {
		r := post(t, "/decode", strings.NewReader(hiJSON), "Origin: http://localhost", "Origin: http://localhost")
		wantProblem(t, serve(newServer(t, Config{}), r), "origin")
	})
	t.Run("no origin", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "http://localhost/decode", nil)
		r.Header.Set("Access-Control-Request-Method", "POST")
		if w := serve(newServer(t, Config{}), r); w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("got %v", w.Header())
		}
	})
}

// A page can send a request without a preflight only if it is "simple", and of
// the simple content types none is ours.
func TestSimpleRequestsAreRefused(t *testing.T) {
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
		fake := &fakeCodec{}
		r := post(t, "/decode", strings.NewReader(hiJSON), "Origin: http://localhost:3000")
		r.Header.Set("Content-Type", contentType)
		w := serve(newServer(t, Config{Codec: fake}), r)
		wantProblem(t, w, "content-type")
		if w.Header().Get("Access-Control-Allow-Origin") == "" {
			t.Error("the page cannot read why it was refused")
		}
		if calls := fake.seen(); len(calls) > 0 {
			t.Errorf("%s: the codec was called: %v", contentType, calls)
		}
	}
}

func TestHosts(t *testing.T) {
	named := Config{AllowedHosts: []string{"codec.internal", "10.1.2.3", "fd00::1"}}
	anywhere := Config{InsecureListenAnywhere: true}
	anywhereNamed := Config{InsecureListenAnywhere: true, AllowedHosts: []string{"codec.internal"}}
	for _, tc := range []struct {
		name   string
		config Config
		host   string
		want   bool
	}{
		{"loopback address", Config{}, "127.0.0.1:8081", true},
		{"loopback address without port", Config{}, "127.0.0.1", true},
		{"loopback name", Config{}, "localhost:8081", true},
		{"loopback name in capitals", Config{}, "LOCALHOST:8081", true},
		{"loopback in IPv6", Config{}, "[::1]:8081", true},
		{"loopback in IPv6 without port", Config{}, "[::1]", true},
		{"a site that resolves to loopback", Config{}, "rebound.evil.example:8081", false},
		{"a name under localhost", Config{}, "evil.localhost:8081", false},
		{"the unspecified address", Config{}, "0.0.0.0:8081", false},
		{"a private address", Config{}, "10.1.2.3:8081", false},
		{"none", Config{}, "", false},
		{"an allowed name", named, "codec.internal:8081", true},
		{"an allowed name in capitals", named, "Codec.Internal", true},
		{"an allowed address", named, "10.1.2.3:80", true},
		{"an allowed address in IPv6", named, "[fd00::1]:80", true},
		{"loopback beside allowed names", named, "localhost", true},
		{"below an allowed name", named, "x.codec.internal", false},
		{"anywhere", anywhere, "whatever.example", true},
		{"anywhere, with names", anywhereNamed, "whatever.example", false},
		{"anywhere, by its name", anywhereNamed, "codec.internal", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, tc.config)
			for _, r := range []*http.Request{
				post(t, "/decode", strings.NewReader(hiJSON)),
				httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil),
			} {
				r.Host = tc.host
				if w := serve(s, r); tc.want && w.Code != http.StatusOK {
					t.Errorf("%s: got %d %s", r.Method, w.Code, w.Body)
				} else if !tc.want {
					wantProblem(t, w, "host")
				}
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	fake := &fakeCodec{}
	for _, tc := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"nothing to do", Config{}, []string{"Codec"}},
		{"several things", Config{PathPrefix: "x", Limits: Limits{Requests: -1}}, []string{"Codec", "PathPrefix", "Limits.Requests"}},
		{"a namespace with a line break", Config{Codec: fake, DefaultNamespace: "a\nb"}, []string{"DefaultNamespace"}},
		{"a prefix with a slash at its end", Config{Codec: fake, PathPrefix: "/codec/"}, []string{"PathPrefix"}},
		{"a prefix with an empty segment", Config{Codec: fake, PathPrefix: "/a//b"}, []string{"PathPrefix"}},
		{"all origins", Config{Codec: fake, AllowedOrigins: []string{"*"}}, []string{"AllowedOrigins"}},
		{"a wildcard origin", Config{Codec: fake, AllowedOrigins: []string{"https://*.example.com"}}, []string{"AllowedOrigins"}},
		{"an origin with a slash", Config{Codec: fake, AllowedOrigins: []string{"https://example.com/"}}, []string{"AllowedOrigins"}},
		{"an origin in capitals", Config{Codec: fake, AllowedOrigins: []string{"https://Example.com"}}, []string{"AllowedOrigins"}},
		{"an origin with its scheme's port", Config{Codec: fake, AllowedOrigins: []string{"https://example.com:443"}}, []string{"AllowedOrigins"}},
		{"an http origin with its scheme's port", Config{Codec: fake, AllowedOrigins: []string{"http://example.com:80"}}, []string{"AllowedOrigins"}},
		{"an origin with an empty port", Config{Codec: fake, AllowedOrigins: []string{"http://example.com:"}}, []string{"AllowedOrigins"}},
		{"null", Config{Codec: fake, AllowedOrigins: []string{"null"}}, []string{"AllowedOrigins"}},
		{"an empty origin", Config{Codec: fake, AllowedOrigins: []string{""}}, []string{"AllowedOrigins"}},
		{"a bare host as origin", Config{Codec: fake, AllowedOrigins: []string{"example.com"}}, []string{"AllowedOrigins"}},
		{"credentials for all of loopback", Config{Codec: fake, AllowCredentials: true}, []string{"AllowCredentials"}},
		{"a host with a port", Config{Codec: fake, AllowedHosts: []string{"example.com:80"}}, []string{"AllowedHosts"}},
		{"a host in capitals", Config{Codec: fake, AllowedHosts: []string{"Example.com"}}, []string{"AllowedHosts"}},
		{"all hosts", Config{Codec: fake, AllowedHosts: []string{"*"}}, []string{"AllowedHosts"}},
		{"an empty host", Config{Codec: fake, AllowedHosts: []string{""}}, []string{"AllowedHosts"}},
		{"answers that would be cut", Config{Codec: fake, Limits: Limits{WriteTime: 1}}, []string{"Limits.WriteTime"}},
		{"bodies that would never be let in", Config{Codec: fake, Limits: Limits{HeldBytes: 1}}, []string{"Limits.HeldBytes"}},
		{"encode requests that would never be let in", Config{Codec: fake, Limits: Limits{Sealing: 1}}, []string{"Limits.Sealing"}},
		{
			"every limit negative",
			Config{Codec: fake, Limits: Limits{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}},
			[]string{"HeaderBytes", "BodyBytes", "ReplyBytes", "HeldBytes", "Payloads", "EncodePayloads", "Sealing", "Entries", "Requests", "Connections", "HeaderTime", "ReadTime", "CodecTime", "WriteTime", "IdleTime", "DrainTime"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := New(tc.config)
			bad, ok := err.(*ConfigError) //nolint:errorlint // New returns it bare
			if s != nil || !ok {
				t.Fatalf("got %v, %v; want a *ConfigError", s, err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q says nothing of %s", err, want)
				}
			}
			if bad.Hint() == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestWriteTimeFollowsOtherLimits(t *testing.T) {
	s := newServer(t, Config{Limits: Limits{ReadTime: 5 * defaultLimits.ReadTime, CodecTime: 5 * defaultLimits.CodecTime}})
	if want := 5*defaultLimits.ReadTime + 5*defaultLimits.CodecTime + writeMargin; s.config.Limits.WriteTime != want {
		t.Errorf("got %v, want %v", s.config.Limits.WriteTime, want)
	}
}
