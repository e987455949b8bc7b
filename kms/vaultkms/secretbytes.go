package vaultkms

import (
	"errors"
	"io"
	"sync"
)

// errTooLarge means that an answer is larger than any that Vault would give.
var errTooLarge = errors.New("vaultkms: answer is too large")

// secretBody is a request's body that holds data keys. net/http may still read a
// body after it has returned, when the server answered early or the context
// ended; the lock makes wiping safe even then.
type secretBody struct {
	mu  sync.Mutex
	buf []byte
}

// wipe zeroes the body. Whoever still reads it gets an error.
func (s *secretBody) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.buf)
	s.buf = nil
}

// reader returns a new reader of the body from its start.
func (s *secretBody) reader() io.ReadCloser { return &bodyReader{body: s} }

type bodyReader struct {
	body *secretBody
	off  int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	if r.body.buf == nil {
		return 0, io.ErrClosedPipe
	}
	if r.off == len(r.body.buf) {
		return 0, io.EOF
	}
	n := copy(p, r.body.buf[r.off:])
	r.off += n
	return n, nil
}

func (r *bodyReader) Close() error { return nil }

// readSecret reads r to its end into one buffer, which the caller wipes. size is
// the length that was announced, or negative. An answer of more than limit bytes
// gives errTooLarge. Every buffer it outgrows is wiped, and the last one too if
// it fails.
func readSecret(r io.Reader, size, limit int64) (buf []byte, err error) {
	const first = 4096
	if size > limit {
		return nil, errTooLarge
	}
	defer func() {
		if err != nil {
			clear(buf[:cap(buf)])
			buf = nil
		}
	}()
	if size < 0 {
		size = first
	}
	buf = make([]byte, 0, min(size, limit)+1) // one more, to see the end without growing
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), 2*cap(buf))
			copy(grown, buf)
			clear(buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, errTooLarge
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}
