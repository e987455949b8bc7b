package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sealedEncoding = "binary/fake"

// call is one call of the fake codec.
type call struct {
	Op        string
	Namespace string
	Payloads  int
}

// fakeCodec "seals" by wrapping a payload's bytes, each with its bits turned,
// and calls the test's hooks in between. It checks that its inputs are whole; the zero
// value works.
type fakeCodec struct {
	// before runs at the start of each call; nil does nothing.
	before func(ctx context.Context)
	// encodeErr fails Encode.
	encodeErr error
	// openErr fails the opening of one sealed payload.
	openErr func(original *commonpb.Payload) error
	// encode and decode replace the whole call.
	encode func(ctx context.Context, payloads []*commonpb.Payload) ([]*commonpb.Payload, error)
	decode func(ctx context.Context, payloads []*commonpb.Payload) []codec.Decoded

	mu    sync.Mutex
	calls []call
}

func (f *fakeCodec) note(op, namespace string, payloads []*commonpb.Payload) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call{op, namespace, len(payloads)})
}

func (f *fakeCodec) seen() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fakeCodec) Encode(ctx context.Context, opts codec.EncodeOptions, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	f.note("encode", opts.Namespace, payloads)
	if f.before != nil {
		f.before(ctx)
	}
	if f.encode != nil {
		return f.encode(ctx, payloads)
	}
	if f.encodeErr != nil {
		return nil, f.encodeErr
	}
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		out[i] = fakeSeal(p)
	}
	return out, nil
}

func (f *fakeCodec) Decode(ctx context.Context, opts codec.DecodeOptions, payloads []*commonpb.Payload) []codec.Decoded {
	f.note("decode", opts.Namespace, payloads)
	if f.before != nil {
		f.before(ctx)
	}
	if f.decode != nil {
		return f.decode(ctx, payloads)
	}
	out := make([]codec.Decoded, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()["encoding"]) != sealedEncoding {
			out[i] = codec.Decoded{Payload: p}
			continue
		}
		original, err := fakeOpen(p)
		if err == nil && f.openErr != nil {
			err = f.openErr(original)
		}
		if err != nil {
			// Not the input, to see that it is never this that goes out.
			out[i] = codec.Decoded{Payload: &commonpb.Payload{Data: []byte("half opened")}, Sealed: true, Err: err}
			continue
		}
		out[i] = codec.Decoded{Payload: original, Sealed: true, Namespace: opts.Namespace}
	}
	return out
}

func fakeSeal(p *commonpb.Payload) *commonpb.Payload {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		panic(err)
	}
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(sealedEncoding)}, Data: flip(raw)}
}

func fakeOpen(p *commonpb.Payload) (*commonpb.Payload, error) {
	original := &commonpb.Payload{}
	if err := proto.Unmarshal(flip(p.GetData()), original); err != nil {
		return nil, &kms.Error{Class: kms.Corrupt, Op: "open"}
	}
	return original, nil
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = ^c
	}
	return out
}

// newServer makes a Server of a Config, with the fake codec if it has none.
func newServer(t testing.TB, config Config) *Server {
	t.Helper()
	if config.Codec == nil {
		config.Codec = &fakeCodec{}
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// post is a well-formed request, as far as headers go, for a test to spoil.
func post(t testing.TB, target string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:8081/", body)
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
	if strings.Contains(r.URL.Path, "%") {
		u := *r.URL
		if err := u.UnmarshalBinary([]byte("http://127.0.0.1:8081" + target)); err != nil {
			t.Fatal(err)
		}
		r.URL = &u
	}
	r.Header.Set("Content-Type", "application/json")
	setHeaders(r, header...)
	return r
}

// setHeaders sets "Name: value" lines; a name without value is removed.
func setHeaders(r *http.Request, lines ...string) {
	for _, line := range lines {
		name, value, found := strings.Cut(line, ": ")
		if !found {
			r.Header.Del(name)
			continue
		}
		r.Header.Add(name, value)
		if name == "Content-Type" {
			r.Header[name] = r.Header[name][len(r.Header[name])-1:]
		}
	}
}

// serve answers a request and returns what was written.
func serve(s http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// logTo returns a logger of text lines and the buffer they go to.
func logTo() (*slog.Logger, *safeBuffer) {
	b := &safeBuffer{}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// problemNamed finds a row of the table.
func problemNamed(t testing.TB, name string) (reason, problem) {
	t.Helper()
	for why, p := range problemTable {
		if p.name == name {
			return reason(why), p
		}
	}
	t.Fatalf("there is no problem %q", name)
	return 0, problem{}
}

// wantProblem fails a test unless w is exactly a row of the table.
func wantProblem(t testing.TB, w *httptest.ResponseRecorder, name string) {
	t.Helper()
	_, p := problemNamed(t, name)
	want := "waxseal: " + p.text + "; " + p.hint + " (request " + w.Header().Get(headerRequestID) + ")\n"
	if w.Code != p.status || w.Body.String() != want {
		t.Errorf("got %d %q\nwant %d %q", w.Code, w.Body, p.status, want)
	}
	if got := w.Header().Get("Content-Type"); got != textPlain {
		t.Errorf("Content-Type %q, want %q", got, textPlain)
	}
	if (w.Header().Get("Retry-After") != "") != (p.retryAfter > 0) {
		t.Errorf("Retry-After %q, want it only if %d > 0", w.Header().Get("Retry-After"), p.retryAfter)
	}
}

var errPlain = errors.New("an error without a class")
