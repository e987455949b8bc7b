package envelope_test

import (
	"bytes"
	"crypto/aes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/erase"
)

// The shapes in which a key may lie in memory.
const (
	shapeDataKey    = "data key"
	shapePad        = "data key in a pad of HMAC"
	shapeState      = "state of HMAC after the data key"
	shapePayloadKey = "payload key, or a round key made of it"
)

// noSignals keeps the runtime from interrupting goroutines with signals. Each saves
// the registers to memory that a plain build cannot reach, and may come while there
// is a key in them: the only way left, of those that the roles go, for a piece of a
// key to stay behind.
const noSignals = "GODEBUG=asyncpreemptoff=1"

// TestMemory looks for keys in the memory of a child that lives as a process of a
// user does. Data keys are there while they are in hand, and nothing that gives them
// away is once they were dropped, whichever way: cleared, not overwritten by chance.
// Payload keys are gone as soon as they were used.
func TestMemory(t *testing.T) {
	for _, tc := range []struct {
		role  string
		looks int
		slow  bool // with the race detector, which watches the scan and learns nothing from it
	}{{"closes", 2, false}, {"evicts", 4, true}, {"drains", 4, true}, {"fails", 1, false}, {"signaled", 1, false}, {"together", 1, false}} {
		if tc.slow && underRace {
			continue
		}
		t.Run(tc.role, func(t *testing.T) {
			env := noSignals
			if erase.Runtime {
				env = "GODEBUG="
			}
			p := startChild(t, tc.role, env)
			for range tc.looks {
				wantOnlyInHand(t, p)
			}
			p.End(t)
		})
	}
}

// TestMemoryFIPS is about the module's own HKDF: its HMACs hold the data key and
// have read the payload key; only the runtime can erase them. The data key itself must
// be gone as in TestMemory.
func TestMemoryFIPS(t *testing.T) {
	p := startChild(t, "closes", noSignals+",fips140=on")
	if erase.Runtime {
		wantOnlyInHand(t, p)
		wantOnlyInHand(t, p)
	} else {
		wantOnlyInHand(t, p, shapePad, shapeState, shapePayloadKey)
		wantOnlyInHand(t, p, shapePad, shapeState, shapePayloadKey)
	}
	p.End(t)
}

// wantOnlyInHand scans the child at its next stop, and lets it go on: it wants to see
// all data keys in hand and nothing else but pieces of the shapes that may be left.
func wantOnlyInHand(t *testing.T, p *process, left ...string) {
	t.Helper()
	var h holding
	p.Await(t, &h)
	inHand, gone := h.needles(t, p)
	if len(gone) == 0 {
		t.Error("the child used no keys")
	}
	got := p.Scan(t, append(slices.Clone(inHand), gone...))
	t.Logf("%d MiB, %d data keys in hand, %d needles gone: found %s", got.Bytes>>20, len(inHand), len(gone), got)
	if n := got.Pieces[shapeInHand]; n < 2*len(inHand) {
		t.Errorf("found %d halves of %d data keys in hand: the scan misses some", n, len(inHand))
	}
	for shape, n := range got.Pieces {
		if shape != shapeInHand && !slices.Contains(left, shape) {
			t.Errorf("found %d pieces that must be gone: %s", n, shape)
		}
	}
	p.GoOn(t)
}

// TestMemoryControl has a child hold on to a key in every shape, and finds them all:
// what TestMemory does not find is not there.
func TestMemoryControl(t *testing.T) {
	p := startChild(t, "keeps")
	var h holding
	p.Await(t, &h)
	for _, e := range h.Envelopes {
		needles := keyNeedles(t, p, e)
		got := p.Scan(t, needles)
		want := make(map[string]int)
		for _, n := range needles {
			want[n.Shape] += len(n.Secret) / pieceSize
		}
		for shape, n := range want {
			if shape == shapeState {
				n /= 2 // it is there in one of two orders of bytes
			}
			if got.Pieces[shape] < n {
				t.Errorf("%s: %d pieces found of %d", shape, got.Pieces[shape], n)
			}
		}
	}
	p.GoOn(t)
	p.End(t)
}

const shapeInHand = "data key in hand"

// needles returns the data keys in hand, and all that is to be gone.
func (h holding) needles(t *testing.T, p *process) (inHand, gone []needle) {
	t.Helper()
	for i, blob := range h.Blobs {
		dataKey := p.Unmask(blob)
		if h.InHand[i] {
			inHand = append(inHand, needle{Shape: shapeInHand, Secret: dataKey})
		} else {
			gone = append(gone, needle{Shape: shapeDataKey, Secret: dataKey})
		}
		gone = append(gone, macNeedles(t, dataKey)...)
	}
	for _, e := range h.Envelopes {
		gone = append(gone, payloadNeedles(t, p, e)...)
	}
	return inHand, gone
}

// keyNeedles returns the keys of an envelope in every shape.
func keyNeedles(t *testing.T, p *process, sealed []byte) []needle {
	t.Helper()
	dataKey := p.Unmask(blobOf(sealed))
	out := append(macNeedles(t, dataKey), needle{Shape: shapeDataKey, Secret: dataKey})
	return append(out, payloadNeedles(t, p, sealed)...)
}

// macNeedles returns what HMAC makes of a data key (RFC 2104): from a pad it can be
// read, and with both states no one needs it.
func macNeedles(t *testing.T, dataKey []byte) (out []needle) {
	t.Helper()
	for _, pad := range []byte{0x36, 0x5c} {
		block := bytes.Repeat([]byte{pad}, sha256.BlockSize)
		for i, b := range dataKey {
			block[i] ^= b
		}
		h := sha256.New()
		h.Write(block)
		marshaled, err := h.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		state := marshaled[len("sha\x03"):][:sha256.Size]
		words := make([]byte, len(state))
		for i := 0; i < len(state); i += 4 {
			binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(state[i:]))
		}
		out = append(out, needle{Shape: shapePad, Secret: block[:len(dataKey)]},
			needle{Shape: shapeState, Secret: state}, needle{Shape: shapeState, Secret: words})
	}
	return out
}

// payloadNeedles returns the payload key of an envelope, and what a cipher of the
// standard library holds of it on this machine, as it lies in memory: from any two
// neighboring round keys of AES-256 its key can be computed.
func payloadNeedles(t *testing.T, p *process, sealed []byte) []needle {
	t.Helper()
	dataKey := p.Unmask(blobOf(sealed))
	if env, err := format.Parse(sealed); err != nil || !env.CommitsTo(dataKey) {
		t.Fatalf("the data key is not that of the envelope: %v", err)
	}
	payloadKey, err := hkdf.Expand(sha256.New, dataKey, infoOf(sealed), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(payloadKey)
	if err != nil {
		t.Fatal(err)
	}
	out := []needle{{Shape: shapePayloadKey, Secret: payloadKey}}
	for _, name := range []string{"enc", "dec"} {
		words := reflect.ValueOf(block).Elem().FieldByName(name)
		if !words.IsValid() || words.Kind() != reflect.Array {
			t.Fatalf("crypto/aes keeps its round keys in another way: %T has no array %s", block, name)
		}
		out = append(out, needle{
			Shape:  shapePayloadKey,
			Secret: bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(words.UnsafeAddr())), words.Type().Size())), //nolint:gosec // the array's own memory, in bytes
		})
	}
	return out
}
