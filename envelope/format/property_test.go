package format_test

import (
	"bytes"
	"cmp"
	"slices"
	"testing"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waxseal/waxseal/envelope/format"
)

// printableASCII is what a key ID is made of.
var printableASCII = &unicode.RangeTable{R16: []unicode.Range16{{Lo: '!', Hi: '~', Stride: 1}}, LatinOffset: 1}

// genText generates UTF-8 without control characters, of least to most bytes.
func genText(least, most int) *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom(nil, unicode.Letter, unicode.Digit, unicode.Punct, unicode.So), least, most, most)
}

func genHeader(t *rapid.T) format.Header {
	claims := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) format.Claim {
		return format.Claim{
			Name:  genText(1, format.MaxClaimName).Filter(func(s string) bool { return s != "namespace" }).Draw(t, "name"),
			Value: genText(1, format.MaxClaimValue).Draw(t, "value"),
		}
	}), 0, format.MaxClaims, func(c format.Claim) string { return c.Name }).Draw(t, "claims")
	slices.SortFunc(claims, func(a, b format.Claim) int { return cmp.Compare(a.Name, b.Name) })
	if len(claims) == 0 {
		claims = nil
	}
	return format.Header{
		Namespace:   genText(1, format.MaxNamespace).Draw(t, "namespace"),
		Claims:      claims,
		Compression: format.Compression(rapid.Uint32Range(0, 1).Draw(t, "compression")),
	}
}

func genRecipients(t *rapid.T, label string) []format.Recipient {
	named := rapid.Bool().Draw(t, label+" named")
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) format.Recipient {
		r := format.Recipient{WrappedKey: rapid.SliceOfN(rapid.Byte(), 1, format.MaxWrappedKey).Draw(t, "wrapped key")}
		if named {
			r.KeyID = rapid.StringOfN(rapid.RuneFrom(nil, printableASCII), 1, format.MaxKeyID, -1).Draw(t, "key ID")
		}
		return r
	}), 1, format.MaxRecipients).Draw(t, label)
}

// genDataKey generates a data key other than the wiped one.
func genDataKey(t *rapid.T) []byte {
	return rapid.SliceOfN(rapid.Byte(), format.DataKeySize, format.DataKeySize).
		Filter(func(b []byte) bool { return !bytes.Equal(b, make([]byte, format.DataKeySize)) }).Draw(t, "data key")
}

func TestRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dataKey, header, recipients := genDataKey(t), genHeader(t), genRecipients(t, "recipients")
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "plaintext")

		sealed, err := format.Seal(dataKey, recipients, header, plaintext)
		if err != nil {
			t.Fatalf("Seal: %v", err)
		}
		e, err := format.Parse(sealed)
		if err != nil {
			t.Fatalf("Parse: %v", err)
		}
		if diff := gocmp.Diff(header, e.Header); diff != "" {
			t.Fatalf("header (-sealed +parsed):\n%s", diff)
		}
		if diff := gocmp.Diff(recipients, e.Recipients); diff != "" {
			t.Fatalf("recipients (-sealed +parsed):\n%s", diff)
		}
		if e.Suite != format.Suite1 || e.PlaintextSize() != len(plaintext) || e.CiphertextSize() != len(plaintext)+format.CiphertextOverhead {
			t.Fatalf("suite %d, plaintext size %d, ciphertext size %d", e.Suite, e.PlaintextSize(), e.CiphertextSize())
		}
		if !e.CommitsTo(dataKey) {
			t.Fatal("does not commit to its data key")
		}
		opened, err := e.Open(dataKey)
		if err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("Open: %d bytes, error %v", len(opened), err)
		}
		independent, err := specOpen(sealed, dataKey)
		if err != nil || !bytes.Equal(independent, plaintext) {
			t.Fatalf("decoder from the specification: %d bytes, error %v", len(independent), err)
		}
	})
}

func TestRewrapProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dataKey, header := genDataKey(t), genHeader(t)
		before, after := genRecipients(t, "before"), genRecipients(t, "after")
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "plaintext")
		sealed, err := format.Seal(dataKey, before, header, plaintext)
		if err != nil {
			t.Fatalf("Seal: %v", err)
		}
		original := bytes.Clone(sealed)
		rewrapped, err := format.Rewrap(sealed, after)
		if err != nil {
			t.Fatalf("Rewrap: %v", err)
		}
		if !bytes.Equal(sealed, original) {
			t.Fatal("Rewrap changed its input")
		}
		old, err := format.Parse(sealed)
		if err != nil {
			t.Fatal(err)
		}
		e, err := format.Parse(rewrapped)
		if err != nil {
			t.Fatalf("Parse: %v", err)
		}
		if diff := gocmp.Diff(after, e.Recipients); diff != "" {
			t.Fatalf("recipients (-given +parsed):\n%s", diff)
		}
		if !bytes.Equal(format.Protected(e), format.Protected(old)) || !bytes.Equal(format.Ciphertext(e), format.Ciphertext(old)) {
			t.Fatal("protected or ciphertext changed")
		}
		if opened, err := e.Open(dataKey); err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("Open: %v", err)
		}
		back, err := format.Rewrap(rewrapped, before)
		if err != nil || !bytes.Equal(back, sealed) {
			t.Fatalf("rewrapped back it differs, or error %v", err)
		}
	})
}
