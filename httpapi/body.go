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

// firstRead is how much memory, in bytes, a body gets before any of it arrived.
const firstRead = 64 << 10

// checkContent accepts plain JSON. The type is more than a formality: it is what
// makes a browser ask with a preflight before a page may send anything.
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

// readBody reads a body within BodyBytes, and within what the bodies of all
// requests may take together; end gives back what this one took. Memory follows
// what has arrived, not what was announced.
func (s *Server) readBody(x *exchange) ([]byte, reason) {
	limit := s.limits.BodyBytes
	if x.r.ContentLength > limit {
		return nil, drop(x.r, limit, bodyTooLarge)
	}
	most := limit + 1 // one more, to see the end
	if n := x.r.ContentLength; n >= 0 {
		most = n + 1
	}
	var body []byte
	for size := min(firstRead, most); int64(cap(body)) < most; size = min(2*size, most) {
		hold := min(size, limit) // the one byte more is not held, or the largest body would find no room
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
	return nil, bodyTooLarge // than announced; net/http does not let that happen
}

// drop takes in up to twice the limit of a body that is refused, and keeps none
// of it. A caller that is still sending does not look for an answer, and would
// find a reset connection in its place; one that sends far too much still does.
func drop(r *http.Request, limit int64, why reason) reason {
	if r.ContentLength <= 2*limit {
		_, _ = io.CopyN(io.Discard, r.Body, 2*limit) // whatever comes of it, the answer is the same
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

// What a body becomes in memory, in bytes: a lot more than its own size where it
// is made of many small things. Measured on payloadjson, and rounded up.
const (
	objectCost = 160 // a payload, its metadata, or an external payload, for each "{"
	memberCost = 112 // a metadata entry, for each ":"
	// sealCost is what sealing adds to a payload of any size: its data key, the
	// envelope of one recipient, the new payload and what that adds to the answer.
	sealCost = 1280
	// sealedObjectCost is what of this is neither the envelope nor its JSON.
	sealedObjectCost = 512
	// memoryPerHeld is how much memory Limits lets a request take for each byte
	// of HeldBytes.
	memoryPerHeld = 4
)

// weigh counts what parsing a body will take. Base64 has neither of the two
// characters, so of bodies with payloads of some size nothing is counted but
// the bytes, twice: the JSON, and the payloads in it.
func (s *Server) weigh(x *exchange, body []byte) bool {
	objects, members := bytes.Count(body, []byte("{")), bytes.Count(body, []byte(":"))
	return s.grow(x, 2*int64(len(body))+int64(objects)*objectCost+int64(members)*memberCost)
}

// sealingCost is the memory that sealing payloads will take beside them: for each byte
// the ciphertext and its JSON (the marshalled plaintext is gone when that is made), and
// sealCost for each payload.
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

// grow counts memory that a request takes, and holds as much of HeldBytes for it
// as that is worth beyond what it holds already. One request alone never fails.
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

// budget is a number of bytes that many may take from.
type budget struct {
	limit int64
	taken atomic.Int64
}

// take takes n bytes if they are there.
func (b *budget) take(n int64) bool {
	if b.taken.Add(n) > b.limit {
		b.taken.Add(-n)
		return false
	}
	return true
}

// give gives n bytes back.
func (b *budget) give(n int64) { b.taken.Add(-n) }
