package sealed

import (
	"bytes"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/envelope/format"
)

// envelope returns a payload that parses, under one key.
func envelope(t *testing.T) *commonpb.Payload {
	t.Helper()
	b, err := format.Seal(bytes.Repeat([]byte{1}, format.DataKeySize), []format.Recipient{{WrappedKey: []byte("wrapped")}}, format.Header{Namespace: "n"}, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	return New(b, []string{"fake://a"})
}

func TestWellFormed(t *testing.T) {
	good := envelope(t)
	if !Claims(good) || !Bare(good) || !WellFormed(good) || len(KeyIDs(good)) != 1 {
		t.Fatalf("an envelope: claims %v, bare %v, well formed %v, keys %q", Claims(good), Bare(good), WellFormed(good), KeyIDs(good))
	}
	for name, alter := range map[string]func(*commonpb.Payload){
		"another encoding":   func(p *commonpb.Payload) { p.Metadata["encoding"] = []byte("json/plain") },
		"more metadata":      func(p *commonpb.Payload) { p.Metadata["note"] = []byte("plain") },
		"no keys":            func(p *commonpb.Payload) { delete(p.Metadata, MetadataKeyIDs) },
		"two keys for one":   func(p *commonpb.Payload) { p.Metadata[MetadataKeyIDs] = []byte("fake://a fake://b") },
		"line breaks":        func(p *commonpb.Payload) { p.Metadata[MetadataKeyIDs] = []byte("fake://a\n") },
		"cut short":          func(p *commonpb.Payload) { p.Data = p.GetData()[:len(p.GetData())-1] },
		"no envelope at all": func(p *commonpb.Payload) { p.Data = []byte("plain") },
		"unknown fields":     func(p *commonpb.Payload) { p.ProtoReflect().SetUnknown([]byte{0xf8, 0x7f, 1}) },
	} {
		p := proto.CloneOf(good)
		if alter(p); WellFormed(p) {
			t.Errorf("%s: well formed", name)
		}
	}
}

func TestIsStorageReference(t *testing.T) {
	ref := func(encoding, kind, data string) *commonpb.Payload {
		return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(encoding), "messageType": []byte(kind)}, Data: []byte(data)}
	}
	const kind = "temporal.api.sdk.v1.ExternalStorageReference"
	for name, tc := range map[string]struct {
		p    *commonpb.Payload
		want bool
	}{
		"a reference":          {ref("json/protobuf", kind, `{"driverName":"s3"}`), true},
		"of an older SDK":      {ref("json/external-storage-reference", "", `{}`), true},
		"of another type":      {ref("json/protobuf", "temporal.api.common.v1.Payload", `{"driverName":"s3"}`), false},
		"without a driver":     {ref("json/protobuf", kind, `{}`), false},
		"with what it has not": {ref("json/protobuf", kind, `{"amount":7}`), false},
		"in another encoding":  {ref("json/plain", kind, `{"driverName":"s3"}`), false},
		"nothing":              {nil, false},
		"an envelope":          {envelope(t), false},
	} {
		if got := IsStorageReference(tc.p); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
