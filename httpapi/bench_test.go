package httpapi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"net/http"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/gcmtest"
)

// gcmCodec is the least a codec does: AES-256-GCM under one key, and the
// payload marshalled. What a request takes beyond it is HTTP and JSON.
type gcmCodec struct{ aead cipher.AEAD }

func newGCM(b *testing.B) *gcmCodec {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	return &gcmCodec{aead}
}

func (c *gcmCodec) Encode(_ context.Context, _ codec.EncodeOptions, in []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(in))
	for i, p := range in {
		raw, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(sealedEncoding)}, Data: c.aead.Seal(nil, nil, raw, nil)} //nolint:gosec // this AEAD makes its own random nonce
	}
	return out, nil
}

func (c *gcmCodec) Decode(_ context.Context, _ codec.DecodeOptions, in []*commonpb.Payload) []codec.Decoded {
	out := make([]codec.Decoded, len(in))
	for i, p := range in {
		raw, err := c.aead.Open(nil, nil, p.GetData(), nil)
		original := &commonpb.Payload{}
		if err == nil {
			err = proto.Unmarshal(raw, original)
		}
		out[i] = codec.Decoded{Payload: original, Sealed: true, Err: err}
	}
	return out
}

// nothing is a ResponseWriter that keeps nothing.
type nothing struct{ header http.Header }

func (w *nothing) Header() http.Header         { return w.header }
func (w *nothing) Write(p []byte) (int, error) { return len(p), nil }
func (w *nothing) WriteHeader(int)             {}

// benchmarkRoute reports what a request takes, and its ratio to raw AES-GCM of
// the same bytes.
func benchmarkRoute(b *testing.B, route string, body func(*gcmCodec, []*commonpb.Payload) []*commonpb.Payload) {
	for _, shape := range []struct{ payloads, size int }{{1, 64}, {1, 4 << 10}, {1, 1 << 20}, {100, 1 << 10}} {
		b.Run(fmt.Sprintf("%dx%d", shape.payloads, shape.size), func(b *testing.B) {
			gcm := newGCM(b)
			in := make([]*commonpb.Payload, shape.payloads)
			for i := range in {
				in[i] = data(strings.Repeat("x", shape.size))
			}
			request := mustJSON(b, body(gcm, in)...)
			s := newServer(b, Config{Codec: gcm})
			b.SetBytes(int64(shape.payloads * shape.size))
			b.ReportAllocs()
			for b.Loop() {
				w := &nothing{make(http.Header)}
				s.ServeHTTP(w, post(b, route, strings.NewReader(request)))
				if w.header.Get("Content-Type") != applicationJSON {
					b.Fatal("the request failed")
				}
			}
			gcmtest.Report(b, shape.size, shape.payloads)
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	benchmarkRoute(b, "/n/encode", func(_ *gcmCodec, in []*commonpb.Payload) []*commonpb.Payload { return in })
}

func BenchmarkDecode(b *testing.B) {
	benchmarkRoute(b, "/decode", func(c *gcmCodec, in []*commonpb.Payload) []*commonpb.Payload {
		out, err := c.Encode(b.Context(), codec.EncodeOptions{}, in)
		if err != nil {
			b.Fatal(err)
		}
		return out
	})
}
