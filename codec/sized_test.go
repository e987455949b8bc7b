package codec_test

import (
	"context"
	"crypto/rand"
	"net/url"

	"github.com/waxseal/waxseal/kms"
)

// sizedBackend opens a key with wrapped keys and an ID of the sizes of a vendor's. It wraps and
// never unwraps.
type sizedBackend struct {
	id      string
	blobLen int
}

func (sizedBackend) Scheme() string                                    { return "awskms" }
func (b sizedBackend) Open(context.Context, *url.URL) (kms.Key, error) { return b, nil }
func (b sizedBackend) ID() string                                      { return b.id }

func (b sizedBackend) Wrap(_ context.Context, dataKeys [][]byte, _ kms.Context) ([]kms.Wrapped, error) {
	out := make([]kms.Wrapped, len(dataKeys))
	for i := range out {
		out[i].Blob = make([]byte, b.blobLen)
		_, _ = rand.Read(out[i].Blob)
	}
	return out, nil
}

func (b sizedBackend) Unwrap(context.Context, []kms.Wrapped, kms.Context) ([]kms.Unwrapped, error) {
	return nil, &kms.Error{Class: kms.Unavailable, Op: "unwrap", KeyID: b.id}
}
