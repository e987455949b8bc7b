package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

func TestEncodeDecode(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	in := []*commonpb.Payload{
		payload(t, "hi"), payload(t, nil), payload(t, []byte{0, 1}), {}, {Metadata: map[string][]byte{"encoding": nil, "own": {0xff}}, Data: []byte("x")},
	}
	want := make([]*commonpb.Payload, len(in))
	for i, p := range in {
		want[i] = proto.CloneOf(p)
	}
	sealed := encode(t, c, "default", in...)
	if diff := cmp.Diff(want, in, protocmp.Transform()); diff != "" {
		t.Errorf("inputs mutated: %s", diff)
	}
	for i, p := range sealed {
		if !codec.ClaimsSealed(p) || cmp.Diff([]string{"fake://a@1"}, codec.KeyIDs(p)) != "" || len(p.GetMetadata()) != 2 {
			t.Errorf("payload %d: metadata %v", i, p.GetMetadata())
		}
	}
	for i, d := range c.Decode(t.Context(), codec.DecodeOptions{Namespace: "default"}, sealed) {
		if d.Err != nil || !d.Sealed || d.Namespace != "default" {
			t.Errorf("payload %d: %+v", i, d)
		}
		if diff := cmp.Diff(want[i], d.Payload, protocmp.Transform()); diff != "" {
			t.Errorf("payload %d: %s", i, diff)
		}
	}
	if n := backend.Fake("a").Counts().Unwraps; n != 0 {
		t.Errorf("%d unwraps by the process that sealed", n)
	}
}

func TestRoundTripProperty(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	rapid.Check(t, func(rt *rapid.T) {
		in := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) *commonpb.Payload {
			return &commonpb.Payload{
				Metadata: rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Byte())).Draw(rt, "metadata"),
				Data:     rapid.SliceOf(rapid.Byte()).Draw(rt, "data"),
			}
		}), 0, 5).Draw(rt, "payloads")
		sealed, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, in)
		if err != nil {
			rt.Fatal(err)
		}
		again, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, sealed)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(sealed, again, protocmp.Transform()); diff != "" {
			rt.Fatalf("encode is not idempotent: %s", diff)
		}
		for i, d := range c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed) {
			if d.Err != nil || !proto.Equal(d.Payload, in[i]) {
				rt.Fatalf("payload %d: %v", i, d.Err)
			}
		}
	})
}

func TestEmptyAndNull(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	if out, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{}); err != nil || out == nil || len(out) != 0 {
		t.Errorf("empty list: %v, %v", out, err)
	}
	if out := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{}); len(out) != 0 {
		t.Errorf("empty list: %v", out)
	}
	_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1), nil})
	wantClass(t, err, kms.Internal)
	if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{nil}); d[0].Err == nil {
		t.Error("a null payload decodes")
	}
	_, err = c.Encode(t.Context(), codec.EncodeOptions{}, []*commonpb.Payload{payload(t, 1)})
	if err == nil || !strings.Contains(err.Error(), "namespace is not known") {
		t.Errorf("no namespace: %v", err)
	}
}

func TestOverheadOfOneAWSRecipient(t *testing.T) {
	const (
		limit   = 440
		arn     = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
		blobLen = 184 // the size of 32 bytes that AWS KMS encrypted
	)
	id := "awskms:///" + arn
	if len(id) > 90 {
		t.Fatalf("the key ID has %d characters", len(id))
	}
	p, err := policy.Parse("test.yaml", []byte(`{keys: {a: {uri: "awskms:///k"}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(sizedBackend{id: id, blobLen: blobLen})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for _, size := range []int{0, 1, 100, 1000, 100_000, 2 << 20} {
		in := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: make([]byte, size)}
		sealed := encode(t, c, "default", in)[0]
		overhead := proto.Size(sealed) - proto.Size(in)
		t.Logf("%d bytes of data: overhead %d bytes", size, overhead)
		if overhead > limit {
			t.Errorf("%d bytes of data: overhead %d bytes, limit %d", size, overhead, limit)
		}
	}
}

func TestIdempotentEncode(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	sealed := encode(t, c, "n", payload(t, "x"))[0]
	truncated := proto.CloneOf(sealed)
	truncated.Data = truncated.Data[:len(truncated.Data)-1]
	annotated := proto.CloneOf(sealed)
	annotated.Metadata["note"] = []byte("CANARY")
	unknown := proto.CloneOf(sealed)
	unknown.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "CANARY"))
	unnamed := proto.CloneOf(sealed)
	delete(unnamed.Metadata, codec.MetadataKeyIDs)
	other, _ := newCodec(t, onePolicy)
	for _, tc := range []struct {
		name string
		in   *commonpb.Payload
		kept bool
	}{
		{"sealed by us", sealed, true},
		{"sealed by us for another namespace", encode(t, c, "elsewhere", payload(t, "x"))[0], false},
		{"merely says so", &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(codec.Encoding)}, Data: []byte("CANARY")}, false},
		{"truncated", truncated, false},
		{"names no key", unnamed, false},
		{"with plaintext in its metadata", annotated, false},
		{"with plaintext in an unknown field", unknown, false},
		{"sealed under a key of the same name that is not ours", encode(t, other, "n", payload(t, "x"))[0], false},
		{"sealed under a key that is not configured", encodeUnder(t, "b"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := encode(t, c, "n", tc.in)[0]
			if tc.kept != proto.Equal(out, tc.in) {
				t.Errorf("kept: %v", !tc.kept)
			}
			d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{out})[0]
			if d.Err != nil {
				t.Fatal(d.Err)
			}
			if !tc.kept && !proto.Equal(d.Payload, tc.in) {
				t.Error("sealed twice, but opening once does not give the first back")
			}
		})
	}
	t.Run("cannot be opened now", func(t *testing.T) {
		cold := newCodecOn(t, onePolicy, backend)
		backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
		_, err := cold.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{sealed})
		wantClass(t, err, kms.Unavailable)
	})
}

func encodeUnder(t *testing.T, key string) *commonpb.Payload {
	t.Helper()
	c, _ := newCodec(t, strings.ReplaceAll(onePolicy, "fake://a", "fake://"+key))
	return encode(t, c, "n", payload(t, "x"))[0]
}

func TestNamespaceIsChecked(t *testing.T) {
	c, _ := newCodec(t, `
keys: {a: {uri: "fake://a"}}
seal:
  - match: {namespace: "orders"}
    keys: [a]
    accept: ["billing", "tax-*"]
  - match: {namespace: "*"}
    keys: [a]
`)
	for _, tc := range []struct {
		sealed, known string
		ok            bool
	}{
		{"orders", "orders", true},
		{"billing", "orders", true},
		{"tax-de", "orders", true},
		{"hr", "orders", false},
		{"orders", "billing", false},
		{"orders", "", true},
	} {
		d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: tc.known}, encode(t, c, tc.sealed, payload(t, "x")))[0]
		if tc.ok != (d.Err == nil) {
			t.Errorf("sealed for %q, opened in %q: %v", tc.sealed, tc.known, d.Err)
		}
		if d.Err != nil {
			wantClass(t, d.Err, kms.Denied)
			var foreign *codec.NamespaceError
			if !errors.As(d.Err, &foreign) || !strings.Contains(foreign.Hint(), "accept:") || !codec.ClaimsSealed(d.Payload) {
				t.Errorf("error %v, payload %v", d.Err, d.Payload.GetMetadata())
			}
		}
	}
}

func TestRuleIsChosen(t *testing.T) {
	c, _ := newCodec(t, `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}, tenant: {uri: "fake://tenant-{namespace}"}}
seal:
  - {match: {namespace: "both"}, keys: [a, b]}
  - {match: {namespace: "t-*"}, keys: [tenant]}
  - {match: {namespace: "plain"}, keys: [b], compression: zstd}
`)
	for ns, want := range map[string]string{"both": "fake://a@1 fake://b@1", "t-1": "fake://tenant-t-1@1", "t-2": "fake://tenant-t-2@1", "plain": "fake://b@1"} {
		p := encode(t, c, ns, payload(t, strings.Repeat("x", 10_000)))[0]
		if got := string(p.GetMetadata()[codec.MetadataKeyIDs]); got != want {
			t.Errorf("namespace %s: sealed under %s, want %s", ns, got, want)
		}
		if small := len(p.GetData()) < 1000; small != (ns == "plain") {
			t.Errorf("namespace %s: %d bytes", ns, len(p.GetData()))
		}
		if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: ns}, []*commonpb.Payload{p})[0]; d.Err != nil {
			t.Errorf("namespace %s: %v", ns, d.Err)
		}
	}
	_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "nobody"}, []*commonpb.Payload{payload(t, "CANARY")})
	wantClass(t, err, kms.Denied)
	if strings.Contains(err.Error(), "CANARY") {
		t.Error(err)
	}
}

func TestTemplateKeepsTenantsApart(t *testing.T) {
	const yaml = `{keys: {tenant: {uri: "fake://tenant-{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [tenant]}]}`
	c, backend := newCodec(t, yaml)
	sealed := encode(t, c, "a", payload(t, "x"))[0]
	forged := proto.CloneOf(sealed)
	forged.Metadata[codec.MetadataKeyIDs] = []byte("fake://tenant-b@1")
	cold := newCodecOn(t, yaml, backend)
	d := cold.Decode(t.Context(), codec.DecodeOptions{}, []*commonpb.Payload{forged})[0]
	wantClass(t, d.Err, kms.Denied)
	if !errors.Is(d.Err, envelope.ErrNotConfigured) {
		t.Errorf("got %v", d.Err)
	}
	for _, ns := range []string{"a/../b", "..", "a b", "a#b", strings.Repeat("n", 300)} {
		if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: ns}, []*commonpb.Payload{payload(t, "x")}); err == nil {
			t.Errorf("namespace %q was put into a key URI", ns)
		}
	}
}

func TestManyTenantsAreBounded(t *testing.T) {
	c, _ := newCodec(t, `{keys: {tenant: {uri: "fake://t-{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [tenant]}]}`)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 1500 {
				ns := fmt.Sprintf("n%d-%d", w, i)
				sealed, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: ns}, []*commonpb.Payload{payload(t, i)})
				if err != nil {
					t.Error(err)
					return
				}
				if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: ns}, sealed)[0]; d.Err != nil {
					t.Error(d.Err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestRequireSealed(t *testing.T) {
	c, _ := newCodec(t, `
keys: {a: {uri: "fake://a"}}
seal:
  - {match: {namespace: "migrated", workflowType: "Order"}, keys: [a]}
  - {match: {namespace: "migrated"}, keys: [a], requireSealed: true}
  - {match: {namespace: "*"}, keys: [a]}
`)
	for name, p := range map[string]*commonpb.Payload{
		"plaintext": payload(t, "x"),
		// The SDK resolves references before it opens payloads.
		"a reference":                 storageReference(`{"driverName":"s3","claimData":{"key":"k"}}`),
		"what only says it is one":    storageReference(`{"amount":7}`),
		"one of before":               {Metadata: map[string][]byte{"encoding": []byte("json/external-storage-reference")}},
		"an encoding of other codecs": {Metadata: map[string][]byte{"encoding": []byte("binary/encrypted")}, Data: []byte("CANARY")},
	} {
		for ns, ok := range map[string]bool{"migrated": false, "other": true, "": true} {
			d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: ns}, []*commonpb.Payload{p})[0]
			if ok != (d.Err == nil) || d.Sealed || d.Payload != p {
				t.Errorf("%s in namespace %q: %+v", name, ns, d)
			}
			if d.Err != nil {
				wantClass(t, d.Err, kms.Denied)
				wantHint(t, d.Err)
			}
		}
	}
	// The server states which workflow reads: a rule for its type changes nothing.
	forged := converter.WithDataConverterSerializationContext(codec.NewDataConverter(c, "migrated", nil), converter.ActivitySerializationContext{
		Namespace: "migrated", WorkflowID: "w", WorkflowType: "Order", ActivityType: "A", TaskQueue: "q",
	})
	var got string
	if err := forged.FromPayload(payload(t, "x"), &got); err == nil || got != "" {
		t.Errorf("with a workflow type of the server's choice plaintext opens as %q, %v", got, err)
	}
}

func storageReference(data string) *commonpb.Payload {
	return &commonpb.Payload{
		Metadata: map[string][]byte{"encoding": []byte("json/protobuf"), "messageType": []byte("temporal.api.sdk.v1.ExternalStorageReference")},
		Data:     []byte(data),
	}
}

// wantHint checks that an error has a hint.
func wantHint(t *testing.T, err error) {
	t.Helper()
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("no hint: %v", err)
	}
}

func TestClaimsAreRecordedWhereRulesNameThem(t *testing.T) {
	c, backend := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], claims: [workflowId, activityType]}]}`)
	var seen []kms.Context
	backend.Fake("a").Each(func(call kmstest.Call) kmstest.Fault {
		seen = append(seen, call.Context)
		return kmstest.Healthy()
	})
	dc := codec.NewDataConverter(c, "n", nil)
	if _, err := withActivity(dc, "n", "wf-1", "Charge").ToPayload("x"); err != nil {
		t.Fatal(err)
	}
	want := kms.Context{"namespace": "n", "workflowId": "wf-1", "activityType": "Charge"}
	if len(seen) == 0 || cmp.Diff(want, seen[0]) != "" {
		t.Errorf("the KMS saw %v, want %v", seen, want)
	}
}

func TestAlteredPayloads(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	sealed := encode(t, c, "n", payload(t, "CANARY"))[0]
	calls := backend.Fake("a").Counts().Unwraps
	edit := func(f func(p *commonpb.Payload)) *commonpb.Payload {
		p := proto.CloneOf(sealed)
		f(p)
		return p
	}
	for name, p := range map[string]*commonpb.Payload{
		"truncated":         edit(func(p *commonpb.Payload) { p.Data = p.Data[:10] }),
		"empty":             edit(func(p *commonpb.Payload) { p.Data = nil }),
		"last byte":         edit(func(p *commonpb.Payload) { p.Data[len(p.Data)-1] ^= 1 }),
		"appended":          edit(func(p *commonpb.Payload) { p.Data = append(p.Data, 0) }),
		"no key IDs":        edit(func(p *commonpb.Payload) { delete(p.Metadata, codec.MetadataKeyIDs) }),
		"too many key IDs":  edit(func(p *commonpb.Payload) { p.Metadata[codec.MetadataKeyIDs] = []byte("fake://a fake://b") }),
		"endless key IDs":   edit(func(p *commonpb.Payload) { p.Metadata[codec.MetadataKeyIDs] = bytes.Repeat([]byte("a "), 1<<20) }),
		"a space too many":  edit(func(p *commonpb.Payload) { p.Metadata[codec.MetadataKeyIDs] = []byte("fake://a ") }),
		"not a payload":     sealedBytes(t, backend, "n", []byte("\xff\xff not a protobuf message")),
		"another namespace": edit(func(p *commonpb.Payload) { p.Data = bytes.Replace(p.Data, []byte("\"\x01n"), []byte("\"\x01m"), 1) }),
	} {
		t.Run(name, func(t *testing.T) {
			d := c.Decode(t.Context(), codec.DecodeOptions{}, []*commonpb.Payload{p})[0]
			wantClass(t, d.Err, kms.Corrupt)
			if d.Payload != p || !d.Sealed || strings.Contains(d.Err.Error(), "CANARY") {
				t.Errorf("%+v", d)
			}
		})
	}
	if n := backend.Fake("a").Counts().Unwraps - calls; n > 2 {
		t.Errorf("%d unwraps for altered payloads", n)
	}
}

func sealedBytes(t *testing.T, backend *kmstest.Backend, ns string, plaintext []byte) *commonpb.Payload {
	t.Helper()
	s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{backend.Fake("a")}, NamedByContainer: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Seal(t.Context(), envelope.Claims{Namespace: ns}, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return &commonpb.Payload{
		Metadata: map[string][]byte{"encoding": []byte(codec.Encoding), codec.MetadataKeyIDs: []byte(out[0].KeyIDs[0])},
		Data:     out[0].Envelope,
	}
}

func TestKeyNotConfiguredCallsNoKMS(t *testing.T) {
	c, backend := newCodec(t, onePolicy)
	p := encodeUnder(t, "theirs")
	d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{p})[0]
	wantClass(t, d.Err, kms.Denied)
	if !strings.Contains(d.Err.Error(), "fake://theirs") || backend.Fake("a").Counts().Unwraps != 0 || backend.Opened() != 1 {
		t.Errorf("%v; %d keys opened", d.Err, backend.Opened())
	}
}

func TestOneBadPayloadHarmsNoOther(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	sealed := encode(t, c, "n", payload(t, 0), payload(t, 1), payload(t, 2))
	sealed[1].Data = sealed[1].Data[:5]
	out := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, append(sealed, payload(t, "plain")))
	for i, ok := range []bool{true, false, true, true} {
		if ok != (out[i].Err == nil) {
			t.Errorf("payload %d: %v", i, out[i].Err)
		}
	}
}

func TestSlowKMSWithoutADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, backend := newCodec(t, onePolicy)
		sealed := encode(t, c, "n", payload(t, "x"))
		cold := newCodecOn(t, onePolicy, backend)
		backend.Fake("a").Always(kmstest.Stall())
		start := time.Now()
		_, err := cold.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, "x")})
		wantClass(t, err, kms.Unavailable)
		wantClass(t, cold.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed)[0].Err, kms.Unavailable)
		if d := time.Since(start); d > 2*codec.DefaultCallTimeout {
			t.Errorf("gave up after %s", d)
		}
	})
}

func TestOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "waxseal.yaml")
	if err := os.WriteFile(file, []byte(onePolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	registry := kms.NewRegistry(kmstest.NewBackend())
	c, err := codec.Open(t.Context(), file, registry)
	if err != nil {
		t.Fatal(err)
	}
	encode(t, c, "n", payload(t, 1))
	c.Close()
	if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)}); err == nil {
		t.Error("a closed codec seals")
	}
	if _, err := codec.Open(t.Context(), file+".missing", registry); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	for name, yaml := range map[string]string{
		"unknown scheme": strings.ReplaceAll(onePolicy, "fake://a", "nokms://a"),
		"a typo":         strings.ReplaceAll(onePolicy, "seal:", "seel:"),
	} {
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := codec.Open(t.Context(), file, registry); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Log(err)
		}
	}
	if _, err := codec.New(t.Context(), codec.Config{}); err == nil {
		t.Error("an empty Config is accepted")
	}
}
