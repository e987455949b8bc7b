package temporaltest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
)

// Server is an honest Temporal server for tests. It looks for secrets in the bytes of every
// request of any method, and notes which secrets come out of envelopes.
type Server struct {
	Answers

	Addr    string
	Secrets *Secrets
	opener  *codec.Codec // a healthy one

	mu     sync.Mutex
	leaks  []string
	opened map[string]bool // secrets that came out of envelopes
}

// Start starts a server that looks for s in every request, and opens envelopes with opener, a
// healthy codec. It stops when the test ends.
func Start(t *testing.T, s *Secrets, opener *codec.Codec) *Server {
	t.Helper()
	w := &Server{Secrets: s, opener: opener, opened: make(map[string]bool)}
	w.Addr = Listen(t, w)
	return w
}

// Receive implements Handler.
func (w *Server) Receive(ctx context.Context, r Request) {
	if where := w.Secrets.Find([]byte(fmt.Sprint(r.Metadata))); where != "" {
		w.Leak("%s: %s in its gRPC metadata", r.Method, where)
	}
	if where := w.Secrets.Find(r.Raw); where != "" {
		w.Leak("%s: %s", r.Method, where)
	}
	if err := w.open(ctx, r.Message); err != nil {
		w.Leak("%s: %v", r.Method, err)
	}
}

// Leaks returns the leaks that the server found, in order.
func (w *Server) Leaks() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.leaks)
}

// Leak notes a leak that was found elsewhere than in a request.
func (w *Server) Leak(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaks = append(w.leaks, fmt.Sprintf(format, args...))
}

// open opens all payloads of a request, and notes the secrets in them.
func (w *Server) open(ctx context.Context, req proto.Message) error {
	found := make(map[string]bool)
	err := EachPayload(req.ProtoReflect(), "", func(field string, p *commonpb.Payload) error {
		if field == "temporal.api.common.v1.SearchAttributes.indexed_fields" {
			return nil
		}
		d := w.opener.Decode(ctx, codec.DecodeOptions{}, []*commonpb.Payload{p})[0]
		if d.Err != nil || !d.Sealed {
			return fmt.Errorf("%s: sealed %v, %w", field, d.Sealed, d.Err)
		}
		b, err := proto.Marshal(d.Payload)
		if err != nil {
			return err
		}
		for _, s := range w.Secrets.All(b) {
			found[s] = true
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range found {
		w.opened[s] = true
	}
	return err
}

// ForgetOpened forgets which secrets came out of envelopes so far.
func (w *Server) ForgetOpened() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.opened)
}

// HasOpened reports whether a secret came out of an envelope.
func (w *Server) HasOpened(secret string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened[secret]
}
