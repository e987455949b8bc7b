package vaultkms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

func TestParseBlob(t *testing.T) {
	body := base64.StdEncoding.EncodeToString(make([]byte, 60))
	for _, tc := range []struct {
		name, blob, version string
		ok                  bool
	}{
		{"as written", "vault:v1:" + body, "1", true},
		{"many versions", "vault:v1234567890:" + body, "1234567890", true},
		{"padded", "vault:v2:AA==", "2", true},
		{"empty", "", "", false},
		{"prefix alone", "vault:v", "", false},
		{"no version", "vault:v:" + body, "", false},
		{"version 0, which Vault takes for 1", "vault:v0:" + body, "", false},
		{"leading zero", "vault:v01:" + body, "", false},
		{"sign", "vault:v+1:" + body, "", false},
		{"no digit", "vault:v1a:" + body, "", false},
		{"version out of range", "vault:v12345678901:" + body, "", false},
		{"no body", "vault:v1:", "", false},
		{"no colon", "vault:v1" + body, "", false},
		{"upper case", "VAULT:V1:" + body, "", false},
		{"space before", " vault:v1:" + body, "", false},
		{"line break after", "vault:v1:" + body + "\n", "", false},
		{"line break inside", "vault:v1:" + body[:4] + "\r\n" + body[4:], "", false},
		{"no padding", "vault:v1:AA", "", false},
		{"bits in the padding", "vault:v1:AB==", "", false},
		{"URL alphabet", "vault:v1:__--", "", false},
		{"quote", `vault:v1:AAA"`, "", false},
		{"too large", "vault:v1:" + strings.Repeat("AAAA", kms.MaxWrappedSize/4), "", false},
	} {
		if version, ok := parseBlob([]byte(tc.blob)); version != tc.version || ok != tc.ok {
			t.Errorf("%s: %q, %v; want %q, %v", tc.name, version, ok, tc.version, tc.ok)
		}
	}
}

// Whatever is taken for a blob has one spelling, and needs no escaping in JSON.
func FuzzParseBlob(f *testing.F) {
	f.Add([]byte("vault:v1:" + base64.StdEncoding.EncodeToString(make([]byte, 60))))
	f.Add([]byte("vault:v0:AAAA"))
	f.Add([]byte("vault:v1:AA\n=="))
	f.Fuzz(func(t *testing.T, blob []byte) {
		version, ok := parseBlob(blob)
		if !ok {
			return
		}
		body := strings.TrimPrefix(string(blob), blobPrefix+version+":")
		decoded, err := base64.StdEncoding.DecodeString(body)
		if err != nil || blobPrefix+version+":"+base64.StdEncoding.EncodeToString(decoded) != string(blob) {
			t.Errorf("%q has another spelling", blob)
		}
		if quoted, err := json.Marshal(string(blob)); err != nil || string(quoted) != `"`+string(blob)+`"` {
			t.Errorf("%q needs escaping", blob)
		}
	})
}

// Requests are written by hand; encoding/json must read what was meant.
func TestRequestBodies(t *testing.T) {
	type item struct {
		Plaintext      []byte `json:"plaintext"`
		Ciphertext     string `json:"ciphertext"`
		AssociatedData []byte `json:"associated_data"`
		Context        []byte `json:"context"`
		Reference      string `json:"reference"`
	}
	type request struct {
		Type  string `json:"type"`
		Batch []item `json:"batch_input"`
	}
	read := func(body []byte) (r request) {
		t.Helper()
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&r); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return r
	}
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	ec := kms.Context{"namespace": "payments"}
	for _, tc := range []struct {
		name        string
		ec          kms.Context
		derived     bool
		ad, context []byte
	}{
		{"no context", nil, false, nil, nil},
		{"associated data", ec, false, ec.AssociatedData(), nil},
		{"derived without context", nil, true, nil, []byte(noContext)},
		{"derived", ec, true, nil, ec.AssociatedData()},
	} {
		by := bind(tc.ec, tc.derived)
		body := appendEncrypt([][]byte{a, b}, by)
		want := request{Type: mustExist, Batch: []item{
			{Plaintext: a, AssociatedData: tc.ad, Context: tc.context, Reference: "0"}, {Plaintext: b, AssociatedData: tc.ad, Context: tc.context, Reference: "1"},
		}}
		if diff := cmp.Diff(want, read(body)); diff != "" {
			t.Errorf("%s: encrypt (-want +got):\n%s", tc.name, diff)
		}
		body = appendCiphertexts([][]byte{[]byte("vault:v1:AAAA"), []byte("vault:v2:BBBB")}, by)
		want = request{Batch: []item{
			{Ciphertext: "vault:v1:AAAA", AssociatedData: tc.ad, Context: tc.context, Reference: "0"},
			{Ciphertext: "vault:v2:BBBB", AssociatedData: tc.ad, Context: tc.context, Reference: "1"},
		}}
		if diff := cmp.Diff(want, read(body)); diff != "" {
			t.Errorf("%s: decrypt (-want +got):\n%s", tc.name, diff)
		}
		// One allocation: a buffer that was outgrown would keep data keys.
		many := make([][]byte, maxBatch)
		for i := range many {
			many[i] = a
		}
		if n := testing.AllocsPerRun(10, func() { appendEncrypt(many, by) }); n > 1 {
			t.Errorf("%s: an encrypt request takes %v allocations", tc.name, n)
		}
	}
}

// No encryption context is encoded as that which stands for none.
func TestNoContextIsNone(t *testing.T) {
	for _, ec := range []kms.Context{{"": ""}, {"waxseal": " no context"}, {"waxseal: no context": ""}} {
		if string(ec.AssociatedData()) == noContext || ec.AssociatedData()[0] != 0 {
			t.Errorf("%v is encoded as %q", ec, ec.AssociatedData())
		}
	}
}

func TestInOrder(t *testing.T) {
	of := func(references ...string) (out []result) {
		for _, r := range references {
			out = append(out, result{Reference: r})
		}
		return out
	}
	for _, tc := range []struct {
		name string
		in   []result
		want bool
	}{
		{"in order", of("0", "1", "2"), true},
		{"a server without references", of("", "", ""), true},
		{"swapped", of("0", "2", "1"), false},
		{"twice", of("0", "0"), false},
		{"one missing", of("0", "", "2"), false},
		{"first missing", of("", "1"), false},
	} {
		if got := inOrder(tc.in); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// A body that could not be read to its end leaves no data key behind.
func TestParseAnswerWipes(t *testing.T) {
	var a answer
	a.Data.Results = []result{{Plaintext: []byte("secret")}, {}}
	key := a.Data.Results[0].Plaintext
	a.wipe()
	if !bytes.Equal(key, make([]byte, 6)) {
		t.Error("not wiped")
	}
	for _, body := range []string{"", "{", `{"data":{"batch_results":[{"plaintext":"AAAA"},{"plaintext":3}]}}`, `[]`, `{} {}`} {
		if a, err := parseAnswer([]byte(body)); a != nil || !errors.Is(err, errAnswer) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestRequestThatCannotBeMade(t *testing.T) {
	key, err := New(Config{Mount: "transit", Name: "k", Address: "http://127.0.0.1:1", Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("data keys")
	if _, err := key.client.send(t.Context(), request{method: "no method", path: "x", body: body}); err == nil {
		t.Error("no error")
	}
	if !bytes.Equal(body, make([]byte, len(body))) {
		t.Error("the body was not wiped")
	}
	if err := key.Close(); err != nil {
		t.Error(err)
	}
}

func TestTypeIn(t *testing.T) {
	for message, want := range map[string]string{
		"'[0].associated_data' provided for non-AEAD cipher suite rsa-2048": "rsa-2048",
		"message encryption not supported for key type ed25519":             "ed25519",
		"non-AEAD cipher suite somethingnew":                                "",
		"":                                                                  "",
	} {
		if got := typeIn(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
	k := &Key{id: "hashivault://m/k", client: &client{}}
	if text := k.fail(driver.OpWrap, k.wrongType(""), nil).Error(); strings.Contains(text, "type  ") {
		t.Errorf("%q", text)
	}
}
