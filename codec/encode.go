package codec

import (
	"context"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// encode seals payloads under the rule that facts choose.
func (c *Codec) encode(ctx context.Context, facts policy.Facts, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return c.encodeAt(ctx, facts, place{}, nil, payloads)
}

// encodeAt seals payloads for a place. room is DecodeOptions.Room, for those that are
// sealed already.
func (c *Codec) encodeAt(ctx context.Context, facts policy.Facts, at place, room func(int) bool, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if len(payloads) == 0 {
		return payloads, nil
	}
	if facts.Namespace == "" {
		return nil, &kms.Error{
			Op: "seal payload", Detail: "the namespace is not known",
			Advice: "use codec.NewPlugin, or pass the namespace to codec.NewDataConverter",
		}
	}
	s, ctx := c.use(ctx)
	defer s.leave()
	rule, err := s.policy.SealRule(facts)
	if err != nil {
		return nil, &kms.Error{Class: kms.Denied, Op: "seal payload", Detail: err.Error(), Advice: hold.HintOf(err), Err: err}
	}
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	out := make([]*commonpb.Payload, len(payloads))
	if err := c.keepSealed(ctx, facts, at, room, payloads, out); err != nil {
		return nil, &callError{op: "seal payload", err: c.timedOut(ctx, "seal payload", err)}
	}
	var todo []int
	var plaintexts [][]byte
	defer func() {
		for _, b := range plaintexts {
			clear(b)
		}
	}()
	for i, p := range payloads {
		if out[i] != nil {
			continue
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
		if err != nil {
			return nil, &kms.Error{Op: "seal payload", Detail: fmt.Sprintf("payload %d cannot be marshalled", i), Err: err}
		}
		todo, plaintexts = append(todo, i), append(plaintexts, b)
	}
	if len(todo) == 0 {
		return out, nil
	}
	claims, err := claimsFor(rule, facts)
	if err != nil {
		return nil, err
	}
	envelopes, err := s.sealers.seal(ctx, rule, claims, plaintexts)
	if err != nil {
		return nil, &callError{op: "seal payload", err: c.timedOut(ctx, "seal payload", err)}
	}
	for n, i := range todo {
		out[i] = sealed.New(envelopes[n].Envelope, envelopes[n].KeyIDs)
	}
	return out, nil
}

// keepSealed puts into out the payloads that are sealed already. Each is opened
// to prove it: what merely says so, holds more than the envelope, or was sealed
// for a namespace, a place or under a key that is not ours, is left to be sealed like
// any other bytes: its reader could not open it as it is. If the proof
// cannot be had now, that is an error: guessing either way could leak or could
// seal twice.
func (c *Codec) keepSealed(ctx context.Context, facts policy.Facts, at place, room func(int) bool, payloads, out []*commonpb.Payload) error {
	var claiming []*commonpb.Payload
	var index []int
	for i, p := range payloads {
		if p == nil {
			return &kms.Error{Op: "seal payload", Detail: fmt.Sprintf("payload %d is null", i), Advice: "pass a payload with metadata and data, or leave it out"}
		}
		if sealed.Claims(p) && sealed.Bare(p) {
			claiming, index = append(claiming, p), append(index, i)
		}
	}
	if len(claiming) == 0 {
		return nil
	}
	for n, d := range c.open(ctx, facts, at.certain(), DecodeOptions{Room: room}, claiming) {
		switch {
		case d.Err == nil:
			out[index[n]] = claiming[n]
		case notOurs(d.Err):
		default:
			return fmt.Errorf("tell whether payload %d is sealed already: %w", index[n], d.Err)
		}
	}
	return nil
}

func notOurs(err error) bool {
	_, foreign := errors.AsType[*NamespaceError](err)
	_, moved := errors.AsType[*BindError](err)
	return kms.ClassOf(err) == kms.Corrupt || errors.Is(err, envelope.ErrNotConfigured) || foreign || moved
}
