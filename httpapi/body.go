package httpapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/internal/payloadjson"
)

// firstRead is how many bytes of memory a body gets before any of it has arrived.
const firstRead = 64 << 10

// checkContent accepts plain JSON. Because of this type, a browser sends a preflight before it sends a page's request.
func checkContent(r *http.Request) reason {
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return notJSON
	}
	media, params, err := mime.ParseMediaType(types[0])
	if err != nil || media != applicationJSON {
		return notJSON
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return notJSON
	}
	for _, encoding := range r.Header.Values("Content-Encoding") {
		if !strings.EqualFold(encoding, "identity") {
			return encodedBody
		}
	}
	return answered
}

// readBody reads a body within BodyBytes and HeldBytes; end gives its share of HeldBytes back. Memory grows with what has
// arrived, not with what was announced.
func (s *Server) readBody(x *exchange) ([]byte, reason) {
	limit := s.config.Limits.BodyBytes
	if x.r.ContentLength > limit {
		return nil, drop(x.r, limit, bodyTooLarge)
	}
	most := limit + 1 // one more, to see a body that is too large
	if n := x.r.ContentLength; n >= 0 {
		most = n + 1
	}
	var body []byte
	for size := min(firstRead, most); int64(cap(body)) < most; size = min(2*size, most) {
		hold := min(size, limit) // without the one byte more, for which the largest body would find no room
		if !s.held.take(hold - x.held) {
			return nil, drop(x.r, limit, overfull)
		}
		x.held = hold
		grown := make([]byte, len(body), size)
		copy(grown, body)
		body = grown
		for len(body) < cap(body) {
			n, err := x.r.Body.Read(body[len(body):cap(body)])
			body = body[:len(body)+n]
			x.bytesIn = len(body)
			switch {
			case int64(len(body)) > limit:
				return nil, drop(x.r, limit, bodyTooLarge)
			case errors.Is(err, io.EOF):
				return body, answered
			case err != nil:
				return nil, readFailure(x.r, err)
			}
		}
	}
	return nil, bodyTooLarge // larger than announced; net/http does not let that happen
}

// drop discards a refused body up to twice the limit: a caller that is still sending would see a reset connection in place
// of the answer.
func drop(r *http.Request, limit int64, why reason) reason {
	if r.ContentLength <= 2*limit {
		_, _ = io.CopyN(io.Discard, r.Body, 2*limit) // the answer is the same if it fails
	}
	return why
}

// readFailure is the reason for a body that could not be read to its end.
func readFailure(r *http.Request, err error) reason {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return bodyTooSlow
	case errors.Is(err, io.ErrUnexpectedEOF) && r.Context().Err() == nil:
		return bodyCut
	default:
		return interrupted(r.Context())
	}
}

// How many bytes of memory the parts of a body take: many small parts take far more than their size in the body. Measured
// on payloadjson, and rounded up.
const (
	objectCost = 160 // a payload, its metadata, or an external payload, for each "{"
	memberCost = 112 // a metadata entry, for each ":"
	// sealCost is what sealing adds to a payload of any size: its data key, the envelope of one recipient, the new payload
	// and its JSON.
	sealCost = 1280
	// sealedObjectCost is the part of sealCost that is neither the envelope nor its JSON.
	sealedObjectCost = 512
	// memoryPerHeld is how many bytes of memory a request may take for each byte of HeldBytes.
	memoryPerHeld = 4
)

// weigh counts the memory that parsing a body will take: its bytes twice, for the JSON and the payloads in it, and its parts.
// Base64 has neither of the two characters, so it adds no parts.
func (s *Server) weigh(x *exchange, body []byte) bool {
	objects, members := bytes.Count(body, []byte("{")), bytes.Count(body, []byte(":"))
	return s.grow(x, 2*int64(len(body))+int64(objects)*objectCost+int64(members)*memberCost)
}

// sealingCost is the memory that sealing payloads will take beside them: for each byte the ciphertext and its JSON (the
// marshalled plaintext is gone by then), and sealCost for each payload.
func sealingCost(in []*commonpb.Payload) int64 {
	cost := int64(len(in)) * sealCost
	for _, p := range in {
		cost += int64(proto.Size(p)) * 7 / 3
	}
	return cost
}

// sealedCost is the memory that sealed payloads and their JSON take.
func sealedCost(out []*commonpb.Payload) int64 {
	return int64(payloadjson.Size(out))*7/4 + int64(len(out))*sealedObjectCost
}

// grow counts memory that a request takes, and takes the share of HeldBytes for it that the request does not hold yet. A
// single request never fails.
func (s *Server) grow(x *exchange, memory int64) bool {
	x.memory += memory
	more := min(x.memory/memoryPerHeld, s.held.limit) - x.held
	if more <= 0 {
		return true
	}
	if !s.held.take(more) {
		return false
	}
	x.held += more
	return true
}

// budget is an amount that all requests share.
type budget struct {
	limit int64
	taken atomic.Int64
}

// take takes n if that much is left.
func (b *budget) take(n int64) bool {
	if b.taken.Add(n) > b.limit {
		b.taken.Add(-n)
		return false
	}
	return true
}

// give gives n back.
func (b *budget) give(n int64) { b.taken.Add(-n) }
