package codec_test

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/codec/internal/temporaltest"
)

// The scripted server, under the names that the tests of this package use.

type secrets struct{ *temporaltest.Secrets }

func newSecrets(r *rand.Rand) *secrets { return &secrets{temporaltest.NewSecrets(r)} }

func (s *secrets) of(call int, what string) string { return s.Of(call, what) }

func (s *secrets) find(b []byte) string { return s.Find(b) }

type wireServer struct {
	*temporaltest.Server

	addr    string
	secrets *secrets
}

func startWireServer(t *testing.T, s *secrets, opener *codec.Codec) *wireServer {
	t.Helper()
	w := temporaltest.Start(t, s.Secrets, opener)
	return &wireServer{Server: w, addr: w.Addr, secrets: s}
}

func (w *wireServer) queue(kind, taskQueue string) chan proto.Message {
	return w.Queue(kind, taskQueue)
}

func (w *wireServer) hasOpened(secret string) bool { return w.HasOpened(secret) }

func (w *wireServer) leak(format string, args ...any) { w.Leak(format, args...) }

var findPayloads = temporaltest.EachPayload
