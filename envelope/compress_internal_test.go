package envelope

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

// zstdFrames are whole frames of each shape that zstd writes.
func zstdFrames(tb testing.TB) [][]byte {
	tb.Helper()
	noise := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	plaintexts := [][]byte{nil, {0}, []byte("hello"), make([]byte, 1<<20), noise, []byte(strings.Repeat("attack at dawn. ", 50_000))}
	var frames [][]byte
	for _, options := range [][]zstd.EOption{
		{zstd.WithZeroFrames(true)},
		{zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false)},
		{zstd.WithZeroFrames(true), zstd.WithSingleSegment(true)},
		{zstd.WithZeroFrames(true), zstd.WithWindowSize(1 << 10), zstd.WithEncoderLevel(zstd.SpeedFastest)},
	} {
		enc, err := zstd.NewWriter(nil, options...)
		if err != nil {
			tb.Fatal(err)
		}
		for _, p := range plaintexts {
			frames = append(frames, enc.EncodeAll(p, nil))
			var stream bytes.Buffer // its frames do not say how long their content is
			enc.Reset(&stream)
			if _, err := enc.Write(p); err != nil {
				tb.Fatal(err)
			}
			if err := enc.Close(); err != nil {
				tb.Fatal(err)
			}
			frames = append(frames, stream.Bytes())
		}
	}
	return frames
}

// TestCheckFrame: a whole frame is accepted; one that is cut anywhere, that
// something follows or that something precedes, is not.
func TestCheckFrame(t *testing.T) {
	for i, frame := range zstdFrames(t) {
		if err := checkFrame(frame); err != nil {
			t.Errorf("frame %d of %d bytes is refused", i, len(frame))
		}
		for n := range min(len(frame), 2000) {
			if checkFrame(frame[:n]) == nil || checkFrame(frame[:len(frame)-1-n]) == nil {
				t.Errorf("frame %d of %d bytes is accepted though it is cut", i, len(frame))
			}
		}
		for _, more := range [][]byte{{0}, frame[:3], frame, []byte("\x5f\x2a\x4d\x18\x00\x00\x00\x00")} {
			if checkFrame(append(bytes.Clone(frame), more...)) == nil {
				t.Errorf("frame %d of %d bytes is accepted with %d bytes behind it", i, len(frame), len(more))
			}
			if checkFrame(append(bytes.Clone(more), frame...)) == nil {
				t.Errorf("frame %d of %d bytes is accepted with %d bytes before it", i, len(frame), len(more))
			}
		}
	}
}

// TestExpandChecksSizeAndSum: what the frame says of its content has to be true.
func TestExpandChecksSizeAndSum(t *testing.T) {
	x, err := newExpander(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	for name, frame := range map[string]string{
		"content size too large": "\x28\xb5\x2f\xfd\x20\x06\x29\x00\x00hello",
		"content size too small": "\x28\xb5\x2f\xfd\x20\x04\x29\x00\x00hello",
		"wrong checksum":         "\x28\xb5\x2f\xfd\x04\x00\x29\x00\x00hello\xa3\x6d\x9f\x89",
	} {
		if got, err := x.expand([]byte(frame), format.CompressionZstd); got != nil || kms.ClassOf(err) != kms.Corrupt {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func squeezeAndExpand(t *testing.T, x *expander, plaintext []byte) {
	t.Helper()
	enc, err := encoder()
	if err != nil {
		t.Fatal(err)
	}
	out, how := squeeze(enc, plaintext)
	if how == format.CompressionZstd && (checkFrame(out) != nil || len(out) >= len(plaintext)) {
		t.Fatalf("%d bytes became %d, one frame: %v", len(plaintext), len(out), checkFrame(out))
	}
	if got, err := x.expand(out, how); err != nil || !bytes.Equal(got, plaintext) {
		t.Fatalf("%d bytes became %d of %v, and those %d bytes, error %v", len(plaintext), len(out), how, len(got), err)
	}
}

// TestEmptyIsNotCompressed: nothing is smaller than nothing.
func TestEmptyIsNotCompressed(t *testing.T) {
	enc, err := encoder()
	if err != nil {
		t.Fatal(err)
	}
	if out, how := squeeze(enc, nil); len(out) != 0 || how != format.CompressionNone {
		t.Errorf("%d bytes, %v", len(out), how)
	}
}

// FuzzCompress: every plaintext comes back, whatever was compressed before it,
// and what is compressed is one frame.
func FuzzCompress(f *testing.F) {
	f.Add([]byte("hello"), uint16(1))
	f.Add([]byte(""), uint16(9))
	f.Add([]byte("attack at dawn. "), uint16(60_000))
	x, err := newExpander(format.MaxPlaintext)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, plaintext []byte, times uint16) {
		if len(plaintext)*int(times) > 4<<20 {
			return
		}
		squeezeAndExpand(t, x, plaintext)
		squeezeAndExpand(t, x, bytes.Repeat(plaintext, int(times)))
	})
}

// FuzzExpand: no input makes expand panic or exceed its bound, and what it
// accepts ends where its frame ends: a byte more or less is refused.
func FuzzExpand(f *testing.F) {
	for _, frame := range zstdFrames(f) {
		f.Add(frame)
		f.Add(append(bytes.Clone(frame), frame...))
	}
	const most = 1 << 20
	x, err := newExpander(most)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := x.expand(b, format.CompressionZstd)
		if err != nil {
			if got != nil || kms.ClassOf(err) != kms.Corrupt {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			return
		}
		if len(got) > most || checkFrame(b[:len(b)-1]) == nil || checkFrame(append(bytes.Clone(b), 0)) == nil {
			t.Fatalf("%d bytes of a frame of %d, which could end elsewhere", len(got), len(b))
		}
	})
}
