package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// flood is many requests at one time, each stopped where it has most in memory.
type flood struct {
	arrived chan struct{} // gets one for each request that stopped
	release chan struct{} // closed to let them go on
}

func newFlood() *flood { return &flood{arrived: make(chan struct{}), release: make(chan struct{})} }

func (f *flood) stop() {
	f.arrived <- struct{}{}
	<-f.release
}

// stoppedWriter is a caller that does not take its answer until it is released.
type stoppedWriter struct {
	*httptest.ResponseRecorder
	stop func()
}

func (w stoppedWriter) Write(b []byte) (int, error) {
	w.stop()
	return w.ResponseRecorder.Write(b)
}

// stoppedCodec stops with what it sealed.
type stoppedCodec struct {
	Codec
	stop func()
}

func (c stoppedCodec) Encode(ctx context.Context, opts codec.EncodeOptions, in []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out, err := c.Codec.Encode(ctx, opts, in)
	c.stop()
	return out, err
}

// send sends n requests, calls look once all of them have stopped, and returns their
// statuses. A request stops once: in the codec if that does, else before its answer.
func (f *flood) send(t *testing.T, s *Server, n int, target, body string, look func()) map[int]int {
	t.Helper()
	statuses := make(map[int]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	one := func() {
		w := stoppedWriter{httptest.NewRecorder(), f.stop}
		s.ServeHTTP(w, post(t, target, strings.NewReader(body)))
		mu.Lock()
		defer mu.Unlock()
		statuses[w.Code]++
	}
	wg.Go(one) // alone, it is let in; of many that read their bodies at one time none may be
	<-f.arrived
	for range n - 1 {
		wg.Go(one)
	}
	for range n - 1 {
		<-f.arrived
	}
	look()
	go func() { // those that stopped in the codec come to their answers
		for range f.arrived {
		}
	}()
	close(f.release)
	wg.Wait()
	close(f.arrived)
	return statuses
}

// inUse returns the bytes that the heap has in use.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// bodyOf is a body with the same payload n times.
func bodyOf(n int, payload string) string {
	return `{"payloads":[` + strings.Repeat(payload+",", n-1) + payload + `]}`
}

// 30 KB of empty payloads are 10 MB once they are sealed, and as many wraps.
func TestEncodeFloodIsRefused(t *testing.T) {
	backend := kmstest.NewBackend()
	s := newServer(t, Config{Codec: realCodec(t, testPolicy, backend)})
	wantProblem(t, serve(s, post(t, "/payments/encode", strings.NewReader(bodyOf(defaultLimits.EncodePayloads+1, "{}")))), "encode-count")
	f := newFlood()
	before := inUse()
	statuses := f.send(t, s, 200, "/payments/encode", bodyOf(10_000, "{}"), func() {
		if grown := inUse() - before; grown > 32<<20 {
			t.Errorf("%d MiB in use", grown>>20)
		}
	})
	if statuses[http.StatusRequestEntityTooLarge] != 200 {
		t.Errorf("statuses %v", statuses)
	}
	if n := backend.Fake("a").Counts().WrapItems; n != 0 {
		t.Errorf("%d wraps", n)
	}
	if w := serve(s, post(t, "/payments/encode", strings.NewReader(bodyOf(defaultLimits.EncodePayloads, "{}")))); w.Code != http.StatusOK {
		t.Errorf("the largest: %d %s", w.Code, w.Body)
	}
}

// What all encode requests together have a KMS wrap is bounded too.
func TestEncodeFloodCostsFewWraps(t *testing.T) {
	const ahead = 256 // data keys that a Sealer has wrapped ahead of need
	backend := kmstest.NewBackend()
	f := newFlood()
	s := newServer(t, Config{Codec: stoppedCodec{realCodec(t, testPolicy, backend), f.stop}})
	statuses := f.send(t, s, 200, "/payments/encode", bodyOf(defaultLimits.EncodePayloads, "{}"), func() {
		if n := backend.Fake("a").Counts().WrapItems; n < defaultLimits.Sealing || n > defaultLimits.Sealing+ahead {
			t.Errorf("%d wraps, want about %d", n, defaultLimits.Sealing)
		}
	})
	sealed := defaultLimits.Sealing / defaultLimits.EncodePayloads
	if statuses[http.StatusOK] != sealed || statuses[http.StatusServiceUnavailable] != 200-sealed {
		t.Errorf("statuses %v", statuses)
	}
	if s.sealing.taken.Load() != 0 || s.held.taken.Load() != 0 {
		t.Errorf("%d payloads and %d bytes are still taken", s.sealing.taken.Load(), s.held.taken.Load())
	}
	s.sealing.take(int64(defaultLimits.Sealing))
	wantProblem(t, serve(s, post(t, "/payments/encode", strings.NewReader(hiJSON))), "sealing-full")
}

// What is documented as the memory of all requests together is what they have in use.
func TestFloodsKeepToTheDocumentedMemory(t *testing.T) {
	const (
		held    = 4 << 20
		allowed = memoryPerHeld * held
		beside  = 12 << 20 // the data-key cache, data keys ahead, the test's own bodies
		count   = 200
	)
	backend := kmstest.NewBackend()
	shipped := realCodec(t, testPolicy, backend)
	small := bodyOf(1000, "{}")
	for _, tc := range []struct {
		name, target, body string
		inCodec            bool
	}{
		{"encode empty payloads, in the codec", "/payments/encode", small, true},
		{"encode empty payloads", "/payments/encode", small, false},
		{"encode large payloads", "/payments/encode", bodyOf(2, `{"data":"`+strings.Repeat("QUFB", 100_000)+`"}`), true},
		{"encode metadata", "/payments/encode", bodyOf(500, `{"metadata":{"a":"","b":"","c":""}}`), true},
		{"encode what is sealed", "/payments/encode", encodeIn(t, newServer(t, Config{Codec: shipped}), "payments", small), true},
		{"decode empty payloads", "/decode", bodyOf(10_000, "{}"), false},
		{"decode sealed ones", "/decode", encodeIn(t, newServer(t, Config{Codec: shipped}), "payments", small), false},
		{"decode what claims to be sealed", "/decode", bodyOf(5000, `{"metadata":{"encoding":"YmluYXJ5L3dheHNlYWw="}}`), false},
		{"decode forged ones", "/decode", bodyOf(5000, `{"metadata":{"encoding":"YmluYXJ5L3dheHNlYWw=","encryption-key-id":"ZmFrZTovL2E="},"data":"AAAA"}`), false},
		{"decode plaintext where it is refused", "/guarded/decode", bodyOf(5000, "{}"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFlood()
			var codec Codec = shipped
			if tc.inCodec {
				codec = stoppedCodec{shipped, f.stop}
			}
			s := newServer(t, Config{Codec: codec, Limits: Limits{HeldBytes: held, BodyBytes: held, Sealing: 1 << 20}})
			before := inUse()
			statuses := f.send(t, s, count, tc.target, tc.body, func() {
				grown, counted := inUse()-before, memoryPerHeld*s.held.taken.Load()
				t.Logf("%.1f MiB in use, %.1f counted", float64(grown)/(1<<20), float64(counted)/(1<<20))
				if grown > allowed+beside {
					t.Errorf("%d MiB in use, documented %d", grown>>20, allowed>>20)
				}
			})
			if statuses[http.StatusOK] == 0 || statuses[http.StatusServiceUnavailable] == 0 {
				t.Errorf("statuses %v: this proves little", statuses)
			}
		})
	}
}
