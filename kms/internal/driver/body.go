package driver

import (
	"errors"
	"io"
	"sync"
)

// maxRequest is more than the largest request in bytes: wrapped data keys and an
// encryption context, all of which are bounded.
const maxRequest = 1 << 20

var (
	// ErrTooLarge means that an answer is larger than any that the KMS gives.
	ErrTooLarge = errors.New("kms: the answer is too large")
	// ErrRequest means that a client library made a request that it should not.
	ErrRequest = errors.New("kms: a request of unknown or impossible length")
)

// Body is a request's body that may hold a data key. net/http may still read a body
// after it has returned, when the server answered early or the context ended; the
// lock makes wiping safe even then.
type Body struct {
	size int
	mu   sync.Mutex
	buf  []byte
}

// NewBody returns a Body of buf, which it wipes.
func NewBody(buf []byte) *Body { return &Body{size: len(buf), buf: buf} }

// ReadBody reads a body of a known length into memory of its own: memory that grows
// would leave parts of it behind. The caller wipes the Body also after an error.
func ReadBody(r io.Reader, length int64) (*Body, error) {
	if length < 0 || length > maxRequest {
		return new(Body), ErrRequest
	}
	b := NewBody(make([]byte, length))
	_, err := io.ReadFull(r, b.buf)
	return b, err
}

// Wipe zeroes the body. A reader that has not come to its end gets an error.
func (b *Body) Wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.buf)
	b.buf = nil
}

// Reader returns a new reader of the body from its start.
func (b *Body) Reader() io.ReadCloser { return &bodyReader{body: b, size: b.size} }

// bodyReader ends at size also when the body was wiped since: net/http looks for the
// end of a request that is answered already, and gives up the connection if it finds
// an error.
type bodyReader struct {
	body      *Body
	off, size int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	if r.off == r.size {
		return 0, io.EOF
	}
	if r.body.buf == nil {
		return 0, io.ErrClosedPipe
	}
	n := copy(p, r.body.buf[r.off:])
	r.off += n
	return n, nil
}

func (r *bodyReader) Close() error { return nil }

// Bounded returns a body of from that gives ErrTooLarge instead of more than limit
// bytes.
func Bounded(from io.ReadCloser, limit int) io.ReadCloser { return &boundedBody{from, limit} }

type boundedBody struct {
	from io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1] // one more, to see whether that was the end
	}
	n, err := b.from.Read(p)
	if n > b.left {
		clear(p[:n])
		return 0, ErrTooLarge
	}
	b.left -= n
	return n, err
}

func (b *boundedBody) Close() error { return b.from.Close() }

// ReadSecret reads r to its end into one buffer, which the caller wipes. size is the
// length that was announced, or negative. An answer of more than limit bytes gives
// ErrTooLarge. ReadSecret wipes every buffer that the answer outgrows, and the last
// one too if it fails.
func ReadSecret(r io.Reader, size, limit int64) (buf []byte, err error) {
	const first = 4096
	if size > limit {
		return nil, ErrTooLarge
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
			return buf, ErrTooLarge
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}
