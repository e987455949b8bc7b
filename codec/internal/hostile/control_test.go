package hostile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
)

// samplesCodec is the codec of Temporal's samples: AES-GCM under one static key, without
// binding a payload to its place.
type samplesCodec struct{ aead cipher.AEAD }

func newSamplesCodec() samplesCodec {
	block, err := aes.NewCipher([]byte("test-key-test-key-test-key-test!"))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return samplesCodec{aead}
}

const samplesEncoding = "binary/encrypted"

// Encode implements converter.PayloadCodec.
func (c samplesCodec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		b, err := proto.Marshal(p)
		if err != nil {
			return payloads, err
		}
		nonce := make([]byte, c.aead.NonceSize())
		if _, err := rand.Read(nonce); err != nil {
			return payloads, err
		}
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{"encoding": []byte(samplesEncoding), "encryption-key-id": []byte("test")}, Data: c.aead.Seal(nonce, nonce, b, nil),
		}
	}
	return out, nil
}

// Decode implements converter.PayloadCodec.
func (c samplesCodec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()["encoding"]) != samplesEncoding {
			out[i] = p
			continue
		}
		if len(p.GetData()) < c.aead.NonceSize() {
			return payloads, errors.New("ciphertext too short")
		}
		b, err := c.aead.Open(nil, p.GetData()[:c.aead.NonceSize()], p.GetData()[c.aead.NonceSize():], nil)
		if err != nil {
			return payloads, err
		}
		out[i] = new(commonpb.Payload)
		if err := proto.Unmarshal(b, out[i]); err != nil {
			return payloads, err
		}
	}
	return out, nil
}

func samplesConverter() converter.DataConverter {
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), newSamplesCodec())
}

func samplesFailures(dc converter.DataConverter) func(converter.SerializationContext) converter.FailureConverter {
	return func(converter.SerializationContext) converter.FailureConverter {
		return temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc, EncodeCommonAttributes: true})
	}
}

// samplesOpener opens payloads of the samples' codec. It returns no namespace, because they
// have none: that is the fault of this codec.
func samplesOpener(c samplesCodec) func(*commonpb.Payload) ([]byte, string, error) {
	return func(p *commonpb.Payload) ([]byte, string, error) {
		if string(p.GetMetadata()["encoding"]) != samplesEncoding {
			return nil, "", errors.New("not sealed")
		}
		out, err := c.Decode([]*commonpb.Payload{p})
		if err != nil {
			return nil, "", err
		}
		b, err := proto.Marshal(out[0])
		return b, "", err
	}
}
