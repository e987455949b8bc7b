package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/gcmtest"
	"github.com/waxseal/waxseal/internal/payloadjson"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

const testPolicy = `
keys:
  a: {uri: "fake://a"}
seal:
  - match: {namespace: "guarded"}
    keys: [a]
    requireSealed: true
  - match: {namespace: "billing"}
    keys: [a]
    accept: ["payments"]
  - match: {namespace: "payments"}
    keys: [a]
  - match: {namespace: "squeezed"}
    keys: [a]
    compression: zstd
`

// realCodec is the codec that is shipped, over fake keys.
func realCodec(t testing.TB, yaml string, backend *kmstest.Backend) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func encodeIn(t testing.TB, s http.Handler, namespace, body string) string {
	t.Helper()
	w := serve(s, post(t, "/encode", strings.NewReader(body), "X-Namespace: "+namespace))
	if w.Code != http.StatusOK {
		t.Fatalf("encode in %s: %d %s", namespace, w.Code, w.Body)
	}
	return w.Body.String()
}

func TestRealCodec(t *testing.T) {
	logger, logged := logTo()
	backend := kmstest.NewBackend()
	s := newServer(t, Config{Codec: realCodec(t, testPolicy, backend), Logger: logger})
	sealed := encodeIn(t, s, "payments", hiJSON)
	if strings.Contains(sealed, "ImhpIg") {
		t.Fatalf("not sealed: %s", sealed)
	}
	if again := encodeIn(t, s, "payments", sealed); again != sealed {
		t.Errorf("encoding what is sealed changed it:\n%s\n%s", sealed, again)
	}
	reference := `{"payloads":[{"metadata":{"encoding":"anNvbi9leHRlcm5hbC1zdG9yYWdlLXJlZmVyZW5jZQ=="},"data":"e30="}]}`
	for _, tc := range []struct {
		name, target, body string
		header             string
		want               string // the answer, or
		problem            string
		undecoded          string
	}{
		{"its own namespace", "/decode", sealed, "X-Namespace: payments", hiJSON, "", "0"},
		{"its own namespace in the path", "/payments/decode", sealed, "X-Namespace: undefined", hiJSON, "", "0"},
		{"no namespace: the envelope's own", "/decode?strict=true", sealed, "X-Namespace: ", hiJSON, "", "0"},
		{"a namespace that accepts it", "/decode?strict=true", sealed, "X-Namespace: billing", hiJSON, "", "0"},
		{"a foreign namespace", "/decode", sealed, "X-Namespace: squeezed", sealed, "", "1"},
		{"a foreign namespace, strict", "/decode?strict=true", sealed, "X-Namespace: squeezed", "", "denied", ""},
		{"a namespace without a rule", "/decode?strict=true", sealed, "X-Namespace: nobody", "", "denied", ""},
		{"encoding for a namespace without a rule", "/encode", hiJSON, "X-Namespace: nobody", "", "denied", ""},
		{"plaintext", "/decode?strict=true", hiJSON, "X-Namespace: payments", hiJSON, "", "0"},
		{"plaintext where it must be sealed", "/decode?strict=true", hiJSON, "X-Namespace: guarded", "", "denied", ""},
		{"plaintext where it must be sealed, for a page", "/decode", hiJSON, "X-Namespace: guarded", hiJSON, "", "1"},
		{"a storage reference where payloads must be sealed", "/decode?preserveStorageRefs=true", reference, "X-Namespace: guarded", reference, "", "1"},
		{"a storage reference", "/decode?preserveStorageRefs=true", reference, "X-Namespace: payments", reference, "", "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := serve(s, post(t, tc.target, strings.NewReader(tc.body), tc.header))
			if tc.problem != "" {
				wantProblem(t, w, tc.problem)
				return
			}
			if w.Code != http.StatusOK || w.Body.String() != tc.want || w.Header().Get(headerUndecoded) != tc.undecoded {
				t.Errorf("got %d %s, %s undecoded\nwant %s, %s", w.Code, w.Body, w.Header().Get(headerUndecoded), tc.want, tc.undecoded)
			}
		})
	}
	if log := logged.String(); !strings.Contains(log, "accept:") {
		t.Errorf("the log does not name the setting that lets a foreign namespace in:\n%s", log)
	}
}

// Every failure of the KMS has its status, and releases nothing.
func TestRealCodecKMSFails(t *testing.T) {
	for _, class := range kms.Classes() {
		t.Run(class.String(), func(t *testing.T) {
			backend := kmstest.NewBackend()
			sealed := encodeIn(t, newServer(t, Config{Codec: realCodec(t, testPolicy, backend)}), "payments", hiJSON)
			s := newServer(t, Config{Codec: realCodec(t, testPolicy, backend)}) // its cache is cold
			backend.Fake("a").Always(kmstest.Fail(class))
			answer := class
			if class == kms.Canceled {
				answer = kms.Unavailable // it was not canceled: the KMS does not answer
			}
			name := problemTable[reasonOf(answer)].name
			wantProblem(t, serve(s, post(t, "/payments/decode?strict=true", strings.NewReader(sealed))), name)
			w := serve(s, post(t, "/payments/decode", strings.NewReader(sealed)))
			if passing(class) {
				wantProblem(t, w, name)
			} else if w.Code != http.StatusOK || w.Body.String() != sealed || w.Header().Get(headerUndecoded) != "1" {
				t.Errorf("for a page: %d %s", w.Code, w.Body)
			}
			// A codec without data keys made ahead.
			s = newServer(t, Config{Codec: realCodec(t, testPolicy, backend)})
			wantProblem(t, serve(s, post(t, "/payments/encode", strings.NewReader(hiJSON))), name)
		})
	}
}

func TestRealCodecUnknownKey(t *testing.T) {
	backend := kmstest.NewBackend()
	foreign := strings.ReplaceAll(testPolicy, "fake://a", "fake://b")
	sealed := encodeIn(t, newServer(t, Config{Codec: realCodec(t, foreign, backend)}), "payments", hiJSON)
	s := newServer(t, Config{Codec: realCodec(t, testPolicy, backend)})
	before := backend.Fake("b").Counts()
	wantProblem(t, serve(s, post(t, "/payments/decode?strict=true", strings.NewReader(sealed))), "denied")
	if diff := cmp.Diff(before, backend.Fake("b").Counts()); diff != "" {
		t.Errorf("a key that is not configured was called\n%s", diff)
	}
}

// The server reports a change of any bit of an envelope, and no change makes it fail or
// answer with other plaintext.
func TestRealCodecAltered(t *testing.T) {
	s := newServer(t, Config{Codec: realCodec(t, testPolicy, kmstest.NewBackend())})
	sealed, err := payloadjson.Parse([]byte(encodeIn(t, s, "payments", hiJSON)), payloadjson.Limits{Payloads: 1, Entries: 9})
	if err != nil {
		t.Fatal(err)
	}
	altered := func(change func(*commonpb.Payload)) string {
		p := proto.CloneOf(sealed[0])
		change(p)
		return mustJSON(t, p)
	}
	bodies := map[string]string{
		"no data":  altered(func(p *commonpb.Payload) { p.Data = nil }),
		"no keys":  altered(func(p *commonpb.Payload) { delete(p.Metadata, codec.MetadataKeyIDs) }),
		"bad keys": altered(func(p *commonpb.Payload) { p.Metadata[codec.MetadataKeyIDs] = []byte("\xff\x00 \n") }),
		"doubled":  altered(func(p *commonpb.Payload) { p.Data = append(p.Data, p.Data...) }),
	}
	for i := range sealed[0].GetData() {
		bodies[fmt.Sprintf("byte %d", i)] = altered(func(p *commonpb.Payload) { p.Data[i] ^= 1 << (i % 8) })
		bodies[fmt.Sprintf("cut at %d", i)] = altered(func(p *commonpb.Payload) { p.Data = p.Data[:i] })
	}
	for name, body := range bodies {
		strict := serve(s, post(t, "/payments/decode?strict=true", strings.NewReader(body)))
		// 403 and 424 too: a namespace, a key or its version can be altered into another.
		if strict.Code != http.StatusUnprocessableEntity && strict.Code != http.StatusForbidden && strict.Code != http.StatusFailedDependency {
			t.Errorf("%s, strict: %d %s", name, strict.Code, strict.Body)
		}
		lenient := serve(s, post(t, "/payments/decode", strings.NewReader(body)))
		if lenient.Code != http.StatusOK || lenient.Body.String() != body || lenient.Header().Get(headerUndecoded) != "1" {
			t.Errorf("%s, lenient: %d %s", name, lenient.Code, lenient.Body)
		}
	}
}

// What was squeezed together cannot burst the server.
func TestRealCodecBomb(t *testing.T) {
	s := newServer(t, Config{Codec: realCodec(t, testPolicy, kmstest.NewBackend()), Limits: Limits{ReplyBytes: 4 << 20}})
	zeros := encodeIn(t, s, "squeezed", mustJSON(t, &commonpb.Payload{Data: make([]byte, 1<<20)}))
	if len(zeros) > 10_000 {
		t.Fatalf("%d bytes: not compressed", len(zeros))
	}
	one := strings.TrimSuffix(strings.TrimPrefix(zeros, `{"payloads":[`), `]}`)
	many := `{"payloads":[` + strings.Repeat(one+",", 9) + one + `]}`
	wantProblem(t, serve(s, post(t, "/squeezed/decode", strings.NewReader(many))), "reply-size")
	w := serve(s, post(t, "/squeezed/decode", strings.NewReader(zeros)))
	if w.Code != http.StatusOK || w.Body.Len() < 1<<20 {
		t.Errorf("one of them: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestRealCodecWithRemotePayloadCodec(t *testing.T) {
	server := httptest.NewServer(newServer(t, Config{Codec: realCodec(t, testPolicy, kmstest.NewBackend())}))
	defer server.Close()
	remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{
		Endpoint: server.URL + "/payments",
		ModifyRequest: func(r *http.Request) error {
			r.URL.RawQuery = "strict=true"
			return nil
		},
		Client: http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
	want := []*commonpb.Payload{data("one"), {}, data(""), {ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 1 << 40}}}}
	sealed, err := remote.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Decode(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	sealed[0].Data[len(sealed[0].Data)-1] ^= 1
	if _, err := remote.Decode(sealed); err == nil || !strings.Contains(err.Error(), "Unprocessable Entity: waxseal: a sealed payload was altered or cut short") {
		t.Errorf("altered: %v", err)
	}
}

func TestRealCodecLeaksNothing(t *testing.T) {
	logger, logged := logTo()
	backend := kmstest.NewBackend()
	c := realCodec(t, testPolicy, backend)
	s := newServer(t, Config{Codec: c, Logger: logger})
	secret := data(canary)
	body := encodeIn(t, s, "payments", mustJSON(t, secret))
	backend.Fake("a").Always(kmstest.Fail(kms.Internal))
	var answers bytes.Buffer
	cold := newServer(t, Config{Codec: realCodec(t, testPolicy, backend), Logger: logger})
	for _, h := range []http.Handler{s, cold} {
		for _, target := range []string{"/payments/encode", "/squeezed/encode", "/nobody/encode", "/nobody/decode?strict=true", "/squeezed/decode?strict=true"} {
			for _, b := range []string{body, mustJSON(t, secret)} {
				if w := serve(h, post(t, target, strings.NewReader(b))); w.Code != http.StatusOK {
					answers.Write(w.Body.Bytes())
				}
			}
		}
	}
	if answers.Len() == 0 || findsCanary(answers.String()) || findsCanary(logged.String()) {
		t.Errorf("answers: %s\nlog:\n%s", &answers, logged)
	}
}

// BenchmarkReal is a request to the server as it is shipped, its data keys in the cache.
func BenchmarkReal(b *testing.B) {
	for _, shape := range []struct{ payloads, size int }{{1, 64}, {1, 4 << 10}, {1, 1 << 20}, {100, 1 << 10}} {
		s := newServer(b, Config{Codec: realCodec(b, testPolicy, kmstest.NewBackend())})
		in := make([]*commonpb.Payload, shape.payloads)
		for i := range in {
			in[i] = data(strings.Repeat("x", shape.size))
		}
		plain := mustJSON(b, in...)
		sealed := encodeIn(b, s, "payments", plain)
		for route, body := range map[string]string{"encode": plain, "decode": sealed} {
			b.Run(fmt.Sprintf("%s/%dx%d", route, shape.payloads, shape.size), func(b *testing.B) {
				b.SetBytes(int64(shape.payloads * shape.size))
				b.ReportAllocs()
				for b.Loop() {
					w := &nothing{make(http.Header)}
					s.ServeHTTP(w, post(b, "/payments/"+route, strings.NewReader(body)))
					if w.header.Get("Content-Type") != applicationJSON {
						b.Fatal("the request failed")
					}
				}
				gcmtest.Report(b, shape.size, shape.payloads)
			})
		}
	}
}
