package format_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/envelope/format"
)

// TestFailedOpenLeavesNoPlaintext looks into the spare capacity of dst after
// authentication failed.
func TestFailedOpenLeavesNoPlaintext(t *testing.T) {
	dataKey, plaintext := pattern(32, 1), bytes.Repeat([]byte(canary), 50)
	sealed := mustSeal(t, dataKey, plaintext)
	sealed[len(sealed)-1] ^= 1
	dst := make([]byte, 0, 2*len(plaintext))
	opened, err := format.AppendPlaintext(mustParse(t, sealed), dst, dataKey)
	if opened != nil || !errors.Is(err, format.ErrCiphertext) {
		t.Fatalf("%d bytes, error %v", len(opened), err)
	}
	if bytes.Contains(dst[:cap(dst)], []byte(canary)) {
		t.Error("unauthenticated plaintext was left in the buffer")
	}
}

// TestCommitmentComesFirst alters both commitment and ciphertext: the error is
// the commitment's.
func TestCommitmentComesFirst(t *testing.T) {
	dataKey := pattern(32, 1)
	sealed := mustSeal(t, dataKey, hello)
	e := mustParse(t, sealed)
	e.Commitment[0] ^= 1
	sealed[len(sealed)-1] ^= 1
	if _, err := e.Open(dataKey); !errors.Is(err, format.ErrCommitment) {
		t.Errorf("Open: %v", err)
	}
}

// TestZeroEnvelope opens an envelope that Parse did not make.
func TestZeroEnvelope(t *testing.T) {
	var e format.Envelope
	if _, err := e.Open(pattern(32, 1)); !errors.Is(err, format.ErrCommitment) {
		t.Errorf("Open: %v", err)
	}
	if e.CommitsTo(pattern(32, 1)) {
		t.Error("commits to a key")
	}
}

// TestParsedSlicesEndWhereTheyEnd appends to what Parse returned: the envelope
// it aliases must not change.
func TestParsedSlicesEndWhereTheyEnd(t *testing.T) {
	dataKey := pattern(32, 1)
	sealed := mustSeal(t, dataKey, hello)
	original := bytes.Clone(sealed)
	e := mustParse(t, sealed)
	_ = append(e.Recipients[0].WrappedKey, "overwritten"...)
	if !bytes.Equal(sealed, original) {
		t.Error("an append to a wrapped key wrote into the envelope")
	}
}

func TestErrorText(t *testing.T) {
	dataKey := pattern(32, 1)
	sealed := mustSeal(t, dataKey, hello)
	_, parse := format.Parse(sealed[:len(sealed)-1])
	_, wrongKey := mustParse(t, sealed).Open(pattern(32, 2))
	_, noKey := mustParse(t, sealed).Open(nil)
	altered := bytes.Clone(sealed)
	altered[len(altered)-1] ^= 1
	_, ciphertext := mustParse(t, altered).Open(dataKey)
	_, suite := format.Parse(loadVector(t, "suite-2").envelope)
	for _, tt := range []struct {
		name string
		err  error
		want string
		hint string
	}{
		{"cut short", parse, "format: parse envelope: ciphertext at byte 255: runs past the end: malformed envelope", "fetch them again"},
		{"newer suite", suite, "format: parse envelope: suite at byte 24: 2 is not known: unsupported: malformed envelope", "upgrade waxseal"},
		{"wrong data key", wrongKey, "format: open envelope: commitment: data key does not match the commitment", "not the one this envelope was sealed with"},
		{"no data key", noKey, "format: open envelope: data key: 0 bytes where 32 are needed: unusable data key", "exactly 32 random bytes"},
		{"altered", ciphertext, "format: open envelope: ciphertext: authentication failed", "altered after it was sealed"},
		{
			"bad namespace", format.Header{}.Validate(),
			"format: check header: namespace: missing: malformed envelope", "correct the value",
		},
		{
			"long claim", namedClaims(strings.Repeat("n", 65)).Validate(),
			"format: check header: claims[0].name: 65 bytes where at most 64 are allowed: limit exceeded", "make the value smaller",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var bad *format.Error
			if !errors.As(tt.err, &bad) {
				t.Fatalf("%v is not an *Error", tt.err)
			}
			if bad.Error() != tt.want {
				t.Errorf("error %q, want %q", bad, tt.want)
			}
			if !strings.Contains(bad.Hint(), tt.hint) {
				t.Errorf("hint %q, want %q in it", bad.Hint(), tt.hint)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{format.CompressionNone.String(), "none"},
		{format.CompressionZstd.String(), "zstd"},
		{format.Compression(7).String(), "compression(7)"},
		{format.Suite1.String(), "HKDF-Expand-SHA256 + AES-256-GCM"},
		{format.Suite(7).String(), "suite(7)"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

// TestUnsupportedIsMalformed: a caller that knows only the two kinds of refusal
// treats what it cannot read as what it can not read.
func TestUnsupportedIsMalformed(t *testing.T) {
	if !errors.Is(format.ErrUnsupported, format.ErrMalformed) {
		t.Error("ErrUnsupported does not wrap ErrMalformed")
	}
}
