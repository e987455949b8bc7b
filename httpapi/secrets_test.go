package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// canary stands for everything that must stay where it is. Its base64 forms
// count as it.
const canary = "CANARY-4f1d9b"

func findsCanary(text string) bool {
	if strings.Contains(text, canary) {
		return true
	}
	for shift := range 3 {
		whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", shift) + canary))
		if strings.Contains(text, whole[4:12]) {
			return true
		}
	}
	return false
}

// Whatever comes in, and however it goes wrong, neither the log nor an error's
// body nor the metrics have anything of it.
func TestNothingLeaks(t *testing.T) {
	kmsError := func(class kms.Class) error {
		return fmt.Errorf("codec: decode payload 0: %w", &kms.Error{Class: class, Op: "unwrap", KeyID: "local://test/key", Err: errors.New(canary)})
	}
	secret := data(canary)
	secret.Metadata[canary] = []byte(canary)
	good := mustJSON(t, secret)
	sealed := sealedJSON(t, secret)
	fails := func(err error) *fakeCodec {
		return &fakeCodec{encodeErr: err, openErr: func(*commonpb.Payload) error { return err }}
	}
	panics := func(value any) *fakeCodec { return &fakeCodec{before: func(context.Context) { panic(value) }} }
	type aCase struct {
		name   string
		codec  *fakeCodec
		target string
		body   string
		header []string
	}
	cases := []aCase{
		{"all well", &fakeCodec{}, "/decode", sealed, []string{"Authorization: Bearer " + canary, "Authorization-Extras: " + canary, "Cookie: " + canary, "User-Agent: " + canary}},
		{"a query", &fakeCodec{}, "/decode?token=" + canary, sealed, nil},
		{"a bad query", &fakeCodec{}, "/decode?strict=" + canary, sealed, nil},
		{"a path", &fakeCodec{}, "/x/" + canary, sealed, nil},
		{"a bad namespace", &fakeCodec{}, "/decode", sealed, []string{"X-Namespace: " + canary + "\t"}},
		{"a namespace in conflict", &fakeCodec{}, "/" + canary + "/decode", sealed, []string{"X-Namespace: x" + canary}},
		{"a content type", &fakeCodec{}, "/decode", sealed, []string{"Content-Type: text/" + canary}},
		{"an origin", &fakeCodec{}, "/decode", sealed, []string{"Origin: https://" + canary}},
		{"no JSON", &fakeCodec{}, "/decode", canary, nil},
		{"an unknown field", &fakeCodec{}, "/decode", `{"` + canary + `":1}`, nil},
		{"bad base64", &fakeCodec{}, "/decode", `{"payloads":[{"data":"` + canary + `"}]}`, nil},
		{"a truncated body", &fakeCodec{}, "/decode", good[:len(good)-2], nil},
		{"an error without a class", fails(errors.New(canary)), "/n/encode", good, nil},
		{"a URL's error", fails(fmt.Errorf("get https://kms/%s: %w", canary, context.DeadlineExceeded)), "/n/encode", good, nil},
		{"a panic with a string", panics(canary), "/n/encode", good, nil},
		{"a panic with an error", panics(errors.New(canary)), "/n/encode", good, nil},
		{"a panic with a payload", panics(secret), "/decode", good, nil},
		{"encode answers too little", &fakeCodec{encode: func(context.Context, []*commonpb.Payload) ([]*commonpb.Payload, error) {
			return []*commonpb.Payload{}, nil
		}}, "/n/encode", good, nil},
		{"decode answers what no JSON holds", &fakeCodec{decode: func(context.Context, []*commonpb.Payload) []codec.Decoded {
			return []codec.Decoded{{Payload: &commonpb.Payload{Metadata: map[string][]byte{canary + "\xff": nil}}}}
		}}, "/decode", good, nil},
	}
	for _, class := range kms.Classes() {
		for _, target := range []string{"/n/encode", "/decode", "/decode?strict=true"} {
			body := sealed
			if target == "/n/encode" {
				body = good
			}
			cases = append(cases, aCase{"class " + class.String(), fails(kmsError(class)), target, body, nil})
		}
	}
	for _, tc := range cases {
		t.Run(tc.name+" "+strings.ReplaceAll(tc.target, canary, "…"), func(t *testing.T) {
			logger, logged := logTo()
			s := newServer(t, Config{Codec: tc.codec, Logger: logger})
			w := serve(s, post(t, tc.target, strings.NewReader(tc.body), tc.header...))
			if w.Code != http.StatusOK && findsCanary(w.Body.String()) {
				t.Errorf("the body of %d has it: %s", w.Code, w.Body)
			}
			for name, values := range w.Header() {
				if findsCanary(fmt.Sprint(values)) {
					t.Errorf("the header %s has it: %v", name, values)
				}
			}
			if findsCanary(logged.String()) {
				t.Errorf("the log has it:\n%s", logged)
			}
			if findsCanary(get(t, s.AdminHandler(), "/metrics").Body.String()) {
				t.Error("the metrics have it")
			}
			if !strings.Contains(logged.String(), "request="+w.Header().Get(headerRequestID)+" ") {
				t.Errorf("the log does not name the request:\n%s", logged)
			}
		})
	}
}

// The log says what an operator needs to find a failure's cause.
func TestLogLine(t *testing.T) {
	var buf bytes.Buffer
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "seconds" || a.Key == "request" {
			return slog.Attr{}
		}
		return a
	}
	logger := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: drop}))
	denied := &kms.Error{Class: kms.Denied, Op: "unwrap", KeyID: "local://test/key", Detail: "namespace \"a\nlevel=FAKE\" is foreign", Advice: "list it under accept"}
	fake := &fakeCodec{openErr: func(*commonpb.Payload) error { return denied }}
	s := newServer(t, Config{Codec: fake, Logger: logger})
	sealed := sealedJSON(t, data("x"))
	for _, tc := range []struct {
		name, target, body string
		want               string
	}{
		{"decode", "/payments/decode", hiJSON, fmt.Sprintf(`level=INFO msg=request method=POST route=decode namespace=payments status=200 payloads=1 undecoded=0 bytesIn=%d bytesOut=%d`, len(hiJSON), len(hiJSON))},
		{"undecoded", "/payments/decode", sealed, fmt.Sprintf(`level=WARN msg=request method=POST route=decode namespace=payments status=200 payloads=1 undecoded=1 bytesIn=%d bytesOut=%d class=denied cause="kms: unwrap with local://test/key: denied: namespace \"a?level=FAKE\" is foreign (list it under accept)"`, len(sealed), len(sealed))},
		{"refused", "/decode?strict=true", `{"payloads":[{"x":1}]}`, `level=WARN msg=request method=POST route=decode namespace="" status=400 payloads=0 undecoded=0 bytesIn=22 bytesOut=117 strict=true problem=json-field offset=14`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			buf.Reset()
			w := serve(s, post(t, tc.target, strings.NewReader(tc.body)))
			want := tc.want
			if w.Code != http.StatusOK {
				want = strings.Replace(want, "bytesOut=117", fmt.Sprintf("bytesOut=%d", w.Body.Len()), 1)
			}
			if got := strings.TrimSpace(buf.String()); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// No caller can write a line of the log, or choose a request's ID.
func TestLogInjection(t *testing.T) {
	logger, logged := logTo()
	s := newServer(t, Config{Logger: logger})
	for _, header := range []string{"X-Request-Id: mine", headerRequestID + ": mine"} {
		if w := serve(s, post(t, "/decode", strings.NewReader(hiJSON), header)); w.Header().Get(headerRequestID) == "mine" {
			t.Error("the caller chose the request ID")
		}
	}
	before := strings.Count(logged.String(), "\n")
	for _, path := range []string{"/a%0Alevel=ERROR%20msg=forged/decode", "/a%0D%0Aforged/encode", "/%1B[2Jforged/decode", "/forged%0A"} {
		serve(s, post(t, path, strings.NewReader(hiJSON)))
	}
	r := post(t, "/decode", strings.NewReader(hiJSON))
	r.Header[headerNamespace] = []string{"a\nforged"} // net/http lets none through, another server might
	r.Method = "POST\nforged"
	serve(s, r)
	log := logged.String()
	if strings.Contains(log, "forged") || strings.Count(log, "\n") != before+5 {
		t.Errorf("log:\n%s", log)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a\nb\x1b\u2028c\xff": "a?b??c\ufffd"} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := printable(strings.Repeat("x", 10*maxCause)); len(got) > maxCause+len("…") {
		t.Errorf("%d bytes", len(got))
	}
}

// What net/http logs by itself may quote a caller; only what it says about
// accepting is passed on.
func TestConnectionLog(t *testing.T) {
	logger, logged := logTo()
	l := slog.NewLogLogger(slog.New(connectionLog{logger}).With("k", "v").WithGroup("g").Handler(), slog.LevelError)
	l.Printf("http: panic serving 127.0.0.1:1: %s", canary)
	l.Printf("http: Accept error: accept tcp: too many open files; retrying in 5ms")
	if got := logged.String(); findsCanary(got) || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "too many open files") || strings.Count(got, "\n") != 2 {
		t.Errorf("log:\n%s", got)
	}
}

// brokenWriter fails in the middle of an answer.
type brokenWriter struct {
	http.ResponseWriter
	write func([]byte) (int, error)
}

func (w *brokenWriter) Write(p []byte) (int, error) { return w.write(p) }

func TestAnswerCutShort(t *testing.T) {
	t.Run("the peer is gone", func(t *testing.T) {
		logger, logged := logTo()
		s := newServer(t, Config{Logger: logger})
		s.ServeHTTP(&brokenWriter{httptest.NewRecorder(), func([]byte) (int, error) { return 3, net.ErrClosed }}, post(t, "/decode", strings.NewReader(hiJSON)))
		if got := logged.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "bytesOut=3") || !strings.Contains(got, "cut=true") {
			t.Errorf("log:\n%s", got)
		}
	})
	t.Run("the writer panics", func(t *testing.T) {
		logger, logged := logTo()
		s := newServer(t, Config{Logger: logger})
		defer func() {
			if recover() != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				t.Error("the connection is not aborted")
			}
			if got := logged.String(); !strings.Contains(got, "type=string") || findsCanary(got) || !strings.Contains(got, "problem=panic") {
				t.Errorf("log:\n%s", got)
			}
		}()
		s.ServeHTTP(&brokenWriter{httptest.NewRecorder(), func([]byte) (int, error) { panic(canary) }}, post(t, "/decode", strings.NewReader(hiJSON)))
	})
}

// The log of a panic says where it was, and no arguments.
func TestPanicLogSaysWhere(t *testing.T) {
	logger, logged := logTo()
	s := newServer(t, Config{Logger: logger, Codec: &fakeCodec{before: func(context.Context) { panic(io.EOF) }}})
	serve(s, post(t, "/decode", strings.NewReader(hiJSON)))
	if got := logged.String(); !strings.Contains(got, "type=*errors.errorString") || !strings.Contains(got, "TestPanicLogSaysWhere") || strings.Contains(got, "0x") {
		t.Errorf("log:\n%s", got)
	}
}
