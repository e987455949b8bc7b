package kmstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/waxseal/waxseal/kms"
)

// batchSize is the most items that the suite puts into one call of Unwrap, but
// where it is about the size of batches.
const batchSize = 1000

// testContext is the encryption context that most cases wrap under.
func testContext() kms.Context {
	return kms.Context{"namespace": "payments-prod", "workflowType": "Charge", "note": "Grüße = ünïcode"}
}

// newDataKeys returns n distinct random data keys.
func newDataKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = make([]byte, kms.DataKeySize)
		rand.Read(keys[i]) // never fails: crypto/rand ends the process instead
	}
	return keys
}

func cloneAll(bs [][]byte) [][]byte {
	out := make([][]byte, len(bs))
	for i, b := range bs {
		out[i] = bytes.Clone(b)
	}
	return out
}

func cloneWrapped(wrapped []kms.Wrapped) []kms.Wrapped {
	out := slices.Clone(wrapped)
	for i := range out {
		out[i].Blob = bytes.Clone(out[i].Blob)
	}
	return out
}

// mustWrap wraps and checks the shape of the answer.
func mustWrap(t testing.TB, key kms.Key, dataKeys [][]byte, ec kms.Context) []kms.Wrapped {
	t.Helper()
	wrapped, err := key.Wrap(t.Context(), dataKeys, ec)
	if err != nil {
		t.Fatalf("Wrap of %d: %v", len(dataKeys), err)
	}
	if len(wrapped) != len(dataKeys) {
		t.Fatalf("Wrap of %d data keys gave %d answers", len(dataKeys), len(wrapped))
	}
	return wrapped
}

// mustUnwrap unwraps and checks that it gives back want.
func mustUnwrap(t testing.TB, key kms.Key, wrapped []kms.Wrapped, ec kms.Context, want [][]byte) {
	t.Helper()
	got := unwrapEach(t, key, wrapped, ec)
	if len(got) != len(want) {
		t.Fatalf("Unwrap gave %d answers, want %d", len(got), len(want))
	}
	for i, dataKey := range want {
		switch u := got[i]; {
		case u.Err != nil:
			t.Fatalf("Unwrap: item %d of %d: %v", i, len(wrapped), u.Err)
		case !bytes.Equal(u.DataKey, dataKey):
			t.Fatalf("Unwrap: item %d of %d: not the data key that was wrapped", i, len(wrapped))
		}
	}
}

// mustRefuse unwraps and checks that every item is refused with one of classes.
func mustRefuse(t testing.TB, key kms.Key, wrapped []kms.Wrapped, ec kms.Context, classes []kms.Class, secrets ...[]byte) {
	t.Helper()
	got := unwrapEach(t, key, wrapped, ec)
	for i, w := range wrapped {
		u := got[i]
		what := fmt.Sprintf("Unwrap: item %d of %d", i, len(wrapped))
		if u.DataKey != nil {
			t.Errorf("%s: a data key came with the refusal, or instead of it", what)
		}
		if u.Err == nil {
			t.Errorf("%s (%d bytes): not refused", what, len(w.Blob))
			continue
		}
		checkError(t, what, key, "unwrap", u.Err, classes, append([][]byte{w.Blob}, secrets...)...)
	}
}

// checkError checks what kms.Key promises about every error: a *kms.Error that
// names the operation and the key, has one of classes, and shows no secret.
func checkError(t testing.TB, what string, key kms.Key, op string, err error, classes []kms.Class, secrets ...[]byte) {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		t.Errorf("%s: error is a %T, not a *kms.Error", what, err)
		return
	}
	if e.Op == "" || op != anyOp && e.Op != op {
		t.Errorf("%s: Op = %q, want %q", what, e.Op, op)
	}
	if e.KeyID != key.ID() {
		t.Errorf("%s: KeyID = %q, want the key's ID %q", what, e.KeyID, key.ID())
	}
	if !slices.Contains(classes, e.Class) {
		t.Errorf("%s: Class = %v, want one of %v: %v", what, e.Class, classes, err)
	}
	text := strings.Join([]string{err.Error(), fmt.Sprintf("%v %+v %q %#v", err, err, err, err), e.Hint()}, "\n")
	for _, s := range secrets {
		if how := leaks(text, s, key.ID()); how != "" {
			t.Errorf("%s: the error's text holds a data key or blob, %s", what, how)
		}
	}
}

// leaks says how text shows secret, or "" if it does not. A wrapped data key may
// hold the name of its key, which every error names: that is no secret as it stands.
func leaks(text string, secret []byte, keyID string) string {
	parts := withoutName(secret, keyID)
	if len(parts) > 1 { // the name is read, but nothing encodes it
		if how := encoded(text, secret); how != "" {
			return how
		}
	}
	for _, part := range parts {
		if how := reveals(text, part); how != "" {
			return how
		}
	}
	return ""
}

// withoutName returns the parts of secret between what it has in common with keyID.
func withoutName(secret []byte, keyID string) (parts [][]byte) {
	const common = 8 // bytes: fewer are a coincidence
	from, i := 0, 0
	for i+common <= len(secret) {
		if !strings.Contains(keyID, string(secret[i:i+common])) {
			i++
			continue
		}
		parts = append(parts, secret[from:i])
		for from = i + common; from < len(secret) && strings.Contains(keyID, string(secret[i:from+1])); {
			from++
		}
		i = from
	}
	return append(parts, secret[from:])
}

// enough is how many of a secret's first bytes show it: 15, so that their base64 has
// no padding. A shorter one, such as a truncated blob, is nothing to hide.
const enough = 15

// reveals says how text shows the beginning of secret, or "" if it does not.
func reveals(text string, secret []byte) string {
	if len(secret) < enough {
		return ""
	}
	for from := range utf8.UTFMax {
		// Quoting depends on what stands before and behind: where a character is cut
		// in two its bytes are written otherwise. One of these cuts none.
		for to := enough - utf8.UTFMax + 1; to <= enough; to++ {
			for _, quote := range []func(string) string{strconv.Quote, strconv.QuoteToASCII} {
				quoted := quote(string(secret[from:to]))
				if strings.Contains(text, quoted[1:len(quoted)-1]) {
					return "quoted"
				}
			}
		}
	}
	if containsFold(text, string(secret[:enough])) {
		return "raw"
	}
	return encoded(text, secret)
}

// encoded says in which encoding text shows the beginning of secret, or "".
func encoded(text string, secret []byte) string {
	if len(secret) < enough {
		return ""
	}
	head := secret[:enough]
	for how, shown := range map[string]string{
		"in hex":      hex.EncodeToString(head),
		"in base64":   base64.StdEncoding.EncodeToString(head),
		"in URL-safe": base64.URLEncoding.EncodeToString(head),
		"in decimal":  strings.Trim(fmt.Sprintf("%v", head), "[]"),
		"in Go":       strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", head), "[]byte{"), "}"),
	} {
		if containsFold(text, shown) {
			return how
		}
	}
	return ""
}

func containsFold(text, part string) bool {
	return strings.Contains(text, part) || strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// ended returns a context that has ended with each of the two possible errors.
func ended(t testing.TB) map[error]context.Context {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithTimeout(t.Context(), -1)
	t.Cleanup(cancel)
	return map[error]context.Context{context.Canceled: canceled, context.DeadlineExceeded: expired}
}
