package envelope_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// TestOneEncoderForAllSealers: what compression holds in memory does not grow with
// the Sealers that have sealed, of which a caller can make thousands by naming
// namespaces.
func TestOneEncoderForAllSealers(t *testing.T) {
	const sealers, most = 1000, 64 << 20 // an encoder each would be above 1.3 GB
	key := kmstest.NewFake("a")
	text := strings.Repeat("a long and dull text. ", 500)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range sealers {
		mustSeal(t, newSealer(t, envelope.SealerConfig{Compress: true}, key), claims, text)
		if (i+1)%50 != 0 {
			continue
		}
		if now := heap(); now > before+most {
			t.Fatalf("%d MiB more on the heap after %d sealers", (now-before)>>20, i+1)
		}
	}
}

// vectorKey unwraps whatever it is given to one data key.
type vectorKey struct {
	id      string
	dataKey []byte
	calls   *int
}

func (k vectorKey) ID() string { return k.id }

func (k vectorKey) Wrap(context.Context, [][]byte, kms.Context) ([]kms.Wrapped, error) {
	return nil, &kms.Error{Op: "wrap", KeyID: k.id, Detail: "this key only unwraps"}
}

func (k vectorKey) Unwrap(_ context.Context, wrapped []kms.Wrapped, _ kms.Context) ([]kms.Unwrapped, error) {
	*k.calls++
	out := make([]kms.Unwrapped, len(wrapped))
	for i := range out {
		out[i].DataKey = bytes.Clone(k.dataKey)
	}
	return out, nil
}

// formatVector is what these tests need of one of the format's vectors.
type formatVector struct {
	name, expect      string
	envelope, dataKey []byte
	container         *string
}

// formatVectors returns the vectors that are about what is around the envelope.
func formatVectors(t *testing.T) []formatVector {
	t.Helper()
	files, err := filepath.Glob("format/testdata/vectors/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var out []formatVector
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if !strings.HasPrefix(name, "zstd-") && !strings.HasPrefix(name, "container-") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v := formatVector{name: name}
		head, body, _ := strings.Cut(string(text), "\n\n")
		v.envelope = unhex(strings.ReplaceAll(body, "\n", ""))
		for line := range strings.Lines(head) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			value = strings.TrimSpace(value)
			switch key {
			case "expect":
				v.expect = value
			case "data-key":
				v.dataKey = unhex(value)
			case "container-key-ids":
				v.container = new(string(unhex(value)))
			}
		}
		out = append(out, v)
	}
	if len(out) < 40 {
		t.Fatalf("%d vectors found", len(out))
	}
	return out
}

// TestFormatVectors: an Opener holds the plaintext and the container of an envelope
// to the format. What a container says of the keys is refused before any KEK is
// called, and neither error nor result repeats it.
func TestFormatVectors(t *testing.T) {
	for _, v := range formatVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			names := []string{"vector://key"}
			if v.container != nil {
				// Not SplitKeyIDs: the Opener is handed IDs, wherever they come from.
				names = strings.Split(*v.container, " ")
			}
			calls := 0
			var keys []kms.Key
			for _, name := range names {
				id, _ := kms.SplitVersionedID(name)
				keys = append(keys, vectorKey{id: id, dataKey: v.dataKey, calls: &calls})
			}
			opener, err := envelope.NewOpener(envelope.OpenerConfig{Keys: envelope.StaticKeys(keys...)})
			if err != nil {
				t.Fatal(err)
			}
			defer opener.Close()
			got := openOne(t, opener, envelope.Item{Envelope: v.envelope, KeyIDs: names})
			if v.expect == "success" {
				if got.Err != nil {
					t.Error(got.Err)
				}
				return
			}
			wantClass(t, got.Err, kms.Corrupt)
			if got.Plaintext != nil {
				t.Error("plaintext beside an error")
			}
			if v.expect == "container" && (got.KeyIDs != nil || calls != 0) {
				t.Errorf("key IDs %q, %d calls of a KEK", got.KeyIDs, calls)
			}
			refused, ok := errors.AsType[*kms.Error](got.Err)
			if !ok || refused.Hint() == "" {
				t.Fatalf("%T without a hint", got.Err)
			}
			if text := refused.Error() + refused.Hint(); strings.Contains(text, "canary") || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("error %q", text)
			}
		})
	}
}
