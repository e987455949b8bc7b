package format_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/envelope/format"
)

const (
	specification = "../../docs/format.md"
	exampleBegin  = "<!-- worked-example:begin"
	exampleEnd    = "<!-- worked-example:end -->"
)

// annotated is a dump of an envelope, in pieces with their meaning.
type annotated struct {
	dump  strings.Builder
	bytes []byte
}

// piece appends b, 16 bytes a line, its meaning on the first line.
func (a *annotated) piece(meaning string, b []byte) {
	for len(b) > 0 {
		n := min(len(b), 16)
		line := fmt.Sprintf("%3d  %-34s%s", len(a.bytes), hex.EncodeToString(b[:n]), meaning)
		a.dump.WriteString(strings.TrimRight(line, " ") + "\n")
		a.bytes = append(a.bytes, b[:n]...)
		b, meaning = b[n:], ""
	}
}

// tagged appends a tag and a one-byte length, then the value.
func (a *annotated) tagged(tag byte, name string, value []byte, meaning string) {
	a.piece(fmt.Sprintf("%s, %d bytes", name, len(value)), []byte{tag, byte(len(value))})
	a.piece(meaning, value)
}

// workedExample writes section 12 from the vector and its parts, and not from
// its envelope, so that every byte is explained.
func workedExample(t *testing.T, v *vector) string {
	t.Helper()
	e := mustParse(t, v.envelope)
	wrapped, claim, ciphertext := v.recipients[0].WrappedKey, v.header.Claims[0], format.Ciphertext(e)
	text := ciphertext[format.NonceSize : len(ciphertext)-format.TagSize]

	var a annotated
	a.piece(fmt.Sprintf("Envelope.recipients, %d bytes", 2+len(wrapped)), []byte{0x0a, byte(2 + len(wrapped))})
	a.tagged(0x12, "Recipient.wrapped_key", wrapped, `"`+string(wrapped)+`"`)
	a.piece(fmt.Sprintf("Envelope.protected, %d bytes", len(format.Protected(e))), []byte{0x12, byte(len(format.Protected(e)))})
	a.piece("Protected.suite: 1", []byte{0x08, 0x01})
	a.tagged(0x12, "Protected.salt", v.salt, "")
	a.tagged(0x1a, "Protected.commitment", v.commitment, "")
	a.tagged(0x22, "Protected.namespace", []byte(v.header.Namespace), `"`+v.header.Namespace+`"`)
	a.piece(fmt.Sprintf("Protected.claims, %d bytes", 4+len(claim.Name)+len(claim.Value)), []byte{0x2a, byte(4 + len(claim.Name) + len(claim.Value))})
	a.tagged(0x0a, "Claim.name", []byte(claim.Name), `"`+claim.Name+`"`)
	a.tagged(0x12, "Claim.value", []byte(claim.Value), `"`+claim.Value+`"`)
	a.piece(fmt.Sprintf("Envelope.ciphertext, %d bytes", len(ciphertext)), []byte{0x1a, byte(len(ciphertext))})
	a.piece("nonce", ciphertext[:format.NonceSize])
	a.piece("ciphertext", text)
	a.piece("tag", ciphertext[len(ciphertext)-format.TagSize:])
	if !bytes.Equal(a.bytes, v.envelope) {
		t.Fatalf("the pieces make\n%x\nnot\n%x", a.bytes, v.envelope)
	}

	var out strings.Builder
	block := func(title, body string) { fmt.Fprintf(&out, "\n%s\n\n```\n%s```\n", title, body) }
	block("The data key, and what is derived from it:",
		fmt.Sprintf("data key    %x\ninfo        %x\npayload key %x\ncommitment  %x\n", v.dataKey, append([]byte("waxseal/v1"), v.salt...), v.payloadKey, v.commitment))
	block(fmt.Sprintf("The plaintext, %d bytes:", v.plaintextSize), fmt.Sprintf("%x\n", v.plaintext))
	block("The associated data, which is the value of `protected`:", wrapHex(format.Protected(e)))
	block(fmt.Sprintf("The envelope, %d bytes, with the offset of each line:", len(v.envelope)), a.dump.String())
	return out.String() + "\n"
}

// wrapHex returns b in hexadecimal digits, 32 bytes a line.
func wrapHex(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(len(b), 32)
		fmt.Fprintf(&out, "%x\n", b[:n])
		b = b[n:]
	}
	return out.String()
}

// TestWorkedExample compares the example in the specification with the vector;
// with -update it writes the example.
func TestWorkedExample(t *testing.T) {
	want := workedExample(t, loadVector(t, "worked-example"))
	doc, err := os.ReadFile(specification)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := bytes.Index(doc, []byte(exampleBegin)), bytes.Index(doc, []byte(exampleEnd))
	if begin < 0 || end < begin {
		t.Fatalf("%s: no worked example", specification)
	}
	begin += bytes.IndexByte(doc[begin:], '\n') + 1
	if *update {
		doc = []byte(string(doc[:begin]) + want + string(doc[end:]))
		if err := os.WriteFile(specification, doc, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := string(doc[begin:end]); got != want {
		t.Errorf("%s has\n%s\nwant\n%s", specification, got, want)
	}
}

// TestSpecificationNumbers compares the numbers in the specification with the
// constants.
func TestSpecificationNumbers(t *testing.T) {
	doc, err := os.ReadFile(specification)
	if err != nil {
		t.Fatal(err)
	}
	number := func(n int) string {
		s := fmt.Sprint(n)
		if n < 10_000 {
			return s
		}
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	}
	for _, want := range []string{
		"| recipients | " + number(format.MaxRecipients) + " |",
		"| `wrapped_key` | " + number(format.MaxWrappedKey) + " |",
		"| `key_id` | " + number(format.MaxKeyID) + " |",
		"| `namespace` | " + number(format.MaxNamespace) + " |",
		"| claims | " + number(format.MaxClaims) + " |",
		"| claim `name` | " + number(format.MaxClaimName) + " |",
		"| claim `value` | " + number(format.MaxClaimValue) + " |",
		"| plaintext, compressed and uncompressed | " + number(format.MaxPlaintext) + " |",
		"| Recipient | " + number(format.MaxRecipient) + " |",
		"| Claim | " + number(format.MaxClaim) + " |",
		"| Protected | " + number(format.MaxProtected) + " |",
		"| Envelope | " + number(format.MaxEnvelope) + " |",
		"| 28 to " + number(format.MaxPlaintext+format.CiphertextOverhead) + " bytes |",
		"1 to " + number(format.MaxKeyID) + " characters",
		"**279 bytes and the length of the namespace** longer than its plaintext: 286 for the namespace `default`",
		"More than " + number(format.MaxEnvelope) + " bytes: refuse",
	} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("%s does not say %q", specification, want)
		}
	}
}
