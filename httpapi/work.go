package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/payloadjson"
	"github.com/waxseal/waxseal/kms"
)

// decodeBatch is how many payloads the codec opens at once. It unwraps the distinct data keys of a batch together.
const decodeBatch = 128

// errMiscount reports a codec that breaks its contract.
var errMiscount = errors.New("httpapi: the codec answered with another number of payloads, or none in place of one")

// errDraining ends requests that are still in progress after DrainTime.
var errDraining = errors.New("httpapi: server is stopping")

// room bounds the memory of opened payloads, which can be far larger than the request if they were compressed.
type room struct {
	s      *Server
	x      *exchange
	opened int64
	why    reason // why there was no room
}

// take counts one plaintext: its payload and the payload's JSON take 7/3 of its size together, after it is wiped.
func (r *room) take(size int) bool {
	r.opened += int64(size)
	switch {
	case r.opened > r.s.config.Limits.ReplyBytes:
		r.why = replyTooLarge
	case !r.s.grow(r.x, int64(size)*7/3):
		r.why = overfull
	}
	return r.why == answered
}

// parse reads the payloads of a body.
func (s *Server) parse(x *exchange, body []byte) ([]*commonpb.Payload, reason) {
	limits, tooMany := payloadjson.Limits{Payloads: s.config.Limits.Payloads, Entries: s.config.Limits.Entries}, tooManyPayloads
	if x.route == routeEncode && s.config.Limits.EncodePayloads < limits.Payloads {
		limits.Payloads, tooMany = s.config.Limits.EncodePayloads, tooManyToSeal
	}
	payloads, err := payloadjson.Parse(body, limits)
	if bad, ok := errors.AsType[*payloadjson.Error](err); ok {
		x.offset = bad.Offset
		if bad.Reason == payloadjson.TooManyPayloads {
			return nil, tooMany
		}
		return nil, documentReason(bad.Reason)
	}
	x.payloads = len(payloads)
	return payloads, answered
}

// encode seals all payloads or none.
func (s *Server) encode(ctx context.Context, x *exchange, room func(int) bool, in []*commonpb.Payload) ([]*commonpb.Payload, reason) {
	if len(in) == 0 {
		return nil, answered
	}
	if why := s.admit(x, in); why != answered {
		return nil, why
	}
	out, err := s.config.Codec.Encode(ctx, codec.EncodeOptions{Namespace: x.namespace, Room: room}, in)
	if err != nil {
		x.cause = err
		if kms.ClassOf(err) == kms.Canceled {
			return nil, interrupted(x.r.Context())
		}
		return nil, reasonOf(kms.ClassOf(err))
	}
	if len(out) != len(in) || slices.Contains(out, nil) {
		x.cause = errMiscount
		return nil, classInternal
	}
	// With many recipients, or large wrapped keys, envelopes take more than was counted.
	if more := sealedCost(out) - sealingCost(in); more > 0 && !s.grow(x, more) {
		return nil, overfull
	}
	return out, answered
}

// admit counts payloads before they are sealed: small ones become far larger, and each may cost a wrap by a KMS.
func (s *Server) admit(x *exchange, in []*commonpb.Payload) reason {
	n := int64(len(in))
	if !s.sealing.take(n) {
		return sealingFull
	}
	x.sealing = n
	if !s.grow(x, sealingCost(in)) {
		return overfull
	}
	return answered
}

// decode opens payloads. One that it cannot open comes back as it was sent, so that one bad payload does not hide a page of
// good ones. But the request fails
//
//   - if it is strict: for the first permanent failure if there is one (a retry cannot help), else for the first;
//   - if no payload could be opened and every failure is transient: an error makes the caller try again, where an answer
//     would show it sealed payloads.
func (s *Server) decode(ctx context.Context, x *exchange, room func(int) bool, in []*commonpb.Payload) ([]*commonpb.Payload, reason) {
	out := make([]*commonpb.Payload, 0, len(in))
	opened, permanent, size := 0, false, 0
	for batch := range slices.Chunk(in, decodeBatch) {
		results := s.config.Codec.Decode(ctx, codec.DecodeOptions{Namespace: x.namespace, Room: room}, batch)
		if ctx.Err() != nil && x.r.Context().Err() != nil {
			return nil, interrupted(x.r.Context())
		}
		if len(results) != len(batch) {
			x.cause = errMiscount
			return nil, classInternal
		}
		for i, result := range results {
			switch {
			case result.Err != nil:
				x.undecoded++
				class := kms.ClassOf(result.Err)
				s.metrics.undecoded(class)
				if lasting := !passing(class); x.cause == nil || lasting && !permanent {
					x.cause, permanent = result.Err, lasting
				}
				out = append(out, batch[i]) // the input itself, not the codec's result
			case result.Payload == nil:
				x.cause = errMiscount
				return nil, classInternal
			default:
				if result.Sealed {
					opened++
				}
				out = append(out, result.Payload)
			}
		}
		if size += payloadjson.Size(out[len(out)-len(batch):]); int64(size) > s.config.Limits.ReplyBytes {
			return nil, replyTooLarge
		}
	}
	if x.undecoded > 0 && (x.strict || opened == 0 && !permanent) {
		return nil, reasonOf(kms.ClassOf(x.cause))
	}
	x.w.Header().Set(headerUndecoded, strconv.Itoa(x.undecoded))
	return out, answered
}

// passing reports whether a failure of this class may pass by itself.
func passing(class kms.Class) bool { return class.Transient() || class == kms.Canceled }

// interrupted is the reason for work that ended early: the caller left, the time was over, or the server stops.
func interrupted(request context.Context) reason {
	if request.Err() != nil && !errors.Is(context.Cause(request), errDraining) {
		return clientGone
	}
	return classCanceled
}

// answer writes payloads.
func (s *Server) answer(x *exchange, payloads []*commonpb.Payload) reason {
	body, err := payloadjson.Append(make([]byte, 0, payloadjson.Size(payloads)), payloads)
	if err != nil {
		x.cause = fmt.Errorf("httpapi: write answer: %w", err)
		return classInternal
	}
	if int64(len(body)) > s.config.Limits.ReplyBytes {
		return replyTooLarge
	}
	x.reply(http.StatusOK, applicationJSON, body)
	return answered
}
