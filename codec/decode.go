package codec

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// NamespaceError refuses an envelope that was sealed for another namespace.
type NamespaceError struct {
	// Known is the namespace in which the envelope was to be opened, Sealed the
	// one that it claims.
	Known, Sealed string
}

// Error implements error.
func (e *NamespaceError) Error() string {
	return fmt.Sprintf("codec: sealed for namespace %q, not for %q", e.Sealed, e.Known)
}

// Hint says which setting would allow it.
func (e *NamespaceError) Hint() string {
	return fmt.Sprintf("if namespace %q may read payloads of %q (Nexus, cross-namespace children), add %q to accept: in its rule", e.Known, e.Sealed, e.Sealed)
}

// decode opens what is sealed among payloads, wherever in the namespace they stand.
func (c *Codec) decode(ctx context.Context, facts policy.Facts, payloads []*commonpb.Payload) []Decoded {
	return c.decodeAt(ctx, facts, place{}, payloads)
}

// decodeAt opens what is sealed among payloads that stand at a place.
func (c *Codec) decodeAt(ctx context.Context, facts policy.Facts, at place, payloads []*commonpb.Payload) []Decoded {
	return c.open(ctx, facts, at, DecodeOptions{}, payloads)
}

// open opens what is sealed among payloads that stand at a place, with the Accept and
// the Room of opts.
func (c *Codec) open(ctx context.Context, facts policy.Facts, at place, opts DecodeOptions, payloads []*commonpb.Payload) []Decoded {
	s, ctx := c.use(ctx)
	defer s.leave()
	out := make([]Decoded, len(payloads))
	var items []envelope.Item
	var index []int
	for i, p := range payloads {
		out[i].Payload = p
		if !sealed.Claims(p) {
			out[i].Err = s.passThrough(facts.Namespace, p)
			continue
		}
		out[i].Sealed, out[i].KeyIDs = true, sealed.KeyIDs(p)
		if out[i].KeyIDs == nil {
			out[i].Err = &kms.Error{
				Class: kms.Corrupt, Op: "open payload", Detail: "its metadata does not name the keys in " + MetadataKeyIDs + " as the format demands",
				Advice: "the payload was altered or cut short; fetch it again from where it is stored",
			}
			continue
		}
		items = append(items, envelope.Item{
			Envelope: p.GetData(), KeyIDs: out[i].KeyIDs, Reader: facts.Namespace, Room: opts.Room,
			Accept: func(claims envelope.Claims) error {
				if err := s.accept(facts.Namespace, claims.Namespace); err != nil {
					return err
				}
				if err := s.bound(facts.Namespace, at, claims); err != nil || opts.Accept == nil {
					return err
				}
				return opts.Accept(claims)
			},
		})
		index = append(index, i)
	}
	if len(items) == 0 {
		return out
	}
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	for n, opened := range c.opener.Open(ctx, items...) {
		d := &out[index[n]]
		d.Namespace = opened.Claims.Namespace
		if opened.Err != nil {
			d.Err = &callError{op: "open payload", err: c.timedOut(ctx, "open payload", opened.Err)}
			continue
		}
		original := new(commonpb.Payload)
		err := proto.Unmarshal(opened.Plaintext, original)
		clear(opened.Plaintext)
		if err != nil {
			d.Err = &kms.Error{Class: kms.Corrupt, Op: "open payload", Detail: "what was sealed is not a Temporal payload", Advice: "it was sealed by something other than this codec"}
			continue
		}
		d.Payload = original
	}
	return out
}

// accept says whether an envelope that claims one namespace may be opened in
// another. Where none is known, the envelope's own decides.
func (s *snapshot) accept(known, sealed string) error {
	if known == "" || s.policy.Accepts(known, sealed) {
		return nil
	}
	e := &NamespaceError{Known: known, Sealed: sealed}
	return &kms.Error{Class: kms.Denied, Op: "open payload", Detail: e.Error(), Advice: e.Hint(), Err: e}
}
