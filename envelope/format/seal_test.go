package format_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/envelope/format"
)

// mustSeal seals plaintext for an AWS-sized recipient in the default namespace.
func mustSeal(t *testing.T, dataKey, plaintext []byte) []byte {
	t.Helper()
	sealed, err := format.Seal(dataKey, awsRecipients(), inDefault, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func mustParse(t *testing.T, b []byte) *format.Envelope {
	t.Helper()
	e, err := format.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// invalid is an argument of Seal that it must refuse.
type invalid struct {
	name       string
	header     format.Header
	recipients []format.Recipient
	want       error
	field      string
}

func namedClaims(names ...string) format.Header {
	h := format.Header{Namespace: "default"}
	for _, name := range names {
		h.Claims = append(h.Claims, format.Claim{Name: name, Value: "v"})
	}
	return h
}

func invalidHeaders() []invalid {
	value := func(v string) format.Header {
		return format.Header{Namespace: "default", Claims: []format.Claim{{Name: "n", Value: v}}}
	}
	many := make([]string, format.MaxClaims+1)
	for i := range many {
		many[i] = "claim" + string(rune('a'+i))
	}
	return []invalid{
		{name: "no namespace", header: format.Header{}, want: format.ErrMalformed, field: "namespace"},
		{name: "long namespace", header: format.Header{Namespace: strings.Repeat("n", format.MaxNamespace+1)}, want: format.ErrLimit, field: "namespace"},
		{name: "namespace with a line feed", header: format.Header{Namespace: canary + "\n"}, want: format.ErrMalformed, field: "namespace"},
		{name: "namespace not UTF-8", header: format.Header{Namespace: canary + "\xff"}, want: format.ErrMalformed, field: "namespace"},
		{name: "claim without name", header: namedClaims(""), want: format.ErrMalformed, field: "claims[0].name"},
		{name: "claim with a long name", header: namedClaims(strings.Repeat("n", format.MaxClaimName+1)), want: format.ErrLimit, field: "claims[0].name"},
		{name: "claim with a NUL in its name", header: namedClaims("\x00" + canary), want: format.ErrMalformed, field: "claims[0].name"},
		{name: "claim name reserved", header: namedClaims("namespace"), want: format.ErrMalformed, field: "claims[0].name"},
		{name: "claims out of order", header: namedClaims("b", "a"), want: format.ErrMalformed, field: "claims[1].name"},
		{name: "claim twice", header: namedClaims("a", "b", "b"), want: format.ErrMalformed, field: "claims[2].name"},
		{name: "too many claims", header: namedClaims(many...), want: format.ErrLimit, field: "claims"},
		{name: "claim with a long value", header: value(strings.Repeat("v", format.MaxClaimValue+1)), want: format.ErrLimit, field: "claims[0].value"},
		{name: "claim value with an escape", header: value(canary + "\x1b"), want: format.ErrMalformed, field: "claims[0].value"},
		{name: "claim value not UTF-8", header: value(canary + "\xc3"), want: format.ErrMalformed, field: "claims[0].value"},
		{name: "unknown compression", header: format.Header{Namespace: "default", Compression: 2}, want: format.ErrUnsupported, field: "compression"},
	}
}

func invalidRecipients() []invalid {
	with := func(id string) format.Recipient {
		return format.Recipient{KeyID: id, WrappedKey: []byte(canary)}
	}
	return []invalid{
		{name: "none", want: format.ErrMalformed, field: "recipients"},
		{name: "too many", recipients: manyRecipients(format.MaxRecipients + 1), want: format.ErrLimit, field: "recipients"},
		{name: "no wrapped key", recipients: []format.Recipient{{KeyID: "test://k"}}, want: format.ErrMalformed, field: "recipients[0].wrapped_key"},
		{name: "long wrapped key", recipients: []format.Recipient{{WrappedKey: pattern(format.MaxWrappedKey+1, 1)}}, want: format.ErrLimit, field: "recipients[0].wrapped_key"},
		{name: "long key ID", recipients: []format.Recipient{with(strings.Repeat("k", format.MaxKeyID+1))}, want: format.ErrLimit, field: "recipients[0].key_id"},
		{name: "key ID with a space", recipients: []format.Recipient{with("test://" + canary + " key")}, want: format.ErrMalformed, field: "recipients[0].key_id"},
		{name: "key ID not ASCII", recipients: []format.Recipient{with("test://" + canary + "é")}, want: format.ErrMalformed, field: "recipients[0].key_id"},
		{name: "second not named", recipients: []format.Recipient{with("test://k"), with("")}, want: format.ErrMalformed, field: "recipients[1].key_id"},
		{name: "first not named", recipients: []format.Recipient{with(""), with("test://k")}, want: format.ErrMalformed, field: "recipients[1].key_id"},
	}
}

// checkInvalid checks an error about an argument.
func checkInvalid(t *testing.T, what string, err error, want invalid) {
	t.Helper()
	checkError(t, what, err, want.want)
	var bad *format.Error
	if !errors.As(err, &bad) {
		t.Fatalf("%s: %T is not an *Error", what, err)
	}
	if bad.Field != want.field || bad.Offset != -1 || bad.Hint() == "" {
		t.Errorf("%s: field %q, offset %d, hint %q; want field %q, offset -1, a hint", what, bad.Field, bad.Offset, bad.Hint(), want.field)
	}
	if text := bad.Error() + bad.Hint(); strings.Contains(text, canary) {
		t.Errorf("%s: content in %q", what, text)
	}
}

func TestSealRefusesHeaders(t *testing.T) {
	for _, tt := range invalidHeaders() {
		t.Run(tt.name, func(t *testing.T) {
			checkInvalid(t, "Validate", tt.header.Validate(), tt)
			sealed, err := format.Seal(pattern(32, 1), awsRecipients(), tt.header, hello)
			checkInvalid(t, "Seal", err, tt)
			if sealed != nil {
				t.Error("bytes and an error")
			}
		})
	}
}

func TestSealRefusesRecipients(t *testing.T) {
	for _, tt := range invalidRecipients() {
		t.Run(tt.name, func(t *testing.T) {
			checkInvalid(t, "ValidateRecipients", format.ValidateRecipients(tt.recipients), tt)
			_, err := format.Seal(pattern(32, 1), tt.recipients, inDefault, hello)
			checkInvalid(t, "Seal", err, tt)
			_, err = format.Rewrap(mustSeal(t, pattern(32, 1), hello), tt.recipients)
			checkInvalid(t, "Rewrap", err, tt)
		})
	}
}

func TestSealRefusesDataKeys(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  []byte
	}{{"none", nil}, {"short", pattern(31, 1)}, {"long", pattern(33, 1)}, {"wiped", make([]byte, 32)}} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := format.Seal(tt.key, awsRecipients(), inDefault, hello)
			checkInvalid(t, "Seal", err, invalid{want: format.ErrDataKey, field: "data key"})
		})
	}
}

func TestSealRefusesLongPlaintext(t *testing.T) {
	_, err := format.Seal(pattern(32, 1), awsRecipients(), inDefault, make([]byte, format.MaxPlaintext+1))
	checkInvalid(t, "Seal", err, invalid{want: format.ErrLimit, field: "plaintext"})
}

// TestLargestEnvelope uses every limit to the full at once: the result is
// MaxEnvelope bytes, and one byte more is not even looked at.
func TestLargestEnvelope(t *testing.T) {
	h := format.Header{Namespace: strings.Repeat("n", format.MaxNamespace), Compression: format.CompressionZstd}
	for i := range format.MaxClaims {
		h.Claims = append(h.Claims, format.Claim{
			Name:  strings.Repeat(string(rune('a'+i)), format.MaxClaimName),
			Value: strings.Repeat("v", format.MaxClaimValue),
		})
	}
	recipients := slices.Repeat([]format.Recipient{{
		KeyID: strings.Repeat("k", format.MaxKeyID), WrappedKey: pattern(format.MaxWrappedKey, 1),
	}}, format.MaxRecipients)
	dataKey, plaintext := pattern(32, 1), pattern(format.MaxPlaintext, 2)

	sealed, err := format.Seal(dataKey, recipients, h, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) != format.MaxEnvelope {
		t.Errorf("%d bytes, want MaxEnvelope = %d", len(sealed), format.MaxEnvelope)
	}
	e := mustParse(t, sealed)
	if diff := cmp.Diff(h, e.Header); diff != "" {
		t.Errorf("header (-sealed +parsed):\n%s", diff)
	}
	opened, err := e.Open(dataKey)
	if err != nil || !bytes.Equal(opened, plaintext) {
		t.Errorf("Open: %d bytes, error %v", len(opened), err)
	}
	_, err = format.Parse(append(sealed, 0))
	var bad *format.Error
	if !errors.Is(err, format.ErrLimit) || !errors.As(err, &bad) || bad.Field != "envelope" {
		t.Errorf("one byte more: %v", err)
	}
}

// TestOverhead pins what an envelope adds for one AWS-sized recipient if the
// container names its key. docs/format.md quotes these numbers.
func TestOverhead(t *testing.T) {
	for _, tt := range []struct {
		name      string
		plaintext int
		want      int
	}{
		{"up to 99 bytes", 99, 285},
		{"from 100 bytes", 100, 286},
		{"up to 16355 bytes", 16355, 286},
		{"from 16356 bytes", 16356, 287},
		{"up to 2097123 bytes", 2097123, 287},
		{"from 2097124 bytes", 2097124, 288},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sealed := mustSeal(t, pattern(32, 1), pattern(tt.plaintext, 2))
			if got := len(sealed) - tt.plaintext; got != tt.want {
				t.Errorf("overhead of %d bytes, want %d", got, tt.want)
			}
		})
	}
}

// TestSealIsRandomized seals the same thing twice: salt, commitment, nonce and
// ciphertext all differ.
func TestSealIsRandomized(t *testing.T) {
	dataKey := pattern(32, 1)
	a, b := mustParse(t, mustSeal(t, dataKey, hello)), mustParse(t, mustSeal(t, dataKey, hello))
	if a.Salt == b.Salt || a.Commitment == b.Commitment {
		t.Error("salt or commitment repeats")
	}
	ca, cb := format.Ciphertext(a), format.Ciphertext(b)
	if bytes.Equal(ca[:format.NonceSize], cb[:format.NonceSize]) || bytes.Equal(ca[format.NonceSize:], cb[format.NonceSize:]) {
		t.Error("nonce or ciphertext repeats")
	}
}

// TestArgumentsAreNotChanged seals, opens and rewraps, and compares every
// argument with a copy made before.
func TestArgumentsAreNotChanged(t *testing.T) {
	dataKey, plaintext, recipients := pattern(32, 1), pattern(500, 2), awsRecipients()
	sealed, err := format.Seal(dataKey, recipients, inDefault, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	original := bytes.Clone(sealed)
	opened, err := mustParse(t, sealed).Open(dataKey)
	if err != nil {
		t.Fatal(err)
	}
	clear(opened) // it is the caller's: nothing else may change
	if _, err := format.Rewrap(sealed, manyRecipients(2)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dataKey, pattern(32, 1)) || !bytes.Equal(plaintext, pattern(500, 2)) || !bytes.Equal(sealed, original) {
		t.Error("data key, plaintext or envelope changed")
	}
	if diff := cmp.Diff(awsRecipients(), recipients); diff != "" {
		t.Errorf("recipients changed:\n%s", diff)
	}
}

// TestSealAllocatesItsOutputOnce checks the size that Seal computes beforehand: a
// slice that grew would have spare capacity.
func TestSealAllocatesItsOutputOnce(t *testing.T) {
	for _, v := range loadVectors(t) {
		if !v.opens() {
			continue
		}
		sealed, err := format.Seal(v.dataKey, v.recipients, v.header, make([]byte, v.plaintextSize))
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != len(v.envelope) || cap(sealed) != len(sealed) {
			t.Errorf("%s: %d bytes in a slice of %d, want %d", v.name, len(sealed), cap(sealed), len(v.envelope))
		}
	}
}

// TestConcurrentUse has the race detector watch one envelope used by many.
func TestConcurrentUse(t *testing.T) {
	dataKey, plaintext := pattern(32, 1), pattern(500, 2)
	sealed := mustSeal(t, dataKey, plaintext)
	e := mustParse(t, sealed)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := e.Open(dataKey); err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("Open: %v", err)
			}
			if !e.CommitsTo(dataKey) {
				t.Error("CommitsTo = false")
			}
			if _, err := format.Rewrap(sealed, manyRecipients(2)); err != nil {
				t.Errorf("Rewrap: %v", err)
			}
			if _, err := format.Seal(dataKey, e.Recipients, e.Header, plaintext); err != nil {
				t.Errorf("Seal: %v", err)
			}
		})
	}
	wg.Wait()
}
