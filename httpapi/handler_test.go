package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/payloadjson"
)

// hiJSON is the request of the documentation, byte for byte.
const hiJSON = `{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhpIg=="}]}`

// sealedJSON is payloads as the fake codec seals them.
func sealedJSON(t testing.TB, payloads ...*commonpb.Payload) string {
	t.Helper()
	sealed := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		sealed[i] = fakeSeal(p)
	}
	return mustJSON(t, sealed...)
}

func mustJSON(t testing.TB, payloads ...*commonpb.Payload) string {
	t.Helper()
	out, err := payloadjson.Append(nil, payloads)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func data(s string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("binary/plain")}, Data: []byte(s)}
}

// The curl pipeline of the documentation prints what went in, byte for byte.
func TestEncodeThenDecode(t *testing.T) {
	s := newServer(t, Config{})
	encoded := serve(s, post(t, "/encode", strings.NewReader(hiJSON), "X-Namespace: default"))
	if encoded.Code != http.StatusOK {
		t.Fatalf("encode: %d %s", encoded.Code, encoded.Body)
	}
	if encoded.Body.String() == hiJSON || encoded.Header().Get(headerUndecoded) != "" {
		t.Errorf("encode answered %q with %v", encoded.Body, encoded.Header())
	}
	decoded := serve(s, post(t, "/decode", encoded.Body, "X-Namespace: default"))
	if decoded.Code != http.StatusOK || decoded.Body.String() != hiJSON {
		t.Errorf("decode: %d %q, want %q", decoded.Code, decoded.Body, hiJSON)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Resource-Policy": "same-origin", headerUndecoded: "0",
	} {
		if got := decoded.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if a, b := encoded.Header().Get(headerRequestID), decoded.Header().Get(headerRequestID); len(a) < 20 || a == b {
		t.Errorf("request IDs %q and %q", a, b)
	}
}

func TestAnswersKeepCountAndOrder(t *testing.T) {
	in := make([]*commonpb.Payload, 3*decodeBatch+1)
	for i := range in {
		in[i] = data(strings.Repeat("x", i))
		if i%3 == 0 {
			in[i] = &commonpb.Payload{ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: int64(i)}}}
		}
	}
	s := newServer(t, Config{DefaultNamespace: "default"})
	encoded := serve(s, post(t, "/encode", strings.NewReader(mustJSON(t, in...))))
	w := serve(s, post(t, "/decode", encoded.Body))
	var got commonpb.Payloads
	if err := protojson.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, got.Payloads, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestBodies(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       string // a body, or
		problem    string
	}{
		{"an empty list", `{"payloads":[]}`, `{"payloads":[]}`, ""},
		{"nothing", `{}`, `{"payloads":[]}`, ""},
		{"null for the list", `{"payloads":null}`, `{"payloads":[]}`, ""},
		{"an empty payload", `{"payloads":[{}]}`, `{"payloads":[{}]}`, ""},
		{"null fields", `{"payloads":[{"data":null,"metadata":null}]}`, `{"payloads":[{}]}`, ""},
		{"spaces", " { \"payloads\" : [ { } ] } \n", `{"payloads":[{}]}`, ""},
		{"snake case", `{"payloads":[{"external_payloads":[{"size_bytes":7}]}]}`, `{"payloads":[{"externalPayloads":[{"sizeBytes":"7"}]}]}`, ""},
		{"base64 unpadded and URL-safe", `{"payloads":[{"data":"-_8"}]}`, `{"payloads":[{"data":"+/8="}]}`, ""},
		{"a storage reference", `{"payloads":[{"metadata":{"encoding":"anNvbi9leHRlcm5hbC1zdG9yYWdl"},"data":"e30="}]}`, `{"payloads":[{"metadata":{"encoding":"anNvbi9leHRlcm5hbC1zdG9yYWdl"},"data":"e30="}]}`, ""},
		{"no body", ``, "", "json-end"},
		{"truncated", `{"payloads":[{"data":"ImhpIg=="}`, "", "json-end"},
		{"no JSON", `payloads`, "", "json"},
		{"trailing garbage", `{"payloads":[]}x`, "", "json-trailing"},
		{"two documents", `{"payloads":[]}{"payloads":[]}`, "", "json-trailing"},
		{"unknown field", `{"payloads":[],"keys":[]}`, "", "json-field"},
		{"unknown field of a payload", `{"payloads":[{"Data":""}]}`, "", "json-field"},
		{"a field twice", `{"payloads":[],"payloads":[]}`, "", "json-duplicate"},
		{"a null payload", `{"payloads":[null]}`, "", "json-null"},
		{"wrong base64", `{"payloads":[{"data":"ImhpIg=!"}]}`, "", "base64"},
		{"a list instead", `[]`, "", "json-type"},
		{"deep nesting of lists", `{"payloads":` + strings.Repeat("[", 200_000), "", "json-type"},
		{"deep nesting", strings.Repeat(`{"payloads":[`, 20_000), "", "json-field"},
		{"deep nesting of an unknown field", `{"a":` + strings.Repeat("[", 100_000), "", "json-field"},
		{"a huge number", `{"payloads":[{"externalPayloads":[{"sizeBytes":1e400000000}]}]}`, "", "json-type"},
		{"bad UTF-8", "{\"payloads\":[{\"metadata\":{\"\xff\":\"\"}}]}", "", "json-text"},
		{"too many payloads", `{"payloads":[` + strings.Repeat("{},", 100) + `{}]}`, "", "payload-count"},
		{"too much metadata", `{"payloads":[{"metadata":{"a":"","b":"","c":"","d":"","e":""}}]}`, "", "metadata-count"},
		{"too large", `{"payloads":[{"data":"` + strings.Repeat("A", 400_000) + `"}]}`, "", "body-size"},
	} {
		for _, route := range []string{"/encode", "/decode", "/decode?strict=true", "/decode?preserveStorageRefs=true"} {
			t.Run(tc.name+route, func(t *testing.T) {
				fake := &fakeCodec{encode: func(_ context.Context, in []*commonpb.Payload) ([]*commonpb.Payload, error) { return in, nil }}
				s := newServer(t, Config{Codec: fake, DefaultNamespace: "default", Limits: Limits{Payloads: 100, Entries: 4, BodyBytes: 300_000}})
				for name, body := range map[string]io.Reader{
					"whole":   strings.NewReader(tc.body),
					"chunked": struct{ io.Reader }{iotest.HalfReader(strings.NewReader(tc.body))},
				} {
					w := serve(s, post(t, route, body))
					if tc.problem != "" {
						wantProblem(t, w, tc.problem)
						if calls := fake.seen(); len(calls) > 0 {
							t.Errorf("%s: the codec was called: %v", name, calls)
						}
					} else if w.Code != http.StatusOK || w.Body.String() != tc.want {
						t.Errorf("%s: got %d %q, want %q", name, w.Code, w.Body, tc.want)
					}
				}
				if held := s.held.taken.Load(); held != 0 {
					t.Errorf("%d bytes are still held", held)
				}
			})
		}
	}
}

func TestContentTypes(t *testing.T) {
	for _, tc := range []struct {
		name    string
		header  []string
		problem string
	}{
		{"plain", []string{"Content-Type: application/json"}, ""},
		{"with charset", []string{"Content-Type: application/json; charset=UTF-8"}, ""},
		{"with another parameter", []string{"Content-Type: application/json; profile=x"}, ""},
		{"another case", []string{"Content-Type: Application/JSON"}, ""},
		{"identity", []string{"Content-Encoding: identity"}, ""},
		{"none", []string{"Content-Type"}, "content-type"},
		{"text", []string{"Content-Type: text/plain"}, "content-type"},
		{"a form", []string{"Content-Type: application/x-www-form-urlencoded"}, "content-type"},
		{"a form with JSON in its parameter", []string{"Content-Type: text/plain; a=application/json"}, "content-type"},
		{"JSON and more", []string{"Content-Type: application/json-seq"}, "content-type"},
		{"another charset", []string{"Content-Type: application/json; charset=utf-16"}, "content-type"},
		{"nonsense", []string{"Content-Type: ;;"}, "content-type"},
		{"gzip", []string{"Content-Encoding: gzip"}, "content-encoding"},
		{"identity, then gzip", []string{"Content-Encoding: identity", "Content-Encoding: gzip"}, "content-encoding"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := serve(newServer(t, Config{}), post(t, "/decode", strings.NewReader(hiJSON), tc.header...))
			if tc.problem != "" {
				wantProblem(t, w, tc.problem)
			} else if w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	t.Run("two types", func(t *testing.T) {
		r := post(t, "/decode", strings.NewReader(hiJSON))
		r.Header["Content-Type"] = []string{"application/json", "text/plain"}
		wantProblem(t, serve(newServer(t, Config{}), r), "content-type")
	})
}

func TestRoutes(t *testing.T) {
	for _, tc := range []struct {
		method, target string
		want           []call
		problem        string
	}{
		{"POST", "/decode", []call{{"decode", "", 1}}, ""},
		{"POST", "//decode", []call{{"decode", "", 1}}, ""},
		{"POST", "/payments/decode", []call{{"decode", "payments", 1}}, ""},
		{"POST", "/codec/payments/decode", []call{{"decode", "payments", 1}}, ""},
		{"POST", "/codec//decode", []call{{"decode", "", 1}}, ""},
		{"POST", "/a/b/c/payments.a1b2c/encode", []call{{"encode", "payments.a1b2c", 1}}, ""},
		{"POST", "/decode?preserveStorageRefs=true", []call{{"decode", "", 1}}, ""},
		{"POST", "/decode?preserveStorageRefs=false&unknown=1&strict=true&strict=true", []call{{"decode", "", 1}}, ""},
		{"POST", "/decode?strict=false", []call{{"decode", "", 1}}, ""},
		{"POST", "/decode/decode", []call{{"decode", "decode", 1}}, ""},
		{"POST", "/decode?strict=yes", nil, "query"},
		{"POST", "/decode?strict", nil, "query"},
		{"POST", "/decode?strict=true&strict=false", nil, "query"},
		{"POST", "/decode?strict=false&strict=true", nil, "query"},
		{"POST", "/decode?strict=true;a=b", nil, "query"},
		{"POST", "/decode?strict=%zz", nil, "query"},
		{"POST", "/encode", nil, "namespace-missing"},
		{"POST", "/download?preserveStorageRefs=true", nil, "download"},
		{"POST", "/payments/download", nil, "download"},
		{"POST", "/decode/", nil, "path"},
		{"POST", "/Decode", nil, "path"},
		{"POST", "/%64ecode", nil, "path"},
		{"POST", "/decoded", nil, "path"},
		{"POST", "/xdecode", nil, "path"},
		{"POST", "/decode/x", nil, "path"},
		{"POST", "*", nil, "path"},
		{"POST", "/", nil, "method-home"},
		{"POST", "", nil, "method-home"},
		{"GET", "/decode", nil, "method"},
		{"HEAD", "/encode", nil, "method"},
		{"PUT", "/decode", nil, "method"},
		{"DELETE", "/decode", nil, "method"},
		{"OPTIONS", "/decode", nil, "method"},
		{"TRACE", "/download", nil, "method"},
		{"post", "/decode", nil, "method"},
		{"GET", "/favicon.ico", nil, "path"},
	} {
		t.Run(tc.method+" "+tc.target, func(t *testing.T) {
			fake := &fakeCodec{}
			r := post(t, tc.target, strings.NewReader(hiJSON))
			r.Method = tc.method
			w := serve(newServer(t, Config{Codec: fake}), r)
			if tc.problem != "" {
				wantProblem(t, w, tc.problem)
			} else if w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if diff := cmp.Diff(tc.want, fake.seen()); diff != "" {
				t.Errorf("codec calls (-want +got)\n%s", diff)
			}
			allow := map[string]string{"method": "POST, OPTIONS", "method-home": "GET, HEAD, OPTIONS"}[tc.problem]
			if got := w.Header().Get("Allow"); got != allow {
				t.Errorf("Allow %q, want %q", got, allow)
			}
		})
	}
}

func TestHomePage(t *testing.T) {
	s := newServer(t, Config{})
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost:8081/", nil)
		w := serve(s, r)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "--codec-endpoint") {
			t.Errorf("%s: %d %q", method, w.Code, w.Body)
		}
	}
}

func TestNamespaces(t *testing.T) {
	long := strings.Repeat("n", format.MaxNamespace)
	for _, tc := range []struct {
		name, path string
		header     []string
		decode     string // the namespace that decode works in, or the problem
		encode     string // likewise, with the default namespace "fallback"
	}{
		{"none", "/", nil, "", "fallback"},
		{"an empty header", "/", []string{"X-Namespace: "}, "", "fallback"},
		{"the Web UI's undefined", "/", []string{"X-Namespace: undefined"}, "", "fallback"},
		{"undefined in the path", "/undefined/", nil, "", "fallback"},
		{"an empty segment", "//", []string{"X-Namespace: "}, "", "fallback"},
		{"a header", "/", []string{"X-Namespace: payments"}, "payments", "payments"},
		{"a segment", "/payments/", nil, "payments", "payments"},
		{"a segment and an empty header", "/payments/", []string{"X-Namespace: "}, "payments", "payments"},
		{"a segment and undefined", "/payments/", []string{"X-Namespace: undefined"}, "payments", "payments"},
		{"undefined in the path and a header", "/undefined/", []string{"X-Namespace: payments"}, "payments", "payments"},
		{"both the same", "/payments/", []string{"X-Namespace: payments"}, "payments", "payments"},
		{"both the same, escaped", "/p%61yments/", []string{"X-Namespace: payments"}, "payments", "payments"},
		{"in conflict", "/payments/", []string{"X-Namespace: orders"}, "!namespace-conflict", "!namespace-conflict"},
		{"in conflict by case", "/payments/", []string{"X-Namespace: Payments"}, "!namespace-conflict", "!namespace-conflict"},
		{"two headers alike", "/", []string{"X-Namespace: payments", "X-Namespace: payments"}, "payments", "payments"},
		{"two headers in conflict", "/", []string{"X-Namespace: payments", "X-Namespace: orders"}, "!namespace-conflict", "!namespace-conflict"},
		{"with a slash", "/a%2Fb/", nil, "a/b", "a/b"},
		{"beyond ASCII", "/z%C3%BCrich/", nil, "zürich", "zürich"},
		{"as long as can be", "/", []string{"X-Namespace: " + long}, long, long},
		{"too long", "/", []string{"X-Namespace: " + long + "n"}, "!namespace", "!namespace"},
		{"not UTF-8", "/", []string{"X-Namespace: a\xff"}, "!namespace", "!namespace"},
		{"not UTF-8 in the path", "/%FF/", nil, "!namespace", "!namespace"},
		{"with a line break", "/a%0Ab/", nil, "!namespace", "!namespace"},
		{"with a NUL", "/a%00b/", nil, "!namespace", "!namespace"},
		{"with a tab", "/", []string{"X-Namespace: a\tb"}, "!namespace", "!namespace"},
		{"with an escape sequence", "/%1B[31m/", nil, "!namespace", "!namespace"},
		{"with a line separator", "/a%E2%80%A8b/", nil, "!namespace", "!namespace"},
		{"with a direction mark", "/a%E2%80%AEb/", nil, "!namespace", "!namespace"},
		{"a dot", "/./", nil, "!namespace", "!namespace"},
		{"two dots, escaped", "/%2e%2e/", nil, "!namespace", "!namespace"},
	} {
		for op, want := range map[string]string{"decode": tc.decode, "encode": tc.encode} {
			t.Run(tc.name+" "+op, func(t *testing.T) {
				fake := &fakeCodec{}
				s := newServer(t, Config{Codec: fake, DefaultNamespace: "fallback"})
				w := serve(s, post(t, tc.path+op, strings.NewReader(hiJSON), tc.header...))
				if name, bad := strings.CutPrefix(want, "!"); bad {
					wantProblem(t, w, name)
					if calls := fake.seen(); len(calls) > 0 {
						t.Errorf("the codec was called: %v", calls)
					}
					return
				}
				if diff := cmp.Diff([]call{{op, want, 1}}, fake.seen()); diff != "" {
					t.Errorf("%d %s: codec calls (-want +got)\n%s", w.Code, w.Body, diff)
				}
			})
		}
	}
}

func TestPathPrefix(t *testing.T) {
	for _, tc := range []struct {
		path, want string
		problem    string
	}{
		{"/codec/decode", "orders", ""},
		{"/codec/orders/decode", "orders", ""},
		{"/decode", "orders", ""}, // a proxy that strips the prefix
		{"/codec//decode", "orders", ""},
		{"/codec/payments/decode", "", "namespace-conflict"},
		{"/codecs/decode", "", "namespace-conflict"},
	} {
		t.Run(tc.path, func(t *testing.T) {
			fake := &fakeCodec{}
			s := newServer(t, Config{Codec: fake, PathPrefix: "/codec"})
			w := serve(s, post(t, tc.path, strings.NewReader(hiJSON), "X-Namespace: orders"))
			if tc.problem != "" {
				wantProblem(t, w, tc.problem)
			} else if diff := cmp.Diff([]call{{"decode", tc.want, 1}}, fake.seen()); diff != "" {
				t.Errorf("%d %s: codec calls (-want +got)\n%s", w.Code, w.Body, diff)
			}
		})
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/codec", nil)
	if w := serve(newServer(t, Config{PathPrefix: "/codec"}), r); w.Code != http.StatusOK {
		t.Errorf("GET of the prefix: %d", w.Code)
	}
}

// A request that fails two checks gets the error of the first one only.
func TestOrderOfChecks(t *testing.T) {
	s := newServer(t, Config{})
	r := post(t, "/nowhere/x?strict=x", strings.NewReader("{"), "X-Namespace: a\tb", "Content-Type: text/plain", "Origin: https://evil.example")
	r.Host, r.Method = "evil.example", http.MethodGet
	for _, step := range []struct {
		problem string
		mend    func()
	}{
		{"host", func() { r.Host = "127.0.0.1:8081" }},
		{"origin", func() { r.Header.Set("Origin", "http://localhost:8233") }},
		{"path", func() { r.URL.Path = "/nowhere/decode" }},
		{"method", func() { r.Method = http.MethodPost }},
		{"query", func() { r.URL.RawQuery = "" }},
		{"namespace", func() { r.Header.Set("X-Namespace", "b") }},
		{"namespace-conflict", func() { r.URL.Path = "/b/decode" }},
		{"content-type", func() { r.Header.Set("Content-Type", "application/json") }},
		{"json-end", func() { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2 }},
	} {
		s.slots = make(chan struct{}) // no places: that comes before everything
		wantProblem(t, serve(s, r), "overloaded")
		s.slots = make(chan struct{}, 1)
		wantProblem(t, serve(s, r), step.problem)
		step.mend()
	}
	if w := serve(s, r); w.Code != http.StatusOK {
		t.Errorf("mended: %d %s", w.Code, w.Body)
	}
}
