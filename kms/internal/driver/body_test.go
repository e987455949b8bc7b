package driver

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func TestWipedBodyEnds(t *testing.T) {
	body := NewBody([]byte("secret"))
	r := body.Reader()
	if got, err := io.ReadAll(r); err != nil || string(got) != "secret" {
		t.Fatalf("%q, %v", got, err)
	}
	buf, unread := body.buf, body.Reader()
	body.Wipe()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a body that was read to its end gives %v after wiping", err)
	}
	if _, err := unread.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) || !bytes.Equal(buf, make([]byte, 6)) {
		t.Errorf("after wipe: %q, %v", buf, err)
	}
}

func TestBoundedBody(t *testing.T) {
	for n, want := range map[int]error{9: nil, 10: nil, 11: ErrTooLarge} {
		body := Bounded(io.NopCloser(strings.NewReader(strings.Repeat("x", n))), 10)
		if got, err := io.ReadAll(body); !errors.Is(err, want) || want == nil && len(got) != n {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
	}
}

// The length of a request is known, so that no part of it is left unwiped.
func TestBodyIsReadInOnePiece(t *testing.T) {
	body, err := ReadBody(strings.NewReader("secret"), 6)
	if err != nil || string(body.buf) != "secret" || cap(body.buf) > 8 {
		t.Errorf("%q, %v", body.buf, err)
	}
	for name, length := range map[string]int64{"unknown": -1, "large": maxRequest + 1, "longer than it is": 7} {
		if _, err := ReadBody(strings.NewReader("secret"), length); err == nil {
			t.Errorf("a body of a length that is %s was read", name)
		}
	}
}

func TestSecretBody(t *testing.T) {
	buf := []byte("data keys in base64")
	body := NewBody(buf)
	for range 2 { // a redirect or a lost connection sends it again
		r := body.Reader()
		if err := iotest.TestReader(r, []byte("data keys in base64")); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	half := body.Reader()
	if _, err := io.ReadFull(half, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	body.Wipe()
	body.Wipe()
	if !bytes.Equal(buf, make([]byte, len(buf))) {
		t.Error("not wiped")
	}
	for name, r := range map[string]io.Reader{"half read": half, "new": body.Reader()} {
		if n, err := r.Read(make([]byte, 4)); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: read %d after wiping, %v", name, n, err)
		}
	}
}

// net/http may read on while the caller wipes; run with -race.
func TestSecretBodyWipedWhileRead(*testing.T) {
	for range 100 {
		body := NewBody(bytes.Repeat([]byte{7}, 4096))
		r := body.Reader()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, r) })
		body.Wipe()
		wg.Wait()
	}
}

// spy remembers the buffers that it read into.
type spy struct {
	io.Reader
	buffers [][]byte
}

func (s *spy) Read(p []byte) (int, error) {
	s.buffers = append(s.buffers, p)
	return s.Reader.Read(p)
}

func TestReadSecret(t *testing.T) {
	content := bytes.Repeat([]byte("secret! "), 4096) // 32 KiB
	size := int64(len(content))
	for _, tc := range []struct {
		name        string
		r           io.Reader
		size, limit int64
		err         error
	}{
		{"announced", bytes.NewReader(content), size, size, nil},
		{"not announced", bytes.NewReader(content), -1, size, nil},
		{"in small pieces", iotest.OneByteReader(bytes.NewReader(content)), -1, size, nil},
		{"end comes with data", iotest.DataErrReader(bytes.NewReader(content)), -1, size, nil},
		{"announced short", bytes.NewReader(content), 10, size, nil},
		{"announced too large", bytes.NewReader(content), size, size - 1, ErrTooLarge},
		{"too large", bytes.NewReader(content), -1, size - 1, ErrTooLarge},
		{"too large, announced short", bytes.NewReader(content), 10, 5000, ErrTooLarge},
		{"breaks off", io.MultiReader(bytes.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, 2 * size, io.ErrUnexpectedEOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &spy{Reader: tc.r}
			got, err := ReadSecret(s, tc.size, tc.limit)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if tc.err == nil && !bytes.Equal(got, content) {
				t.Error("read something else")
			}
			if tc.err != nil && got != nil {
				t.Error("an answer came with the error")
			}
			clear(got)
			for i, b := range s.buffers {
				if !bytes.Equal(b, make([]byte, len(b))) {
					t.Errorf("buffer %d of %d was not wiped", i, len(s.buffers))
					break
				}
			}
		})
	}
	if got, err := ReadSecret(bytes.NewReader(nil), 0, 10); err != nil || len(got) != 0 {
		t.Errorf("empty: %q, %v", got, err)
	}
}
