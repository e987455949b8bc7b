package awskms

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxRequest is more than the largest request in bytes: a wrapped data key and an
// encryption context, both of which are bounded.
const maxRequest = 1 << 20

// errRequest means that the SDK made a request that it should not.
var errRequest = errors.New("awskms: a request of unknown or impossible length")

// secretBody is a request's body that may hold a data key. net/http may still
// read a body after it has returned, when the server answered early or the
// context ended; the lock makes wiping safe even then.
type secretBody struct {
	mu  sync.Mutex
	buf []byte
}

// readFrom reads the body, whose length is known, into memory of its own: one
// that grows would leave parts of it behind.
func (s *secretBody) readFrom(r io.Reader, length int64) error {
	if length < 0 || length > maxRequest {
		return errRequest
	}
	s.buf = make([]byte, length)
	_, err := io.ReadFull(r, s.buf)
	return err
}

// wipe zeroes the body. Whoever still reads it gets an error.
func (s *secretBody) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.buf)
	s.buf = nil
}

// reader returns a new reader of the body from its start.
func (s *secretBody) reader() io.ReadCloser { return &bodyReader{body: s, size: len(s.buf)} }

// bodyReader ends at size also when the body was wiped since: net/http looks for
// the end of a request that is answered already, and gives up the connection if
// it finds an error.
type bodyReader struct {
	body      *secretBody
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

// wipeSerialized has the SDK's pipeline zero the request that it serialized, once
// it is done with it. The transport sends a copy, which it wipes itself.
func wipeSerialized(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("WaxsealWipe",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if request, ok := in.Request.(*smithyhttp.Request); ok {
				defer clear(underlying(request.GetStream()))
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.Before)
}

// underlying returns the bytes that r reads, where it lets them be seen, and
// leaves r at its start.
func underlying(r io.Reader) []byte {
	reader, ok := r.(*bytes.Reader)
	if !ok {
		return nil
	}
	var seen alias
	_, _ = reader.WriteTo(&seen) // alias takes all it is given
	reader.Reset(seen)
	return seen
}

// alias keeps the slice that is written to it.
type alias []byte

func (a *alias) Write(p []byte) (int, error) {
	*a = p
	return len(p), nil
}
