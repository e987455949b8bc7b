package httpapi

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/kms/kmstest"
)

// What bodies become in memory counts, not only what they are: a payload is
// three bytes of JSON and over a hundred in memory.
func TestSmallPayloadsHoldMemory(t *testing.T) {
	for name, payload := range map[string]string{
		"empty":             `{}`,
		"metadata":          `{"metadata":{"a":"","b":"","c":""}}`,
		"external payloads": `{"externalPayloads":[{},{},{}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"payloads":[` + strings.Repeat(payload+",", 999) + payload + `]}`
			var s *Server
			var second int
			fake := &fakeCodec{}
			fake.before = func(context.Context) {
				if len(fake.seen()) == 1 {
					second = serve(s, post(t, "/decode", strings.NewReader(body))).Code
				}
			}
			s = newServer(t, Config{Codec: fake, Limits: Limits{BodyBytes: 60 << 10, HeldBytes: 72 << 10}})
			if w := serve(s, post(t, "/decode", strings.NewReader(body))); w.Code != http.StatusOK {
				t.Errorf("one alone: %d %s", w.Code, w.Body)
			}
			if second != http.StatusServiceUnavailable {
				t.Errorf("a second one beside it: %d", second)
			}
			if taken := s.held.taken.Load(); taken != 0 {
				t.Errorf("%d bytes are still held", taken)
			}
		})
	}
}

// bombs are payloads of a megabyte each, squeezed to a kilobyte.
func bombs(t *testing.T, s *Server, n int) string {
	t.Helper()
	sealed := encodeIn(t, s, "squeezed", mustJSON(t, &commonpb.Payload{Data: make([]byte, 1<<20)}))
	one := strings.TrimSuffix(strings.TrimPrefix(sealed, `{"payloads":[`), `]}`)
	return `{"payloads":[` + strings.Repeat(one+",", n-1) + one + `]}`
}

// One batch is as bad as many: opening stops when there is no more room.
func TestBombsInOneBatch(t *testing.T) {
	for _, route := range []string{"/squeezed/decode", "/squeezed/encode"} {
		t.Run(route, func(t *testing.T) {
			s := newServer(t, Config{Codec: realCodec(t, testPolicy, kmstest.NewBackend()), Limits: Limits{ReplyBytes: 4 << 20}})
			body := bombs(t, s, decodeBatch)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := serve(s, post(t, route, strings.NewReader(body)))
			runtime.ReadMemStats(&after)
			wantProblem(t, w, "reply-size")
			if took := after.TotalAlloc - before.TotalAlloc; took > decodeBatch<<19 {
				t.Errorf("took %d MiB", took>>20)
			}
		})
	}
}

func TestOpenedPayloadsHoldMemory(t *testing.T) {
	s := newServer(t, Config{Codec: realCodec(t, testPolicy, kmstest.NewBackend()), Limits: Limits{BodyBytes: 4 << 20, HeldBytes: 4 << 20}})
	body := bombs(t, s, 8)
	if !s.held.take(1 << 20) {
		t.Fatal("cannot hold")
	}
	wantProblem(t, serve(s, post(t, "/squeezed/decode", strings.NewReader(body))), "overfull")
	s.held.give(1 << 20)
	if w := serve(s, post(t, "/squeezed/decode", strings.NewReader(body))); w.Code != http.StatusOK {
		t.Errorf("alone: %d", w.Code)
	}
	if taken := s.held.taken.Load(); taken != 0 {
		t.Errorf("%d bytes are still held", taken)
	}
}

// Sealing many small payloads makes far more of them than was sent.
func TestSealedPayloadsHoldMemory(t *testing.T) {
	fake := &fakeCodec{encode: func(_ context.Context, in []*commonpb.Payload) ([]*commonpb.Payload, error) {
		out := make([]*commonpb.Payload, len(in))
		for i := range out {
			out[i] = &commonpb.Payload{Data: make([]byte, 1<<20)}
		}
		return out, nil
	}}
	s := newServer(t, Config{Codec: fake, Limits: Limits{BodyBytes: 1 << 20, HeldBytes: 2 << 20}})
	if !s.held.take(1 << 20) {
		t.Fatal("cannot hold")
	}
	body := `{"payloads":[{},{},{}]}`
	wantProblem(t, serve(s, post(t, "/n/encode", strings.NewReader(body))), "overfull")
	s.held.give(1 << 20)
	if w := serve(s, post(t, "/n/encode", strings.NewReader(body))); w.Code != http.StatusOK {
		t.Errorf("alone: %d", w.Code)
	}
}

// HeldBytes may be as small as BodyBytes, and then the largest body has room.
func TestLargestBodyIsLetIn(t *testing.T) {
	const size = 100_000
	for name, length := range map[string]int64{"announced": size, "not announced": -1} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, Config{Limits: Limits{BodyBytes: size, HeldBytes: size}})
			r := post(t, "/decode", strings.NewReader(hiJSON+strings.Repeat(" ", size-len(hiJSON))))
			r.ContentLength = length
			if w := serve(s, r); w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}
