package format_test

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/envelope/format"
)

// wantFIPS is set in the environment of the test binary that TestUnderFIPSOnly
// starts, so that what it runs knows it must find itself in FIPS 140 mode.
const wantFIPS = "WAXSEAL_TEST_WANT_FIPS"

func TestVectors(t *testing.T) {
	if os.Getenv(wantFIPS) != "" && !fips140.Enforced() {
		t.Fatal("FIPS 140 mode is not enforced")
	}
	for _, v := range loadVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			before := bytes.Clone(v.envelope)
			if v.parses() {
				checkParsed(t, v)
			} else {
				checkRefused(t, v)
			}
			if !bytes.Equal(v.envelope, before) {
				t.Error("the envelope was changed")
			}
		})
	}
}

// checkRefused checks a vector that Parse, and so Rewrap, refuses.
func checkRefused(t *testing.T, v *vector) {
	t.Helper()
	_, err := format.Parse(v.envelope)
	checkError(t, "Parse", err, outcomes[v.expect])
	var e *format.Error
	if !errors.As(err, &e) {
		t.Fatalf("Parse: %T is not an *Error", err)
	}
	if got := fmt.Sprintf("%d %s", e.Offset, e.Field); got != v.failsAt {
		t.Errorf("Parse failed at %q, want %q: %v", got, v.failsAt, err)
	}
	_, err = format.Rewrap(v.envelope, []format.Recipient{{WrappedKey: []byte("new")}})
	checkError(t, "Rewrap", err, outcomes[v.expect])
}

// checkParsed checks a vector that Parse accepts, whether Open does or not.
func checkParsed(t *testing.T, v *vector) {
	t.Helper()
	e, err := format.Parse(v.envelope)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	if diff := cmp.Diff(v.recipients, e.Recipients); diff != "" {
		t.Errorf("recipients (-vector +parsed):\n%s", diff)
	}
	if diff := cmp.Diff(v.header, e.Header); diff != "" {
		t.Errorf("header (-vector +parsed):\n%s", diff)
	}
	if e.Suite != v.suite || !bytes.Equal(e.Salt[:], v.salt) || !bytes.Equal(e.Commitment[:], v.commitment) {
		t.Errorf("suite %d, salt %x, commitment %x; want %d, %x, %x", e.Suite, e.Salt, e.Commitment, v.suite, v.salt, v.commitment)
	}
	if got := format.Reencode(e); !bytes.Equal(got, v.envelope) {
		t.Errorf("encoded again:\n%x\nwant\n%x", got, v.envelope)
	}

	wantCommits := v.opens() || v.expect == "ciphertext"
	if got := e.CommitsTo(v.dataKey); got != wantCommits {
		t.Errorf("CommitsTo = %t, want %t", got, wantCommits)
	}
	plaintext, err := e.Open(v.dataKey)
	checkError(t, "Open", err, outcomes[v.expect])
	if v.opens() && !v.isPlaintext(plaintext) {
		t.Errorf("plaintext of %d bytes is not the vector's of %d", len(plaintext), v.plaintextSize)
	}
	if !v.opens() && plaintext != nil {
		t.Error("Open returned plaintext with an error")
	}
	checkRewrap(t, v, e)
	checkContainer(t, v, e)
}

// checkContainer checks that the container's key IDs, if there are any, are
// refused just where the vector says so, and what pairs them with the recipients.
func checkContainer(t *testing.T, v *vector, e *format.Envelope) {
	t.Helper()
	if v.container == nil {
		return
	}
	ids, err := format.SplitKeyIDs(*v.container)
	if err == nil {
		ids, err = e.KeyIDs(ids)
	}
	if v.expect != "container" {
		if err != nil || strings.Join(ids, " ") != *v.container {
			t.Errorf("key IDs %q, error %v", ids, err)
		}
		return
	}
	var bad *format.Error
	if !errors.As(err, &bad) || ids != nil || bad.Reason == "" || bad.Hint() == "" || bad.Offset != -1 {
		t.Fatalf("key IDs %q, error %#v", ids, err)
	}
	if text := bad.Error() + bad.Hint(); strings.Contains(text, canary) {
		t.Errorf("content in %q", text)
	}
}

// checkRewrap checks that Rewrap with the same recipients changes nothing, and
// with others nothing but them.
func checkRewrap(t *testing.T, v *vector, e *format.Envelope) {
	t.Helper()
	same, err := format.Rewrap(v.envelope, v.recipients)
	if err != nil || !bytes.Equal(same, v.envelope) {
		t.Errorf("Rewrap with the same recipients: changed, or error %v", err)
	}
	other, err := format.Rewrap(v.envelope, []format.Recipient{{KeyID: "local://ring/other@2", WrappedKey: []byte("other")}})
	if err != nil {
		t.Fatalf("Rewrap: %v", err)
	}
	if !bytes.HasSuffix(other, v.envelope[format.Body(e):]) {
		t.Error("Rewrap changed something other than the recipients")
	}
	if v.rewrapOf != "" {
		got, err := format.Rewrap(loadVector(t, v.rewrapOf).envelope, v.recipients)
		if err != nil || !bytes.Equal(got, v.envelope) {
			t.Errorf("Rewrap of %s is not this envelope, or error %v", v.rewrapOf, err)
		}
	}
}

func checkError(t *testing.T, what string, err, want error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestVectorCount holds the collection to its promise: at least 60 scenarios, at
// least two thirds of them negative.
func TestVectorCount(t *testing.T) {
	vectors := loadVectors(t)
	negative := 0
	for _, v := range vectors {
		if v.expect != "success" {
			negative++
		}
	}
	if len(vectors) < 60 || 3*negative < 2*len(vectors) {
		t.Errorf("%d vectors, %d of them negative", len(vectors), negative)
	}
}

// TestEveryBitFlip flips each bit of each envelope that opens. Parse or Open must
// notice; only what is flipped in the recipients may go unnoticed, and then the
// plaintext and all that is authenticated are the same.
func TestEveryBitFlip(t *testing.T) {
	for _, v := range loadVectors(t) {
		if !v.opens() {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			original, err := format.Parse(v.envelope)
			if err != nil {
				t.Fatal(err)
			}
			body, unnoticed := format.Body(original), 0
			b := bytes.Clone(v.envelope)
			for bit := range 8 * len(b) {
				b[bit/8] ^= 1 << (bit % 8)
				if opened := tryOpen(t, v, b); opened {
					unnoticed++
					if bit/8 >= body {
						t.Errorf("bit %d of byte %d went unnoticed", bit%8, bit/8)
					}
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
			if unnoticed == 0 {
				t.Error("not even a flipped wrapped key opens: recipients are not outside of the associated data")
			}
		})
	}
}

// tryOpen reports whether the altered envelope b opens; if so with the vector's
// plaintext and header, and if not with a proper error.
func tryOpen(t *testing.T, v *vector, b []byte) bool {
	t.Helper()
	e, err := format.Parse(b)
	if err != nil {
		var bad *format.Error
		if !errors.As(err, &bad) || bad.Offset < 0 || bad.Offset > len(b) || bad.Field == "" || bad.Reason == "" {
			t.Fatalf("Parse: %#v is not a complete error", err)
		}
		return false
	}
	plaintext, err := e.Open(v.dataKey)
	if err != nil {
		if !errors.Is(err, format.ErrCommitment) && !errors.Is(err, format.ErrCiphertext) {
			t.Fatalf("Open: %v", err)
		}
		return false
	}
	if !v.isPlaintext(plaintext) {
		t.Fatal("another plaintext")
	}
	if !slices.Equal(e.Header.Claims, v.header.Claims) || e.Header.Namespace != v.header.Namespace || e.Header.Compression != v.header.Compression {
		t.Fatal("another header")
	}
	return true
}

// TestEveryTruncation cuts each envelope that opens after every byte, and
// removes every single byte from it.
func TestEveryTruncation(t *testing.T) {
	for _, v := range loadVectors(t) {
		if !v.opens() {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for n := range v.envelope {
				if _, err := format.Parse(v.envelope[:n]); !errors.Is(err, format.ErrMalformed) {
					t.Fatalf("cut to %d bytes: %v", n, err)
				}
				if tryOpen(t, v, slices.Delete(bytes.Clone(v.envelope), n, n+1)) {
					t.Fatalf("opens without byte %d", n)
				}
			}
		})
	}
}

// TestParseAllocationBounded measures what Parse allocates for every vector:
// no more than its input and a fixed amount, whatever lengths the input claims.
func TestParseAllocationBounded(t *testing.T) {
	const rounds = 50
	const fixed = 8 << 10 // the Envelope, and the grown lists of at most 8 recipients and 16 claims
	for _, v := range loadVectors(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			_, _ = format.Parse(v.envelope)
		}
		runtime.ReadMemStats(&after)
		if got, most := int(after.TotalAlloc-before.TotalAlloc)/rounds, len(v.envelope)+fixed; got > most {
			t.Errorf("%s: %d bytes allocated for %d, want at most %d", v.name, got, len(v.envelope), most)
		}
	}
}

// TestErrorsHoldNoContent looks for plaintexts, claims and key IDs in the text
// and the hint of every error that the vectors provoke.
func TestErrorsHoldNoContent(t *testing.T) {
	for _, v := range loadVectors(t) {
		if v.opens() {
			continue
		}
		e, err := format.Parse(v.envelope)
		if err == nil {
			_, err = e.Open(v.dataKey)
		}
		var bad *format.Error
		if !errors.As(err, &bad) {
			t.Fatalf("%s: %v is not an *Error", v.name, err)
		}
		text := bad.Error() + bad.Hint()
		if strings.Contains(text, canary) {
			t.Errorf("%s: content in %q", v.name, text)
		}
		if bad.Hint() == "" {
			t.Errorf("%s: no hint for %q", v.name, bad)
		}
	}
}
