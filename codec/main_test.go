package codec_test

import (
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onePolicy seals every namespace under fake://a.
const onePolicy = `
keys:
  a: {uri: "fake://a"}
seal:
  - match: {namespace: "*"}
    keys: [a]
`

// newCodec returns a codec for a policy over fake keys.
func newCodec(t testing.TB, yaml string) (*codec.Codec, *kmstest.Backend) {
	t.Helper()
	backend := kmstest.NewBackend()
	return newCodecOn(t, yaml, backend), backend
}

func newCodecOn(t testing.TB, yaml string, backend *kmstest.Backend) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func payload(t testing.TB, value any) *commonpb.Payload {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayload(value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encode(t testing.TB, c *codec.Codec, namespace string, payloads ...*commonpb.Payload) []*commonpb.Payload {
	t.Helper()
	out, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: namespace}, payloads)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantClass(t testing.TB, err error, want kms.Class) {
	t.Helper()
	if err == nil || kms.ClassOf(err) != want {
		t.Fatalf("error %v of class %v, want %v", err, kms.ClassOf(err), want)
	}
}
