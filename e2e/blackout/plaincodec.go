package blackout

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/kms"
)

const (
	plainEncoding = "binary/encrypted-plainly"
	plainKey      = "wrapped-key"
	plainVersion  = "key-version"
	// plainTimeout is for one call of its KMS, as long as Waxseal gives an attempt.
	plainTimeout = 2 * time.Second
)

// plainCodec is the control, written like the public samples. It has the KMS wrap or
// unwrap a data key for each payload and returns the errors.
type plainCodec struct{ key kms.Key }

var _ converter.PayloadCodec = plainCodec{}

// newPlainConverter returns a data converter with a plain codec. The SDK's deadlock
// detector is off, as the SDK's documentation requires for codecs that call a server.
func newPlainConverter(key kms.Key) converter.DataConverter {
	return workflow.DataConverterWithoutDeadlockDetection(converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), plainCodec{key}))
}

// Encode implements converter.PayloadCodec.
func (c plainCodec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		sealed, err := c.seal(p)
		if err != nil {
			return payloads, fmt.Errorf("plain codec: %w", err)
		}
		out[i] = sealed
	}
	return out, nil
}

// Decode implements converter.PayloadCodec.
func (c plainCodec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		opened, err := c.open(p)
		if err != nil {
			return payloads, fmt.Errorf("plain codec: %w", err)
		}
		out[i] = opened
	}
	return out, nil
}

func (c plainCodec) seal(p *commonpb.Payload) (*commonpb.Payload, error) {
	ctx, cancel := context.WithTimeout(context.Background(), plainTimeout)
	defer cancel()
	dataKey := make([]byte, kms.DataKeySize)
	_, _ = rand.Read(dataKey) // never fails
	wrapped, err := c.key.Wrap(ctx, [][]byte{dataKey}, nil)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(dataKey)
	if err != nil {
		return nil, err
	}
	plaintext, err := proto.Marshal(p)
	if err != nil {
		return nil, err
	}
	return &commonpb.Payload{
		Metadata: map[string][]byte{
			converter.MetadataEncoding: []byte(plainEncoding),
			plainKey:                   wrapped[0].Blob,
			plainVersion:               []byte(wrapped[0].Version),
		},
		Data: aead.Seal(nil, nil, plaintext, nil), //nolint:gosec // it takes no nonce: it makes one
	}, nil
}

func (c plainCodec) open(p *commonpb.Payload) (*commonpb.Payload, error) {
	if string(p.GetMetadata()[converter.MetadataEncoding]) != plainEncoding {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), plainTimeout)
	defer cancel()
	unwrapped, err := c.key.Unwrap(ctx, []kms.Wrapped{{Blob: p.GetMetadata()[plainKey], Version: string(p.GetMetadata()[plainVersion])}}, nil)
	if err == nil {
		err = unwrapped[0].Err
	}
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(unwrapped[0].DataKey)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, p.GetData(), nil)
	if err != nil {
		return nil, errors.New("the payload is not what was sealed")
	}
	out := new(commonpb.Payload)
	return out, proto.Unmarshal(plaintext, out)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
